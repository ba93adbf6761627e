package functions

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"clerksync/clerk"
	"clerksync/inbox"
	"clerksync/store"

	"github.com/inngest/inngest/pkg/enums"
	"github.com/inngest/inngestgo"
	sdkerrors "github.com/inngest/inngestgo/errors"
)

// rowFunction is a function that writes or deletes a user's row.
type rowFunction struct {
	id, name string
	event    string // Clerk's name of the event on which it runs
	step     string // the step in which it does its work; batches have no step
}

func rowFunctions() []rowFunction {
	return []rowFunction{
		{"sync-user-from-clerk", "Sync a new user from Clerk", clerk.UserCreated, "write-user"},
		{"update-user-from-clerk", "Update a user from Clerk", clerk.UserUpdated, "write-user"},
		{"delete-user-with-clerk", "Delete a user with Clerk", clerk.UserDeleted, "delete-user"},
	}
}

// Handles tells whether one of the functions clears events of this name from the inbox.
func Handles(eventName string) bool {
	return strings.HasPrefix(eventName, replayPrefix) ||
		slices.ContainsFunc(rowFunctions(), func(r rowFunction) bool { return inbox.EventName(r.event) == eventName })
}

func (f *Functions) row(r rowFunction) registered {
	fn := registered{Function: Function{ID: r.id, Name: r.name, Events: []string{inbox.EventName(r.event)}}}
	if f.BatchSize > 1 { // without a concurrency limit: a batch has many users
		fn.batchEvents = &inngestgo.ConfigBatchEvents{MaxSize: f.BatchSize, Timeout: f.BatchTimeout}
		fn.work = func(ctx context.Context, events []Event) (any, error) { return f.writeBatch(ctx, r, events) }
		fn.failed = func(ctx context.Context, e Event, _ inbox.Failure) error {
			_, err := f.writeBatch(ctx, r, []Event{e}) // perhaps no attempt has had the event
			return err
		}
		return fn
	}
	// One run at a time for each user, of the three functions together, wherever in the data the user's id is (see
	// clerk.Unwrap). This avoids lost races. Rows are right without it: old servers ignore the limit, and no server
	// keeps the order of events.
	key := new("has(event.data.data) ? event.data.data.id : event.data.id")
	fn.concurrency = &inngestgo.ConfigConcurrency{Step: []inngestgo.ConfigStepConcurrency{
		{Limit: 1, Key: key, Scope: enums.ConcurrencyScopeEnv},
	}}
	fn.step = r.step
	fn.work = func(ctx context.Context, events []Event) (any, error) {
		res := f.write(ctx, r, events)[0]
		return res, res.err
	}
	fn.failed = func(ctx context.Context, e Event, why inbox.Failure) error { return f.keepRow(ctx, r, e, why) }
	return fn
}

// result is what a run returns, for Inngest's page.
type result struct {
	UserID  string        `json:"user_id"`
	Outcome store.Outcome `json:"outcome"`
	err     error
	// received is when the webhook came, see Wrote.
	received time.Time
}

// write writes the rows of all events together, and removes each event from the inbox whose row is written. It returns
// a result for each event. An error that no retry can mend is a NoRetry error.
func (f *Functions) write(ctx context.Context, r rowFunction, events []Event) []result {
	results := make([]result, len(events))
	var writes []store.Write
	var of []int // for each write, the index of its event
	for i, e := range events {
		w, err := f.read(r, e)
		if err != nil {
			results[i].err = NoRetry(err)
			f.tell(ctx, r, e, results[i])
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
	if err != nil && len(events) > 1 { // one by one, to find out which event makes it panic
		for i := range events {
			results[i] = f.write(ctx, r, events[i:i+1])[0]
		}
		return results
	}
	for k, i := range of {
		res := &results[i]
		if err == nil && len(events) > 1 && errors.Is(written[k].Err, store.ErrRefused) {
			// Of a user's events in a list only the newest is written. Alone, an older one may give up the value that
			// another user waits for.
			*res = f.write(ctx, r, events[i:i+1])[0]
			continue
		}
		if res.err = err; err == nil {
			res.Outcome, res.err = written[k].Outcome, written[k].Err
			if errors.Is(res.err, store.ErrUnfit) {
				res.err = NoRetry(res.err)
			}
		}
		if res.err == nil {
			res.received, res.err = f.clear(ctx, events[i])
		}
		f.tell(ctx, r, events[i], *res)
	}
	return results
}

// Wrote says what became of an event about a user.
type Wrote struct {
	Type    string // Clerk's, such as user.created
	UserID  string // "" if the event cannot be read
	Source  store.Source
	Outcome store.Outcome // "" if Err is set
	Err     error         // why the row was not written, or the event not cleared
	Final   bool          // of an Err: the event is not tried again, and becomes a dead letter
	At      time.Time     // when it happened at Clerk; if the event does not say that, when Inngest received it
	// Received is when the webhook came. It is the zero time for an event that is not in the inbox: it came through
	// Inngest's own integration, or another sending was faster.
	Received time.Time
}

// What became of an event whose row was not written, besides the values of store.Outcome.
const (
	Retried = "retried" // it is tried again
	Failed  = "failed"  // for good
)

// Result says in a word what became of the event: a store.Outcome, Retried or Failed.
func (w Wrote) Result() string {
	switch {
	case w.Err != nil && w.Final:
		return Failed
	case w.Err != nil:
		return Retried
	}
	return string(w.Outcome)
}

// OfDeleted tells whether the event came after the deletion of its user, who stays deleted.
func (w Wrote) OfDeleted() bool { return w.Outcome == store.Deleted && w.Type != clerk.UserDeleted }

// tell calls f.Wrote.
func (f *Functions) tell(ctx context.Context, r rowFunction, e Event, res result) {
	if f.Wrote == nil {
		return
	}
	w := Wrote{
		Type: r.event, UserID: res.UserID, Source: e.source(), Outcome: res.Outcome, Err: res.err, At: e.At,
		Received: res.received,
	}
	if res.err != nil {
		w.Outcome, w.Final = "", sdkerrors.IsNoRetryError(res.err) || e.Attempt >= retries
	}
	f.Wrote(ctx, w)
}

// source returns what an event comes from. Inngest gives an event that has no id one of its own, a ULID; no svix-id has
// that form (https://github.com/ulid/spec).
func (e Event) source() store.Source {
	const digits = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	isULID := len(e.id.Row) == 26 && e.id.Row[0] <= '7' && strings.Trim(e.id.Row, digits) == ""
	switch {
	case e.id.Row == "" || isULID:
		return store.Source{Kind: "integration", ID: e.id.Row}
	case e.id.Replayed: // a dead letter
		return store.Source{Kind: "replay", ID: e.id.Row}
	}
	return store.Source{Kind: "webhook", ID: e.id.Row}
}

// read returns the write that an event asks for. Its error is the same at each retry.
func (f *Functions) read(r rowFunction, e Event) (w store.Write, err error) {
	switch {
	case f.foreign(e):
		err = errForeign
	case r.event == clerk.UserDeleted:
		w.Deleted, w.EventTime = true, e.when
		w.User.ID, err = clerk.ParseDeleted(e.payload.User)
	default:
		w.EventTime = e.when
		w.User, err = clerk.ParseUser(e.payload.User)
	}
	w.Source = e.source()
	return w, err
}

// clear removes an event whose work is done from the inbox, and returns when its webhook came.
func (f *Functions) clear(ctx context.Context, e Event) (received time.Time, _ error) {
	if f.Seen != nil {
		f.Seen(e.At)
	}
	if e.id.Row == "" {
		return time.Time{}, nil
	}
	return f.Inbox.Done(ctx, e.id.String())
}

// batchResult is what a run of a batch returns, for Inngest's page.
type batchResult struct {
	Events   int                   `json:"events"`
	Outcomes map[store.Outcome]int `json:"outcomes"`
	// Failed is how many have failed for good. They are dead letters, unless the event was sent twice and the other run
	// has done the work.
	Failed int `json:"failed"`
}

// writeBatch writes a batch of events. An event that no retry can mend, or whose last retry has failed, becomes a dead
// letter; the others are not affected.
func (f *Functions) writeBatch(ctx context.Context, r rowFunction, events []Event) (any, error) {
	if len(events) == 0 {
		// Inngest leaves the events out of a call that would be larger than 4 MB, and a retry would be as large. The
		// function mark-failed-event gets the events.
		return nil, NoRetry(errors.New("the batch is too large for Inngest: set SYNC_BATCH_SIZE to less"))
	}
	all := batchResult{Events: len(events), Outcomes: map[store.Outcome]int{}}
	var errs []error
	results := f.write(ctx, r, events)
	for i, e := range events {
		res := results[i]
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

// keepRow turns an event whose run has failed for good into a dead letter, unless its work is done. An event that is
// not in the inbox was sent twice and the other run has removed it, or it came from Inngest's own integration, with or
// without a webhook of the same change.
func (f *Functions) keepRow(ctx context.Context, r rowFunction, e Event, why inbox.Failure) error {
	if there, err := f.Inbox.FailPending(ctx, e.id.String(), why); there || err != nil {
		return err
	}
	if w, unreadable := f.read(r, e); unreadable == nil {
		if undone, err := f.undone(ctx, w); !undone || err != nil {
			return err
		}
	}
	return f.keep(ctx, e, why)
}

// undone reports whether a write would still change something.
func (f *Functions) undone(ctx context.Context, w store.Write) (bool, error) {
	if !w.Deleted {
		res := f.Users.Write(ctx, []store.Write{w}, store.DryRun)[0]
		if errors.Is(res.Err, store.ErrUnfit) {
			return true, nil
		}
		return res.Newer, res.Err
	}
	dead, err := f.Users.IsDeleted(ctx, w.User.ID)
	if dead && err == nil {
		if _, err = f.Users.Get(ctx, w.User.ID); errors.Is(err, store.ErrNotFound) {
			return false, nil
		}
	}
	return true, err
}

// keep writes a dead letter.
func (f *Functions) keep(ctx context.Context, e Event, why inbox.Failure) error {
	// Our ingress has cut it already, the integration has not.
	data, err := clerk.WithoutSecrets(e.Data, f.ForwardPrivateMetadata)
	if err != nil {
		data = json.RawMessage("null")
		why.Error += "; its data is not kept, because secrets cannot be cut out of it: " + err.Error()
	}
	return f.Inbox.Fail(ctx, inbox.Event{
		ID: e.id.String(), Name: e.Name, Data: data, TS: e.At.UnixMilli(), V: e.version,
	}, why)
}
