// Package functions holds the Inngest functions: when they run, and which errors are retried. It also registers the
// app's own functions. How rows are written is in package store, and how mails are sent is in package mail.
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
	checkpoints "github.com/inngest/inngestgo/pkg/checkpoint"
	"github.com/inngest/inngestgo/step"
)

// RunTimeout limits the work that a function does in one call by Inngest.
const RunTimeout = time.Minute

// retries is the maximum that Inngest allows. With its back-off, a function survives a database that is down for a day.
const retries = 20

// Functions has what the functions work with, and lists the functions besides those that write rows.
type Functions struct {
	Users *store.Users
	Inbox *inbox.Inbox
	// Runs, if set, remembers which of the app's functions have succeeded for which event, so that they do not run
	// again when the event is sent again.
	Runs *store.Runs
	// InstanceID is the Clerk instance whose events are accepted; "" accepts all. Only events that contain Clerk's
	// whole envelope name their instance; the webhook has checked the others.
	InstanceID string
	// ForwardPrivateMetadata keeps private_metadata in dead letters too, as it is kept in the events.
	ForwardPrivateMetadata bool
	Log                    *slog.Logger
	// Seen, if set, is called with the time of each event whose work is done. Events from Inngest's own Clerk
	// integration are webhooks too, which only the functions see.
	Seen func(at time.Time)
	// Wrote, if set, is called with what became of each event that a function got, each time that it got it. It must
	// not block.
	Wrote func(context.Context, Wrote)
	// Trace, if set, is called before a function works on events, with the function's id. The work, and Wrote, get the
	// context that it returns. done is called after the work.
	Trace func(ctx context.Context, function string, events []Event) (_ context.Context, done func(error))
	// If BatchSize is over 1, the functions that write rows take up to that many events at once, and Inngest waits up
	// to BatchTimeout for them.
	BatchSize    int
	BatchTimeout time.Duration
	Welcome      *Welcome // sends the welcome mail; nil sends none
	Crons        []Cron
	Own          []Function // of the app

	app string // Inngest's id of the app
}

// registered is a function as Inngest gets it.
type registered struct {
	Function            // without its Run
	filter      *string // a CEL expression: on which of its events it runs; nil means all
	schedule    string  // cron expression
	retries     int     // 0 means retries
	step        string  // the step in which the work is done; "" means no step
	batchEvents *inngestgo.ConfigBatchEvents
	concurrency *inngestgo.ConfigConcurrency
	// work does the work for an event, or for all events of a batch. more says, from the result, whether work has to be
	// done again in another step; nil means no.
	work func(ctx context.Context, events []Event) (any, error)
	more func(result json.RawMessage) bool
	// failed keeps an event of a run that has failed for good, if that is needed. It is nil if the function will run
	// again without the event.
	failed func(ctx context.Context, e Event, why inbox.Failure) error
}

// raw is the data of an event as it came. Any JSON can be unmarshalled into it, so the SDK does not refuse an event
// before a function can say what is wrong with it.
type raw struct{ json.RawMessage }

// Register creates the functions in client, whose handler then serves them. checkpoint says whether the Inngest server
// has the checkpoint API: with it, a run with a named step takes one request, and without it two. The error says what
// is wrong with one of the app's functions.
func (f *Functions) Register(client inngestgo.Client, checkpoint bool) error {
	g := *f // f stays as it is for another client
	g.app = client.AppID()
	if err := g.check(); err != nil {
		return err
	}
	for _, fn := range g.all() {
		o := inngestgo.FunctionOpts{
			ID: fn.ID, Name: cmp.Or(fn.Name, fn.ID), Retries: new(cmp.Or(fn.retries, retries)),
			BatchEvents: fn.batchEvents, Concurrency: fn.concurrency,
		}
		// With checkpoints the SDK runs all steps of a run in one request. Many steps would take longer than a request
		// may.
		if checkpoint && fn.step != "" && fn.more == nil {
			o.Checkpoint = checkpoints.ConfigSafe
		}
		var triggers inngestgo.MultipleTriggers
		for _, name := range fn.Events {
			triggers = append(triggers, inngestgo.EventTrigger(name, fn.filter))
		}
		if fn.schedule != "" {
			triggers = append(triggers, inngestgo.CronTrigger(fn.schedule))
		}
		if _, err := inngestgo.CreateFunction(client, o, triggers, g.run(fn)); err != nil {
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
		all = append(all, c.fn)
	}
	for _, fn := range f.Own {
		all = append(all, f.own(fn, "", f.Runs))
	}
	return append(all, f.markFailed(all))
}

// check finds mistakes in the app's functions that Inngest reports later, when they are registered, or not at all.
func (f *Functions) check() error {
	var errs []error
	isID := regexp.MustCompile(`^[a-z0-9][a-z0-9-]*$`)
	isBlank := func(event string) bool { return strings.TrimSpace(event) == "" }
	taken := (&Functions{Welcome: f.Welcome, Crons: f.Crons}).IDs()
	for _, fn := range f.Own {
		for _, c := range []struct {
			wrong bool
			what  string
		}{
			{!isID.MatchString(fn.ID), "is no id: use small letters, digits and -"},
			{inbox.Ambiguous(fn.ID), "is how the id of an event ends that is sent again: choose another"},
			{slices.Contains(taken, fn.ID), "is the id of another function too: one of them would never run"},
			{len(fn.Events) == 0, "runs on no event: set Events"},
			{
				slices.ContainsFunc(fn.Events, isBlank),
				"runs on an event without a name: Inngest would register no function",
			},
			{fn.Run == nil, "does nothing: set Run"},
		} {
			if c.wrong {
				errs = append(errs, fmt.Errorf("a function cannot be registered: %q %s", fn.ID, c.what))
			}
		}
		taken = append(taken, fn.ID)
	}
	return errors.Join(errs...)
}

// run returns the function that the SDK calls.
func (f *Functions) run(fn registered) func(context.Context, inngestgo.Input[raw]) (any, error) {
	return func(ctx context.Context, in inngestgo.Input[raw]) (any, error) {
		if fn.batchEvents == nil {
			in.Events = []inngestgo.GenericEvent[raw]{in.Event}
		}
		events := f.events(fn.ID, in.Events, in.InputCtx)
		attempt := func(ctx context.Context) (json.RawMessage, error) { return f.attempt(ctx, fn, events) }
		if fn.step == "" {
			return attempt(ctx)
		}
		name := fn.step
		for n := 2; ; n++ {
			res, err := step.Run(ctx, name, attempt)
			switch {
			case err != nil:
				// The last attempt has failed. If its error had the SDK's own type, the SDK would add a prefix to the
				// text.
				return nil, NoRetry(errors.New(err.Error()))
			case fn.more == nil || !fn.more(res):
				return res, nil
			}
			events[0].last, name = res, fmt.Sprint(fn.step, "-", n)
		}
	}
}

// attempt does the work once, within RunTimeout. It returns raw JSON, because a step would sort the keys of a value.
func (f *Functions) attempt(ctx context.Context, fn registered, events []Event) (out json.RawMessage, err error) {
	ctx, cancel := context.WithTimeout(ctx, RunTimeout)
	defer cancel()
	ctx, done := f.begin(ctx, fn.ID, events)
	defer func() { done(err) }()
	err = f.safely(ctx, events, func() error {
		res, err := fn.work(ctx, events)
		if err == nil {
			out, err = json.Marshal(res)
		}
		return err
	})
	return out, err
}

// begin calls f.Trace, if it is set.
func (f *Functions) begin(ctx context.Context, function string, events []Event) (context.Context, func(error)) {
	if f.Trace == nil {
		return ctx, func(error) {}
	}
	return f.Trace(ctx, function, events)
}

// safely turns a panic into an error, and logs its stack.
func (f *Functions) safely(ctx context.Context, events []Event, do func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			log := f.Log
			if len(events) > 0 {
				log = events[0].Log
			}
			log.ErrorContext(ctx, "the function panicked", "stack", string(debug.Stack()))
			err = fmt.Errorf("panic of type %T", r) // without its text, which may contain personal data
		}
	}()
	return do()
}
