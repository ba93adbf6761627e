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

	"github.com/inngest/inngestgo"
	"github.com/inngest/inngestgo/step"
)

// failed is the data of Inngest's event inngest/function.failed
// (https://www.inngest.com/docs/reference/system-events/inngest-function-failed).
type failed struct {
	FunctionID string `json:"function_id"`
	RunID      string `json:"run_id"`
	Error      struct {
		Message string `json:"message"`
	} `json:"error"`
	Event  inngestgo.GenericEvent[raw]   `json:"event"`
	Events []inngestgo.GenericEvent[raw] `json:"events"` // all those of a batch; Event is the first of them
}

// registerMarkFailed creates the function that keeps the events whose runs have failed for good.
func (f *Functions) registerMarkFailed(client inngestgo.Client, all []Function) error {
	var ours []string
	byID := map[string]Function{} // by Inngest's id
	for _, fn := range all {
		if fn.cron != "" { // no event: it comes again by itself
			continue
		}
		fn.slug = client.AppID() + "-" + fn.ID
		ours = append(ours, fmt.Sprintf("event.data.function_id == '%s'", fn.slug))
		byID[fn.slug] = fn
	}
	_, err := inngestgo.CreateFunction(client, inngestgo.FunctionOpts{
		ID:      MarkFailed,
		Name:    "Mark an event as failed",
		Retries: new(retries),
	}, inngestgo.EventTrigger("inngest/function.failed", new(strings.Join(ours, " || "))),
		func(ctx context.Context, in inngestgo.Input[failed]) (any, error) {
			return step.Run(ctx, "mark-failed", func(ctx context.Context) (string, error) {
				d := in.Event.Data
				attempts, message := readAttempts(d.Error.Message)
				why := inbox.Failure{Function: d.FunctionID, RunID: d.RunID, Error: message, Attempts: attempts}
				events, fn := d.Events, byID[d.FunctionID]
				if message == errBatchTooLarge.Error() && fn.row != nil && len(events) > 0 { // no attempt has had them
					_, err := f.callBatch(ctx, fn, inngestgo.Input[raw]{Events: events, InputCtx: in.InputCtx})
					return fmt.Sprint("wrote, or kept, ", len(events)), err
				}
				if len(events) == 0 {
					events = append(events, d.Event)
				}
				var errs []error
				for _, g := range events {
					errs = append(errs, f.keep(ctx, fn, event(g, inngestgo.InputCtx{}), why))
				}
				return fmt.Sprint("looked at ", len(events)), errors.Join(errs...)
			})
		})
	if err != nil {
		return fmt.Errorf("create function %s: %w", MarkFailed, err)
	}
	return nil
}

// keep makes an event whose run has failed for good a dead letter, unless its work is done: an event that writes a
// user's row and is not in the inbox has been cleared by another sending of it, or came by Inngest's own integration,
// beside a webhook or without one.
func (f *Functions) keep(ctx context.Context, fn Function, e Event, why inbox.Failure) error {
	if fn.row != nil {
		if there, err := f.Inbox.FailPending(ctx, e.id.String(), why); there || err != nil {
			return err
		}
		if undone, err := f.undone(ctx, fn, e); !undone || err != nil {
			return err
		}
	}
	data, err := clerk.WithoutSecrets(e.Data, false) // our ingress has cut it already, the integration has not
	if err != nil {
		data = json.RawMessage("null")
		why.Error += "; its data is not kept, because secrets cannot be cut out of it: " + err.Error()
	}
	kept := inbox.Event{ID: e.id.String(), Name: e.Name, Data: data, TS: e.At.UnixMilli(), V: e.version}
	if fn.row == nil {
		kept = ownDeadLetter(kept, fn.ID)
	}
	return f.Inbox.Fail(ctx, kept, why)
}

// undone tells whether an event would still write something. What nobody can read might.
func (f *Functions) undone(ctx context.Context, fn Function, e Event) (bool, error) {
	w, err := fn.row(e)
	if err != nil || f.foreign(e) {
		return true, nil
	}
	if !w.Deleted {
		r := f.Users.Write(ctx, []store.Write{w}, store.DryRun)[0]
		return r.Newer, r.Err
	}
	if dead, err := f.Users.IsDeleted(ctx, w.User.ID); !dead || err != nil {
		return true, err
	}
	_, err = f.Users.Get(ctx, w.User.ID)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return true, err
}

// ownDeadLetter is the dead letter of a function that writes no row. It leaves the event's own row in the inbox alone,
// and a replay of it runs that function and no other.
func ownDeadLetter(e inbox.Event, fnID string) inbox.Event {
	e.ID, e.Name = inbox.ParseEventID(e.ID).Own(fnID).String(), replayPrefix+fnID
	return e
}

// inAttempt begins the errors of our functions, because Inngest does not tell how often a failed run was tried.
const inAttempt = "in attempt %d: "

// readAttempts takes an error of a failed run apart. One that does not begin so never reached our code, or ended it:
// such a run has used up all its attempts.
func readAttempts(message string) (attempts int, rest string) {
	rest = strings.TrimPrefix(message, "unhandled step error: ") // the SDK's, where a step has failed
	if _, err := fmt.Sscanf(rest, inAttempt, &attempts); err != nil {
		return retries + 1, rest
	}
	_, rest, _ = strings.Cut(rest, ": ")
	return attempts, rest
}
