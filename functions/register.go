package functions

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"runtime/debug"
	"strings"
	"time"

	"clerksync/clerk"
	"clerksync/inbox"
	"clerksync/store"

	"github.com/inngest/inngestgo"
	"github.com/inngest/inngestgo/step"
)

// Function is an Inngest function, which Inngest tries again when it returns an error. docs/your-own-function.md shows
// how to add one.
type Function struct {
	ID     string   // its identity in Inngest, such as "add-crm-contact": if it changes, Inngest has another function
	Name   string   // for Inngest's page
	Events []string // that it runs on, such as "clerk/user.created"
	// Run does the work, in RunTimeout at the most. It may be called more than once for one event. A returned error is
	// kept by Inngest and in the dead letters: it should hold no personal data. What Run returns is shown on Inngest's
	// page.
	Run func(ctx context.Context, e Event) (any, error)

	concurrency *inngestgo.ConfigConcurrency
	batch       *inngestgo.ConfigBatchEvents     // of a function that writes rows
	slug        string                           // Inngest's id for it
	cron        string                           // when it runs without an event
	jitter      time.Duration                    // up to which it runs later than that, maxJitter at the most
	retries     *int                             // nil is retries
	more        func(json.RawMessage) bool       // tells by what a step has returned whether another follows; nil: none
	claims      bool                             // keeps by itself whom it has served
	row         func(Event) (store.Write, error) // what is to be written; nil of a function that writes no row
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
	when    store.When
}

// User reads the user that the event is about. Its error is not worth a retry, and Inngest makes none.
func (e Event) User() (clerk.User, error) { return clerk.ParseUser(e.payload.User) }

// RunTimeout bounds a call of Function.Run.
const RunTimeout = time.Minute

// NoRetry makes an error final: Inngest does not try again, and the event becomes a dead letter.
func NoRetry(err error) error { return inngestgo.NoRetryError(err) }

// ErrFunction is in the errors of Register that a wrong Function makes.
var ErrFunction = errors.New("a function cannot be registered")

// maxJitter is Inngest's limit since v1.18: a server refuses the whole app for one function that breaks it.
const maxJitter = 5 * time.Minute

// check finds what Inngest would only say, or not even that, when the functions are registered.
func check(all []Function) error {
	var errs []error
	seen := map[string]bool{MarkFailed: true}
	for _, fn := range all {
		wrong := func(what string) { errs = append(errs, fmt.Errorf("%w: %q %s", ErrFunction, fn.ID, what)) }
		if !regexp.MustCompile(`^[a-z0-9][a-z0-9-]*$`).MatchString(fn.ID) {
			wrong("is no id: use small letters, digits and -")
		}
		if inbox.Ambiguous(fn.ID) {
			wrong("is how the id of an event ends that is sent again: choose another")
		}
		if seen[fn.ID] {
			wrong("is the id of another function too: one of them would never run")
		}
		seen[fn.ID] = true
		if fn.cron == "" && strings.TrimSpace(strings.Join(fn.Events, "")) == "" {
			wrong("runs on no event: set Events")
		}
		if fn.jitter > maxJitter {
			wrong(fmt.Sprintf("has a jitter of %s, and Inngest takes %s at the most", fn.jitter, maxJitter))
		}
		if fn.Run == nil {
			wrong("does nothing: set Run")
		}
	}
	return errors.Join(errs...)
}

// replayPrefix begins the name of the event that replays a failed run of one function and of no other.
const replayPrefix = "clerksync/replay."

func (f *Functions) create(client inngestgo.Client, fn Function) error {
	var triggers inngestgo.MultipleTriggers
	for _, name := range fn.Events {
		triggers = append(triggers, inngestgo.EventTrigger(name, nil))
	}
	if fn.cron != "" {
		cron := inngestgo.CronTrigger(fn.cron)
		if fn.jitter > 0 {
			cron = inngestgo.CronTriggerWithJitter(fn.cron, fn.jitter)
		}
		triggers = append(triggers, cron)
	}
	if fn.row == nil && fn.cron == "" {
		triggers = append(triggers, inngestgo.EventTrigger(replayPrefix+fn.ID, nil))
	}
	fn.slug = client.AppID() + "-" + fn.ID
	name := fn.Name
	if name == "" {
		name = fn.ID
	}
	if fn.retries == nil {
		fn.retries = new(retries)
	}
	_, err := inngestgo.CreateFunction(client, inngestgo.FunctionOpts{
		ID: fn.ID, Name: name, Retries: fn.retries, Concurrency: fn.concurrency, BatchEvents: fn.batch,
	}, triggers, func(ctx context.Context, in inngestgo.Input[raw]) (any, error) {
		if fn.more == nil { // a step would be a request more: what fails is run again from the top either way
			return f.attempt(ctx, fn, in, nil)
		}
		var res json.RawMessage
		for n := 1; ; n++ {
			id := fn.ID
			if n > 1 {
				id += fmt.Sprint("-", n)
			}
			last, err := res, error(nil)
			if res, err = step.Run(ctx, id, func(ctx context.Context) (json.RawMessage, error) { return f.attempt(ctx, fn, in, last) }); err != nil {
				return nil, err
			}
			if !fn.more(res) {
				return res, nil
			}
		}
	})
	if err != nil {
		return fmt.Errorf("create function %s: %w", fn.ID, err)
	}
	return nil
}

// attempt runs a function once on its event, or on a batch of them; last is what the step before returned, if it has
// steps. The result is raw, or its keys would be sorted.
func (f *Functions) attempt(ctx context.Context, fn Function, in inngestgo.Input[raw], last json.RawMessage) (out json.RawMessage, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf(inAttempt+"%w", in.InputCtx.Attempt+1, err)
		}
	}()
	id := ""
	if in.Event.ID != nil {
		id = *in.Event.ID
	}
	err = f.safely(ctx, fn, in.InputCtx.RunID, id, func() (err error) {
		var res any
		if fn.batch != nil {
			res, err = f.callBatch(ctx, fn, in)
		} else {
			res, err = f.call(ctx, fn, in, last)
		}
		if err == nil {
			out, err = json.Marshal(res)
		}
		return err
	})
	return out, err
}

// safely makes an error of a panic, and logs where it was.
func (f *Functions) safely(ctx context.Context, fn Function, runID, eventID string, do func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			f.Log.ErrorContext(ctx, "the function panicked", "function", fn.ID, "run_id", runID, "event_id", eventID, "stack", string(debug.Stack()))
			err = fmt.Errorf("panic of type %T", r) // not its text, which may hold anything
		}
	}()
	return do()
}

var errForeign = errors.New("the event is of another Clerk instance than CLERK_INSTANCE_ID")

func (f *Functions) foreign(e Event) bool {
	return f.InstanceID != "" && e.payload.InstanceID != "" && e.payload.InstanceID != f.InstanceID
}

// call runs a function on an event and clears the event from the inbox if that is this function's to do.
func (f *Functions) call(ctx context.Context, fn Function, in inngestgo.Input[raw], last json.RawMessage) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, RunTimeout)
	defer cancel()
	e := event(in.Event, in.InputCtx)
	e.last = last
	e.Log = f.Log.With("function", fn.ID, "run_id", e.RunID, "event_id", e.id.String())
	replay := e.Name == replayPrefix+fn.ID
	if replay {
		e.MessageID = e.id.Message(fn.ID)
	}
	if fn.row == nil && !replay && e.id.Replayed {
		return "skipped: the event is replayed for the user's row", nil
	}
	if f.foreign(e) {
		return nil, NoRetry(errForeign)
	}
	once := f.Runs != nil && fn.row == nil && !fn.claims && fn.cron == ""
	if once && !replay && e.id.Sends > 0 {
		if done, err := f.Runs.Has(ctx, fn.ID, e.MessageID); err != nil {
			return nil, err
		} else if done {
			return "skipped: done when the event was sent before", nil
		}
	}
	res, err := fn.Run(ctx, e)
	if once && err == nil {
		if err := f.Runs.Add(context.WithoutCancel(ctx), fn.ID, e.MessageID); err != nil { // no reason to do the work again
			e.Log.WarnContext(ctx, "could not note that the function is done", "error", err)
		}
	}
	switch {
	case errors.Is(err, clerk.ErrNotUser):
		return nil, NoRetry(err)
	case err != nil:
		return nil, err
	case fn.row != nil || replay:
		err = f.written(ctx, e)
	}
	return res, err
}

func event(g inngestgo.GenericEvent[raw], in inngestgo.InputCtx) Event {
	e := Event{
		Name: g.Name, Data: g.Data.RawMessage, At: time.UnixMilli(g.Timestamp),
		RunID: in.RunID, Attempt: in.Attempt, payload: clerk.Unwrap(g.Data.RawMessage), version: g.Version,
	}
	if g.ID != nil {
		e.id = inbox.ParseEventID(*g.ID)
	}
	e.MessageID = e.id.Row
	e.when = when(g.Version, clerk.Millis(g.Timestamp), e.payload.Timestamp)
	return e
}
