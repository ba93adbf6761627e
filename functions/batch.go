package functions

import (
	"context"
	"errors"
	"fmt"

	"clerksync/inbox"
	"clerksync/store"

	"github.com/inngest/inngestgo"
)

// BatchResult is what a run of a batch returns, for Inngest's page.
type BatchResult struct {
	Events   int                   `json:"events"`
	Outcomes map[store.Outcome]int `json:"outcomes"`
	Failed   int                   `json:"failed"` // for good; dead letters, but for those whose work another sending has done
}

// errBatchTooLarge says that Inngest has left the events out of a call, as it does where it would be over 4 MB: so
// would the next one be.
var errBatchTooLarge = errors.New("the batch is too large for Inngest: set SYNC_BATCH_SIZE to less")

// callBatch does what call does with each event of a batch, and writes the rows together. An event that no retry can
// help, or that the last retry did not help, becomes a dead letter alone.
func (f *Functions) callBatch(ctx context.Context, fn Function, in inngestgo.Input[raw]) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, RunTimeout)
	defer cancel()
	if len(in.Events) == 0 {
		return nil, NoRetry(errBatchTooLarge)
	}
	res := BatchResult{Events: len(in.Events), Outcomes: map[store.Outcome]int{}}
	var events []Event
	var writes []store.Write
	fail := func(e Event, why error) error {
		res.Failed++
		return f.keep(ctx, fn, e, inbox.Failure{Function: fn.slug, RunID: e.RunID, Error: why.Error(), Attempts: e.Attempt + 1})
	}
	for _, g := range in.Events {
		e := event(g, in.InputCtx)
		w, err := fn.row(e)
		if f.foreign(e) {
			err = errForeign
		}
		if err != nil {
			if err := fail(e, err); err != nil {
				return nil, err
			}
			continue
		}
		events, writes = append(events, e), append(writes, w)
	}
	var errs []error
	for i, w := range f.writeAll(ctx, fn, events, writes) {
		err := w.Err
		if err != nil && in.InputCtx.Attempt >= retries {
			err = fail(events[i], err)
		} else if err == nil {
			res.Outcomes[w.Outcome]++
			err = f.written(ctx, events[i])
		}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("some of %d events are tried again: %w", len(in.Events), err)
	}
	return res, nil
}

// writeAll writes rows together, or, if that panics, each by itself: then it is known whose panic it is.
func (f *Functions) writeAll(ctx context.Context, fn Function, events []Event, writes []store.Write) []store.Result {
	results := make([]store.Result, len(writes))
	write := func(from, to int) error {
		return f.safely(ctx, fn, events[from].RunID, events[from].id.String(), func() error {
			copy(results[from:to], f.Users.Write(ctx, writes[from:to], store.All))
			return nil
		})
	}
	if len(writes) == 0 || write(0, len(writes)) == nil {
		return results
	}
	for i := range writes {
		if err := write(i, i+1); err != nil {
			results[i].Err = err
		}
	}
	return results
}

// written removes an event from the inbox.
func (f *Functions) written(ctx context.Context, e Event) error {
	if f.Seen != nil {
		f.Seen(e.At)
	}
	if e.id.Row == "" {
		return nil
	}
	return f.Inbox.Done(ctx, e.id.String())
}
