// Package functions holds the Inngest functions: when they run, and which errors are worth a retry; and the
// registration that an app's own functions use too. What is done to rows is in store, to mails in mail.
package functions

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"time"

	"clerksync/clerk"
	"clerksync/inbox"
	"clerksync/store"

	"github.com/inngest/inngest/pkg/enums"
	"github.com/inngest/inngestgo"
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
	Write(ctx context.Context, writes []store.Write, mode store.Mode) []store.Result
	IsDeleted(ctx context.Context, id string) (bool, error)
	Get(ctx context.Context, id string) (store.Row, error)
}

// Inbox forgets events whose rows are written, and keeps those that failed: an inbox.Inbox.
type Inbox interface {
	Done(ctx context.Context, eventID string) error
	FailPending(ctx context.Context, eventID string, f inbox.Failure) (bool, error)
	Fail(ctx context.Context, e inbox.Event, f inbox.Failure) error
}

// Functions is what the functions work with.
type Functions struct {
	Users Users
	Inbox Inbox
	// InstanceID is the Clerk instance whose events are taken; "" takes all. Only an event that holds the whole
	// envelope names its instance; the webhook has checked the others.
	InstanceID string
	Log        *slog.Logger
	// Runs, if set, keeps a function of the app from running again when an event is sent again for which it has done
	// its work.
	Runs interface { // a store.Runs
		Has(ctx context.Context, function, messageID string) (bool, error)
		Add(ctx context.Context, function, messageID string) error
	}
	// Seen, if set, is told when an event about a user happened: one that Inngest's own integration brought is a
	// webhook too.
	Seen func(at time.Time)
	// BatchSize over 1 makes the functions that write rows take up to so many events at once, and wait BatchTimeout for
	// them.
	BatchSize    int
	BatchTimeout time.Duration
}

// Result is what a run returns, for Inngest's page.
type Result struct {
	UserID  string        `json:"user_id"`
	Outcome store.Outcome `json:"outcome"`
}

// Handles tells whether one of the functions clears events of this name from the inbox.
func Handles(eventName string) bool {
	switch eventName {
	case "clerk/" + clerk.UserCreated, "clerk/" + clerk.UserUpdated, "clerk/" + clerk.UserDeleted:
		return true
	}
	return strings.HasPrefix(eventName, replayPrefix)
}

// Register creates the functions that write rows, and others beside them, in client, whose handler then serves them.
func (f *Functions) Register(client inngestgo.Client, others ...Function) error {
	all := f.all(others)
	if err := check(all); err != nil {
		return err
	}
	for _, fn := range all {
		switch {
		case fn.row != nil && f.BatchSize > 1: // no concurrency limit by user: a batch has many
			fn.batch = &inngestgo.ConfigBatchEvents{MaxSize: f.BatchSize, Timeout: f.BatchTimeout}
		case fn.row != nil:
			// One run per user, of the three functions together. It spares lost races; rows are right without it. Not
			// every server heeds it, and none keeps order.
			fn.concurrency = &inngestgo.ConfigConcurrency{
				Step: []inngestgo.ConfigStepConcurrency{{Limit: 1, Key: new("event.data.id"), Scope: enums.ConcurrencyScopeEnv}},
			}
		}
		if err := f.create(client, fn); err != nil {
			return err
		}
	}
	return f.registerMarkFailed(client, all)
}

func (f *Functions) all(others []Function) []Function {
	return append([]Function{
		{ID: SyncUser, Name: "Sync a new user from Clerk", Events: []string{"clerk/" + clerk.UserCreated}, Run: f.write(live), row: live},
		{ID: UpdateUser, Name: "Update a user from Clerk", Events: []string{"clerk/" + clerk.UserUpdated}, Run: f.write(live), row: live},
		{ID: DeleteUser, Name: "Delete a user with Clerk", Events: []string{"clerk/" + clerk.UserDeleted}, Run: f.write(deleted), row: deleted},
	}, others...)
}

// IDs returns the ids of all functions that Register creates.
func IDs(others ...Function) []string {
	ids := []string{MarkFailed}
	for _, fn := range (&Functions{}).all(others) {
		ids = append(ids, fn.ID)
	}
	return ids
}

// when tells Clerk's time of an event from its time of arrival. Clerk's is in the envelope, where the data holds one,
// and else it is the ts of an event that says so: our ingress does, and the transform in docs/inngest.md. Of all
// others, those too that have a Svix id, the ts may be when Inngest got them.
func when(version string, ts, envelope clerk.Millis) store.When {
	switch {
	case envelope != 0:
		return store.When{Clerk: min(ts, envelope)} // Clerk's specimens are from the future
	case version == inbox.ClerkTime:
		return store.When{Clerk: ts}
	}
	return store.When{Arrived: ts}
}

// raw is the data of an event as it came: it unmarshals from anything, so that the SDK never refuses an event before a
// function can say what is wrong with it.
type raw struct{ json.RawMessage }

// live reads what an event says of a user.
func live(e Event) (store.Write, error) {
	u, err := e.User()
	return store.Write{User: u, When: e.when}, err
}

// deleted reads who is deleted.
func deleted(e Event) (store.Write, error) {
	id, err := clerk.ParseDeleted(e.payload.User)
	return store.Write{User: clerk.User{ID: id}, Deleted: true}, err
}

// write returns what a function does that writes the user's row, or removes it.
func (f *Functions) write(read func(Event) (store.Write, error)) func(context.Context, Event) (any, error) {
	return func(ctx context.Context, e Event) (any, error) {
		w, err := read(e)
		if err != nil {
			return nil, err
		}
		r := f.Users.Write(ctx, []store.Write{w}, store.All)[0]
		return Result{UserID: w.User.ID, Outcome: r.Outcome}, r.Err
	}
}
