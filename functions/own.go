package functions

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"time"

	"clerksync/clerk"
	"clerksync/inbox"
	"clerksync/store"

	"github.com/inngest/inngestgo"
)

// Function is one of the app's own functions. Inngest retries it when it returns an error. docs/your-own-function.md
// shows how to write one.
type Function struct {
	ID     string   // such as "add-crm-contact"; for Inngest, a new ID is a new function
	Name   string   // for Inngest's page; "" means the ID
	Events []string // the events on which it runs, such as "clerk/user.created"
	// Run does the work. It has RunTimeout for it, and may be called more than once for one event. Inngest shows its
	// result and keeps its errors, and so do the dead letters: neither should contain personal data.
	Run func(ctx context.Context, e Event) (any, error)
}

// Event is the event on which a function runs.
type Event struct {
	// MessageID is Clerk's svix-id. It stays the same when the event is sent again and when the run is retried, so it
	// can serve as an idempotency key.
	MessageID string
	Name      string
	Data      json.RawMessage // as Clerk sent it; see User
	At        time.Time       // when it happened, or when Inngest received it
	RunID     string
	Attempt   int          // counts from 0
	Log       *slog.Logger // adds the ids of the function, the run and the event to each line

	id      inbox.EventID   // of this sending
	version string          // Inngest's, see inbox.Event.V
	last    json.RawMessage // what the step before returned; nil in the first
	payload clerk.Payload
	when    store.EventTime
}

// User decodes the user from Data. If Run returns its error, Inngest does not retry.
func (e Event) User() (clerk.User, error) { return clerk.ParseUser(clerk.Unwrap(e.Data).User) }

// NoRetry marks an error as final: Inngest does not retry, and the event becomes a dead letter.
func NoRetry(err error) error { return inngestgo.NoRetryError(err) }

// events converts Inngest's events for the function with this id.
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

// when distinguishes the time that Clerk gave an event from the time of its arrival. Clerk's time is in the envelope,
// if the data contains one. Otherwise it is the ts of an event whose version says so, as our ingress and the transform
// in docs/inngest.md make them. The ts of any other event, even of one with a Svix id, may be when Inngest received it.
func when(version string, ts, envelope clerk.Millis) store.EventTime {
	switch {
	case envelope != 0:
		return store.EventTime{Clerk: min(ts, envelope)} // Clerk's specimens are from the future
	case version == inbox.ClerkTime:
		return store.EventTime{Clerk: ts}
	}
	return store.EventTime{Arrived: ts}
}

// replayPrefix begins the name of an event that replays a failed run of one function only.
const replayPrefix = "clerksync/replay."

// MessageID returns the svix-id of an event that is sent.
func MessageID(e inbox.Event) string {
	return inbox.ParseEventID(e.ID).Message(strings.TrimPrefix(e.Name, replayPrefix))
}

// own returns a function that writes no row. It has dead letters of its own, whose replay runs this function only. If
// step is not "", the work is done in a step with that name. If runs is not nil, the function does not run again when
// an event for which it has succeeded is sent again.
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
			// The work is done, so an error here must not repeat it.
			if err := runs.Add(context.WithoutCancel(ctx), fn.ID, e.MessageID); err != nil {
				e.Log.WarnContext(ctx, "could not note that the function is done", "error", err)
			}
		}
		if e.Name == replay {
			_, err = f.clear(ctx, e)
		}
		return res, err
	}
	o.failed = func(ctx context.Context, e Event, why inbox.Failure) error {
		e.id, e.Name = e.id.Own(fn.ID), replay // a row of its own, beside the event's
		if gone, err := f.gone(ctx, e); err != nil {
			return err
		} else if gone {
			e.Log.WarnContext(ctx, "failed for good; its user is deleted, so no dead letter is kept")
			_, err := f.Inbox.Done(ctx, e.id.String())
			return err
		}
		return f.keep(ctx, e, why)
	}
	return o
}

// gone tells whether the user in an event was deleted since: then its data must not be kept for a replay, which would
// be about somebody who has gone. A deletion has no data, and its work is still to be done.
func (f *Functions) gone(ctx context.Context, e Event) (bool, error) {
	u, _ := e.User() // with an error it has its ID, if there is one
	if _, deletion := clerk.IsOf(e.Data, u.ID); deletion || u.ID == "" {
		return false, nil
	}
	return f.Users.IsDeleted(ctx, u.ID)
}
