// Package functions holds the Inngest functions: when they run, and which errors are worth a retry; and the
// registration that an app's own functions use too. What is done to rows is in store, to mails in mail.
package functions

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"clerksync/inbox"
	"clerksync/store"

	"github.com/inngest/inngestgo"
	"github.com/inngest/inngestgo/pkg/checkpoint"
	"github.com/inngest/inngestgo/step"
)

// RunTimeout bounds the work of one call by Inngest.
const RunTimeout = time.Minute

// retries is the most that Inngest allows: with its back-off a database may be down for a day.
const retries = 20

// Functions is what the functions work with, and which there are beside those that write rows.
type Functions struct {
	Users *store.Users
	Inbox *inbox.Inbox
	// Runs, if set, keeps a function of the app from running again when an event is sent again for which it has done
	// its work.
	Runs *store.Runs
	// InstanceID is the Clerk instance whose events are taken; "" takes all. Only an event that holds the whole
	// envelope names its instance; the webhook has checked the others.
	InstanceID string
	Log        *slog.Logger
	// Seen, if set, is told when an event about a user happened: one that Inngest's own integration brought is a
	// webhook too.
	Seen func(at time.Time)
	// BatchSize over 1 makes the functions that write rows take up to so many events at once, and wait BatchTimeout for
	// them.
	BatchSize    int
	BatchTimeout time.Duration
	Welcome      *Welcome // sends the welcome mail; nil sends none
	Crons        []Cron
	Own          []Function // of the app

	app        string // Inngest's id of the app
	checkpoint bool
}

// registered is a function as Inngest gets it.
type registered struct {
	inngestgo.FunctionOpts
	triggers inngestgo.MultipleTriggers
	run      func(ctx context.Context, in inngestgo.Input[raw]) (any, error)
	// failed keeps what has to be kept of the events of a run that failed for good. It is nil of a function that comes
	// again by itself.
	failed func(ctx context.Context, events []Event, why inbox.Failure) error
}

// raw is the data of an event as it came: it unmarshals from anything, so that the SDK never refuses an event before a
// function can say what is wrong with it.
type raw struct{ json.RawMessage }

// Register creates the functions in client, whose handler then serves them. checkpoint says that the Inngest server has
// the API for it: then a run with a named step is one request, else two. The error says what is wrong with a function of
// the app.
func (f *Functions) Register(client inngestgo.Client, checkpoint bool) error {
	g := *f // f stays as it is for another client
	g.app, g.checkpoint = client.AppID(), checkpoint
	all := g.all()
	if err := g.check(all); err != nil {
		return err
	}
	for _, fn := range all {
		if _, err := inngestgo.CreateFunction(client, fn.FunctionOpts, fn.triggers, fn.run); err != nil {
			return fmt.Errorf("create function %s: %w", fn.ID, err)
		}
	}
	return nil
}

// IDs returns the ids of all functions that Register creates.
func (f *Functions) IDs() (ids []string) {
	for _, fn := range f.all() {
		ids = append(ids, fn.ID)
	}
	return ids
}

func (f *Functions) all() []registered {
	var all []registered
	for _, r := range rowFunctions() {
		all = append(all, f.row(r))
	}
	if f.Welcome != nil {
		all = append(all, f.welcome())
	}
	for _, c := range f.Crons {
		all = append(all, f.cron(c))
	}
	for _, fn := range f.Own {
		all = append(all, f.own(fn, "", f.Runs))
	}
	return append(all, f.markFailed(all))
}

// check finds what Inngest would only say, or not even that, when the functions are registered.
func (f *Functions) check(all []registered) error {
	var errs []error
	wrong := func(id, what string) {
		errs = append(errs, fmt.Errorf("a function cannot be registered: %q %s", id, what))
	}
	isID := regexp.MustCompile(`^[a-z0-9][a-z0-9-]*$`)
	var seen []string
	for _, fn := range all {
		if !isID.MatchString(fn.ID) {
			wrong(fn.ID, "is no id: use small letters, digits and -")
		}
		if inbox.Ambiguous(fn.ID) {
			wrong(fn.ID, "is how the id of an event ends that is sent again: choose another")
		}
		if slices.Contains(seen, fn.ID) {
			wrong(fn.ID, "is the id of another function too: one of them would never run")
		}
		seen = append(seen, fn.ID)
	}
	for _, fn := range f.Own {
		if strings.TrimSpace(strings.Join(fn.Events, "")) == "" {
			wrong(fn.ID, "runs on no event: set Events")
		}
		if fn.Run == nil {
			wrong(fn.ID, "does nothing: set Run")
		}
	}
	return errors.Join(errs...)
}

func options(id, name string) inngestgo.FunctionOpts {
	return inngestgo.FunctionOpts{ID: id, Name: cmp.Or(name, id), Retries: new(retries)}
}

func on(events ...string) (triggers inngestgo.MultipleTriggers) {
	for _, name := range events {
		triggers = append(triggers, inngestgo.EventTrigger(name, nil))
	}
	return triggers
}

// checkpointed is the setting of a function with one named step. A function with many must not have it: the SDK would
// run them all in one request, which lasts longer than a request may.
func (f *Functions) checkpointed() *checkpoint.Config {
	if f.checkpoint {
		return checkpoint.ConfigSafe
	}
	return nil
}

// body returns what the SDK calls: it does the work on the event, or on all those of a batch, in a step of this name;
// "" makes no step.
func (f *Functions) body(
	fn registered, name string, work func(context.Context, []Event) (any, error),
) func(context.Context, inngestgo.Input[raw]) (any, error) {
	return func(ctx context.Context, in inngestgo.Input[raw]) (any, error) {
		if fn.BatchEvents == nil {
			in.Events = []inngestgo.GenericEvent[raw]{in.Event}
		}
		var events []Event
		for _, g := range in.Events {
			events = append(events, newEvent(g, in.InputCtx))
		}
		attempt := func(ctx context.Context) (json.RawMessage, error) { return f.attempt(ctx, fn.ID, events, work) }
		if name == "" {
			return attempt(ctx)
		}
		return inStep(ctx, name, attempt)
	}
}

// inStep does work in a named step, which Inngest tries again if it fails. The error is that of the last attempt.
func inStep(
	ctx context.Context, name string, work func(context.Context) (json.RawMessage, error),
) (json.RawMessage, error) {
	res, err := step.Run(ctx, name, work)
	if err != nil { // not of the SDK's own type, before which it would put words
		return nil, NoRetry(errors.New(err.Error()))
	}
	return res, nil
}

// attempt does work once, within RunTimeout. The result is raw, or its keys would be sorted in a step.
func (f *Functions) attempt(
	ctx context.Context, id string, events []Event, work func(context.Context, []Event) (any, error),
) (out json.RawMessage, err error) {
	ctx, cancel := context.WithTimeout(ctx, RunTimeout)
	defer cancel()
	err = f.safely(ctx, id, events, func() error {
		res, err := work(ctx, events)
		if err == nil {
			out, err = json.Marshal(res)
		}
		return err
	})
	return out, err
}

// safely makes an error of a panic, and logs where it was.
func (f *Functions) safely(ctx context.Context, id string, events []Event, do func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			var e Event
			if len(events) > 0 {
				e = events[0]
			}
			f.Log.ErrorContext(ctx, "the function panicked",
				"function", id, "run_id", e.RunID, "event_id", e.id.String(), "stack", string(debug.Stack()))
			err = fmt.Errorf("panic of type %T", r) // not its text, which may hold anything
		}
	}()
	return do()
}
