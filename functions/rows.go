package functions

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"clerksync/clerk"
	"clerksync/inbox"
	"clerksync/store"

	"github.com/inngest/inngest/pkg/enums"
	"github.com/inngest/inngestgo"
	sdkerrors "github.com/inngest/inngestgo/errors"
)

// rowFunction writes a user's row, or removes it.
type rowFunction struct {
	id, name string
	event    string // on which it runs, as Clerk names it
	step     string // in which it does its work, unless it takes batches
	deletes  bool
}

func rowFunctions() []rowFunction {
	return []rowFunction{
		{"sync-user-from-clerk", "Sync a new user from Clerk", clerk.UserCreated, "write-user", false},
		{"update-user-from-clerk", "Update a user from Clerk", clerk.UserUpdated, "write-user", false},
		{"delete-user-with-clerk", "Delete a user with Clerk", clerk.UserDeleted, "delete-user", true},
	}
}

// Handles tells whether one of the functions clears events of this name from the inbox.
func Handles(eventName string) bool {
	return strings.HasPrefix(eventName, replayPrefix) ||
		slices.ContainsFunc(rowFunctions(), func(r rowFunction) bool { return "clerk/"+r.event == eventName })
}

func (f *Functions) row(r rowFunction) registered {
	fn := registered{Function: Function{ID: r.id, Name: r.name, Events: []string{"clerk/" + r.event}}}
	if f.BatchSize > 1 { // no concurrency limit by user: a batch has many
		fn.batchEvents = &inngestgo.ConfigBatchEvents{MaxSize: f.BatchSize, Timeout: f.BatchTimeout}
		fn.work = func(ctx context.Context, events []Event) (any, error) { return f.writeBatch(ctx, r, events) }
		fn.failed = func(ctx context.Context, events []Event, _ inbox.Failure) error {
			_, err := f.writeBatch(ctx, r, events) // no attempt may have had them
			return err
		}
		return fn
	}
	// One run per user, of the three functions together, also where the data holds the user as clerk.Unwrap has it. It
	// spares lost races; rows are right without it. Not every server heeds it, and none keeps order.
	key := new("has(event.data.data) ? event.data.data.id : event.data.id")
	fn.concurrency = &inngestgo.ConfigConcurrency{Step: []inngestgo.ConfigStepConcurrency{
		{Limit: 1, Key: key, Scope: enums.ConcurrencyScopeEnv},
	}}
	fn.step = r.step
	fn.work = func(ctx context.Context, events []Event) (any, error) {
		res := f.write(ctx, r, events)[0]
		return res, res.err
	}
	fn.failed = func(ctx context.Context, events []Event, why inbox.Failure) error {
		var errs []error
		for _, e := range events {
			errs = append(errs, f.keepRow(ctx, r, e, why))
		}
		return errors.Join(errs...)
	}
	return fn
}

// result is what a run returns, for Inngest's page.
type result struct {
	UserID  string        `json:"user_id"`
	Outcome store.Outcome `json:"outcome"`
	err     error
}

// write writes what the events say into the rows, together, and clears each event from the inbox whose row is written.
// It returns a result for each. An error that no retry can help is one of NoRetry.
func (f *Functions) write(ctx context.Context, r rowFunction, events []Event) []result {
	results := make([]result, len(events))
	var writes []store.Write
	var of []int // the events that writes are of
	for i, e := range events {
		w, err := f.read(r, e)
		if err != nil {
			results[i].err = NoRetry(err)
			continue
		}
		results[i].UserID = w.User.ID
		writes, of = append(writes, w), append(of, i)
	}
	var written []store.Result
	err := f.safely(ctx, events, func() error {
		written = f.Users.Write(ctx, writes, store.All)
		return nil
	})
	if err != nil && len(events) > 1 { // each by itself: then it is known whose panic it is
		for i := range events {
			results[i] = f.write(ctx, r, events[i:i+1])[0]
		}
		return results
	}
	for k, i := range of {
		res := &results[i]
		if res.err = err; err == nil {
			res.Outcome, res.err = written[k].Outcome, written[k].Err
		}
		if res.err == nil {
			res.err = f.clear(ctx, events[i])
		}
	}
	return results
}

// read reads what an event says. No retry can help against its error.
func (f *Functions) read(r rowFunction, e Event) (w store.Write, err error) {
	switch {
	case f.foreign(e):
		err = errForeign
	case r.deletes:
		w.Deleted = true
		w.User.ID, err = clerk.ParseDeleted(e.payload.User)
	default:
		w.EventTime = e.when
		w.User, err = clerk.ParseUser(e.payload.User)
	}
	return w, err
}

// clear removes an event from the inbox, whose work is done.
func (f *Functions) clear(ctx context.Context, e Event) error {
	if f.Seen != nil {
		f.Seen(e.At)
	}
	if e.id.Row == "" {
		return nil
	}
	return f.Inbox.Done(ctx, e.id.String())
}

// batchResult is what a run of a batch returns, for Inngest's page.
type batchResult struct {
	Events   int                   `json:"events"`
	Outcomes map[store.Outcome]int `json:"outcomes"`
	// for good; dead letters, but for those whose work another sending has done
	Failed int `json:"failed"`
}

// writeBatch writes a batch of events. One that no retry can help, or that the last retry did not help, becomes a dead
// letter alone.
func (f *Functions) writeBatch(ctx context.Context, r rowFunction, events []Event) (any, error) {
	if len(events) == 0 {
		// Inngest leaves the events out of a call that would be over 4 MB: so would the next one be. The function that
		// is told of failed runs gets them.
		return nil, NoRetry(errors.New("the batch is too large for Inngest: set SYNC_BATCH_SIZE to less"))
	}
	all := batchResult{Events: len(events), Outcomes: map[store.Outcome]int{}}
	var errs []error
	for i, res := range f.write(ctx, r, events) {
		e := events[i]
		switch {
		case res.err == nil:
			all.Outcomes[res.Outcome]++
		case sdkerrors.IsNoRetryError(res.err) || e.Attempt >= retries:
			all.Failed++
			why := inbox.Failure{Function: f.app + "-" + r.id, RunID: e.RunID, Error: res.err.Error()}
			errs = append(errs, f.keepRow(ctx, r, e, why))
		default:
			errs = append(errs, res.err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("some of %d events are tried again: %w", len(events), err)
	}
	return all, nil
}

var errForeign = errors.New("the event is of another Clerk instance than CLERK_INSTANCE_ID")

func (f *Functions) foreign(e Event) bool {
	return f.InstanceID != "" && e.payload.InstanceID != "" && e.payload.InstanceID != f.InstanceID
}

// keepRow makes an event whose run has failed for good a dead letter, unless its work is done: one that is not in the
// inbox has been cleared by another sending of it, or came by Inngest's own integration, beside a webhook or without
// one.
func (f *Functions) keepRow(ctx context.Context, r rowFunction, e Event, why inbox.Failure) error {
	if there, err := f.Inbox.FailPending(ctx, e.id.String(), why); there || err != nil {
		return err
	}
	if undone, err := f.undone(ctx, r, e); !undone || err != nil {
		return err
	}
	return f.keep(ctx, e, why)
}

// undone tells whether an event would still write something. What nobody can read might.
func (f *Functions) undone(ctx context.Context, r rowFunction, e Event) (bool, error) {
	w, err := f.read(r, e)
	if err != nil {
		return true, nil
	}
	if !w.Deleted {
		res := f.Users.Write(ctx, []store.Write{w}, store.DryRun)[0]
		return res.Newer, res.Err
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

// keep writes a dead letter.
func (f *Functions) keep(ctx context.Context, e Event, why inbox.Failure) error {
	data, err := clerk.WithoutSecrets(e.Data, false) // our ingress has cut it already, the integration has not
	if err != nil {
		data = json.RawMessage("null")
		why.Error += "; its data is not kept, because secrets cannot be cut out of it: " + err.Error()
	}
	return f.Inbox.Fail(ctx, inbox.Event{
		ID: e.id.String(), Name: e.Name, Data: data, TS: e.At.UnixMilli(), V: e.version,
	}, why)
}
