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
	checkpoints "github.com/inngest/inngestgo/pkg/checkpoint"
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

	app string // Inngest's id of the app
}

// registered is a function as Inngest gets it.
type registered struct {
	Function            // but for its Run
	filter      *string // which of its events it runs on, in CEL; nil is all
	schedule    string  // of a cron
	retries     int
	step        string // in which it does its work; "" does it in none, which is a request less without checkpoints
	batchEvents *inngestgo.ConfigBatchEvents
	concurrency *inngestgo.ConfigConcurrency
	// work does the work on an event, or on all those of a batch. more tells by its result whether it is to be done
	// once more, in another step; nil never.
	work func(ctx context.Context, events []Event) (any, error)
	more func(result json.RawMessage) bool
	// failed keeps what has to be kept of the events of a run that failed for good. It is nil of a function that comes
	// again by itself.
	failed func(ctx context.Context, events []Event, why inbox.Failure) error
}

// raw is the data of an event as it came: it unmarshals from anything, so that the SDK never refuses an event before a
// function can say what is wrong with it.
type raw struct{ json.RawMessage }

// Register creates the functions in client, whose handler then serves them. checkpoint says that the Inngest server has
// the API for it: then a run with a named step is one request, else two. The error says what is wrong with a function
// of the app.
func (f *Functions) Register(client inngestgo.Client, checkpoint bool) error {
	g := *f // f stays as it is for another client
	g.app = client.AppID()
	all := g.all()
	if err := g.check(all); err != nil {
		return err
	}
	for _, fn := range all {
		o := inngestgo.FunctionOpts{
			ID: fn.ID, Name: cmp.Or(fn.Name, fn.ID), Retries: new(cmp.Or(fn.retries, retries)),
			BatchEvents: fn.batchEvents, Concurrency: fn.concurrency,
		}
		// Of more than one step the SDK would run all in one request, which lasts longer than a request may.
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
		all = append(all, c.registered())
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

// run returns what the SDK calls.
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
			case err != nil: // of the last attempt; the SDK would put words before an error of its own type
				return nil, NoRetry(errors.New(err.Error()))
			case fn.more == nil || !fn.more(res):
				return res, nil
			}
			events[0].last, name = res, fmt.Sprint(fn.step, "-", n)
		}
	}
}

// attempt does the work once, within RunTimeout. The result is raw, or its keys would be sorted in a step.
func (f *Functions) attempt(ctx context.Context, fn registered, events []Event) (out json.RawMessage, err error) {
	ctx, cancel := context.WithTimeout(ctx, RunTimeout)
	defer cancel()
	err = f.safely(ctx, events, func() error {
		res, err := fn.work(ctx, events)
		if err == nil {
			out, err = json.Marshal(res)
		}
		return err
	})
	return out, err
}

// safely makes an error of a panic, and logs where it was.
func (f *Functions) safely(ctx context.Context, events []Event, do func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			log := f.Log
			if len(events) > 0 {
				log = events[0].Log
			}
			log.ErrorContext(ctx, "the function panicked", "stack", string(debug.Stack()))
			err = fmt.Errorf("panic of type %T", r) // not its text, which may hold anything
		}
	}()
	return do()
}
