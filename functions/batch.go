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

// callBatch does what call does with each event of a batch, and writes the rows together. An event that no retry can help, or that the
// last retry did not help, becomes a dead letter alone.
func (f *Functions) callBatch(ctx context.Context, fn Function, in inngestgo.Input[raw]) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, RunTimeout)
	defer cancel()
	if len(in.Events) == 0 { // so says the SDK of a batch over 4 MB
		return nil, errors.New("the batch is too large for Inngest: set SYNC_BATCH_SIZE to less")
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
	for i, w := range f.Users.Write(ctx, writes, store.All) {
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
