// Package functions holds the Inngest functions: when they run, their one step, and which errors are worth a retry. What they do
// to rows is in store.
package functions

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"clerksync/clerk"
	"clerksync/inbox"
	"clerksync/store"

	"github.com/inngest/inngest/pkg/enums"
	"github.com/inngest/inngestgo"
	"github.com/inngest/inngestgo/step"
)

// The ids of the functions, which are their identity in Inngest.
const (
	SyncUser   = "sync-user-from-clerk"
	UpdateUser = "update-user-from-clerk"
	DeleteUser = "delete-user-with-clerk"
	MarkFailed = "mark-failed-event"
)

// retries is the most that Inngest allows: with its back-off a database may be down for a day.
const retries = 20

// Users writes rows: a store.Users.
type Users interface {
	Apply(ctx context.Context, u clerk.User, at store.When) (store.Outcome, error)
	Delete(ctx context.Context, id string) (store.Outcome, error)
}

// Inbox forgets events whose rows are written, and keeps those that failed: an inbox.Inbox.
type Inbox interface {
	Done(ctx context.Context, eventID string) error
	Fail(ctx context.Context, e inbox.Event, f inbox.Failure) error
}

// Functions is what the functions work with.
type Functions struct {
	Users Users
	Inbox Inbox
	// InstanceID is the Clerk instance whose events are taken; "" takes all. Only an event that holds the whole envelope names
	// its instance; the webhook has checked the others.
	InstanceID string
}

// Result is what a run returns, for Inngest's page.
type Result struct {
	UserID  string        `json:"user_id"`
	Outcome store.Outcome `json:"outcome"`
}

// Handles tells whether one of the functions runs on events of this name, and so clears them from the inbox.
func Handles(eventName string) bool {
	switch eventName {
	case "clerk/" + clerk.UserCreated, "clerk/" + clerk.UserUpdated, "clerk/" + clerk.UserDeleted:
		return true
	}
	return false
}

// Register creates the functions in client, whose handler then serves them.
func (f *Functions) Register(client inngestgo.Client) error {
	for _, fn := range []struct {
		id, name, event, step string
		work                  func(context.Context, clerk.Payload, store.When) (Result, error)
	}{
		{SyncUser, "Sync a new user from Clerk", "clerk/" + clerk.UserCreated, "write-user", f.write},
		{UpdateUser, "Update a user from Clerk", "clerk/" + clerk.UserUpdated, "write-user", f.write},
		{DeleteUser, "Delete a user with Clerk", "clerk/" + clerk.UserDeleted, "delete-user", f.delete},
	} {
		_, err := inngestgo.CreateFunction(client, inngestgo.FunctionOpts{
			ID:      fn.id,
			Name:    fn.name,
			Retries: new(retries),
			// One run per user, of the three functions together. It spares lost races; rows are right without it. Not every
			// server heeds it, and none keeps order.
			Concurrency: &inngestgo.ConfigConcurrency{
				Step: []inngestgo.ConfigStepConcurrency{{Limit: 1, Key: new("event.data.id"), Scope: enums.ConcurrencyScopeEnv}},
			},
		}, inngestgo.EventTrigger(fn.event, nil), func(ctx context.Context, in inngestgo.Input[raw]) (any, error) {
			return step.Run(ctx, fn.step, func(ctx context.Context) (Result, error) {
				res, err := f.run(ctx, in.Event, fn.work)
				if err != nil {
					err = fmt.Errorf(inAttempt+"%w", in.InputCtx.Attempt+1, err)
				}
				return res, err
			})
		})
		if err != nil {
			return fmt.Errorf("create function %s: %w", fn.id, err)
		}
	}
	return f.registerMarkFailed(client)
}

// run is the one step of the functions: it does the work on the event's user and clears the event from the inbox.
func (f *Functions) run(ctx context.Context, e inngestgo.GenericEvent[raw],
	work func(context.Context, clerk.Payload, store.When) (Result, error),
) (Result, error) {
	p := clerk.Unwrap(e.Data.RawMessage)
	if f.InstanceID != "" && p.InstanceID != "" && p.InstanceID != f.InstanceID {
		return Result{}, inngestgo.NoRetryError(errors.New("the event is of another Clerk instance than CLERK_INSTANCE_ID"))
	}
	res, err := work(ctx, p, when(e.ID, clerk.Millis(e.Timestamp), p.Timestamp))
	switch {
	case errors.Is(err, clerk.ErrNotUser):
		return Result{}, inngestgo.NoRetryError(err)
	case err != nil:
		return Result{}, err
	case e.ID == nil:
		return res, nil
	}
	return res, f.Inbox.Done(ctx, *e.ID)
}

// when tells Clerk's time of an event from its time of arrival. Clerk's is in the envelope, where the data holds one, and else it
// is the ts of an event whose id is a Svix id ("msg_…"): our ingress sends both, and so does the README's transform. The default
// transform of Inngest's integration sends neither: its ts is when Inngest got the event.
func when(id *string, ts, envelope clerk.Millis) store.When {
	switch {
	case envelope != 0:
		return store.When{Clerk: min(ts, envelope)} // Clerk's specimens are from the future
	case id != nil && strings.HasPrefix(*id, "msg_"):
		return store.When{Clerk: ts}
	}
	return store.When{Arrived: ts}
}

// raw is the data of an event as it came: it unmarshals from anything, so that the SDK never refuses an event before a function
// can say what is wrong with it.
type raw struct{ json.RawMessage }

func (f *Functions) write(ctx context.Context, p clerk.Payload, at store.When) (Result, error) {
	u, err := clerk.ParseUser(p.User)
	if err != nil {
		return Result{}, err
	}
	o, err := f.Users.Apply(ctx, u, at)
	return Result{UserID: u.ID, Outcome: o}, err
}

func (f *Functions) delete(ctx context.Context, p clerk.Payload, _ store.When) (Result, error) {
	id, err := clerk.ParseDeleted(p.User)
	if err != nil {
		return Result{}, err
	}
	o, err := f.Users.Delete(ctx, id)
	return Result{UserID: id, Outcome: o}, err
}
