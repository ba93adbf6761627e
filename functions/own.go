package functions

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"time"

	"clerksync/clerk"
	"clerksync/inbox"
	"clerksync/store"

	"github.com/inngest/inngestgo"
)

// Function is a function of the app. Inngest tries it again when it returns an error. docs/your-own-function.md shows
// how to write one.
type Function struct {
	ID     string   // its identity in Inngest, such as "add-crm-contact": if it changes, Inngest has another function
	Name   string   // for Inngest's page; "" is the ID
	Events []string // that it runs on, such as "clerk/user.created"
	// Run does the work, in RunTimeout at the most. It may be called more than once for one event. A returned error is
	// kept by Inngest and in the dead letters: it should hold no personal data. What Run returns is shown on Inngest's
	// page.
	Run func(ctx context.Context, e Event) (any, error)
}

// Event is what a function is run with.
type Event struct {
	// MessageID is the same in every sending and retry of one message of Clerk (its svix-id): an idempotency key.
	MessageID string
	Name      string
	Data      json.RawMessage // as Clerk sent it; see User
	At        time.Time       // when it happened, or when Inngest got it
	RunID     string
	Attempt   int          // from 0
	Log       *slog.Logger // its lines carry the function, the run and the event

	id      inbox.EventID   // of this sending
	version string          // Inngest's, see inbox.Event.V
	last    json.RawMessage // what the step before returned; nil in the first
	payload clerk.Payload
	when    store.EventTime
}

// User reads the user that Data is about. Its error is not worth a retry, and Inngest makes none.
func (e Event) User() (clerk.User, error) { return clerk.ParseUser(clerk.Unwrap(e.Data).User) }

// NoRetry makes an error final: Inngest does not try again, and the event becomes a dead letter.
func NoRetry(err error) error { return inngestgo.NoRetryError(err) }

// events returns events for a function with this id.
func (f *Functions) events(id string, of []inngestgo.GenericEvent[raw], in inngestgo.InputCtx) []Event {
	var all []Event
	for _, g := range of {
		e := Event{
			Name: g.Name, Data: g.Data.RawMessage, At: time.UnixMilli(g.Timestamp),
			RunID: in.RunID, Attempt: in.Attempt, payload: clerk.Unwrap(g.Data.RawMessage), version: g.Version,
		}
		if g.ID != nil {
			e.id = inbox.ParseEventID(*g.ID)
		}
		e.MessageID = e.id.Message(id)
		e.when = when(g.Version, clerk.Millis(g.Timestamp), e.payload.Timestamp)
		e.Log = f.Log.With("function", id, "run_id", e.RunID, "event_id", e.id.String())
		all = append(all, e)
	}
	return all
}

// when tells Clerk's time of an event from its time of arrival. Clerk's is in the envelope, where the data holds one,
// and else it is the ts of an event that says so: our ingress does, and the transform in docs/inngest.md. Of all
// others, those too that have a Svix id, the ts may be when Inngest got them.
func when(version string, ts, envelope clerk.Millis) store.EventTime {
	switch {
	case envelope != 0:
		return store.EventTime{Clerk: min(ts, envelope)} // Clerk's specimens are from the future
	case version == inbox.ClerkTime:
		return store.EventTime{Clerk: ts}
	}
	return store.EventTime{Arrived: ts}
}

// replayPrefix begins the name of the event that replays a failed run of one function and of no other.
const replayPrefix = "clerksync/replay."

// own returns a function that works beside those that write rows: it has dead letters of its own, and a replay of one
// runs it alone. It does its work in a step of that name, if there is one; runs, if there are any, keep it from running
// again when an event is sent again.
func (f *Functions) own(fn Function, step string, runs *store.Runs) registered {
	replay := replayPrefix + fn.ID
	o := registered{Function: fn, step: step}
	o.Events = append(slices.Clone(fn.Events), replay)
	o.work = func(ctx context.Context, events []Event) (any, error) {
		e := events[0]
		if e.Name != replay && e.id.Replayed {
			return "skipped: the event is replayed for the user's row", nil
		}
		if f.foreign(e) {
			return nil, NoRetry(errForeign)
		}
		if runs != nil && e.Name != replay && e.id.Sends > 0 {
			if done, err := runs.Has(ctx, fn.ID, e.MessageID); err != nil {
				return nil, err
			} else if done {
				return "skipped: done when the event was sent before", nil
			}
		}
		res, err := fn.Run(ctx, e)
		if errors.Is(err, clerk.ErrNotUser) {
			err = NoRetry(err)
		}
		if err != nil {
			return nil, err
		}
		if runs != nil {
			// If it is not noted, that is no reason to do the work again.
			if err := runs.Add(context.WithoutCancel(ctx), fn.ID, e.MessageID); err != nil {
				e.Log.WarnContext(ctx, "could not note that the function is done", "error", err)
			}
		}
		if e.Name == replay {
			err = f.clear(ctx, e)
		}
		return res, err
	}
	o.failed = func(ctx context.Context, events []Event, why inbox.Failure) error {
		e := events[0]
		e.id, e.Name = e.id.Own(fn.ID), replay // the event's own row in the inbox is left alone
		return f.keep(ctx, e, why)
	}
	return o
}
