package reconcile

import (
	"context"
	"errors"
	"fmt"
	"time"

	"clerksync/store/database"
)

// BusyError is ErrBusy, and says whose lease it is.
type BusyError struct{ database.Lease }

func (e *BusyError) Error() string {
	return fmt.Sprintf("%v: %s, whose lease ends at %s UTC unless it goes on", ErrBusy, e.Holder, e.Until.UTC().Format(time.TimeOnly))
}

// Is makes it ErrBusy.
func (e *BusyError) Is(target error) bool { return target == ErrBusy }

// leaseLook is how often a run that waits looks whether it may begin.
const leaseLook = time.Second

// Run does all steps of a run, for who waits for its end. If it meets the lease of another, it calls busy and waits
// until that ends: the other may have been killed. If that goes on instead, the error is the BusyError.
func (r *Reconcile) Run(ctx context.Context, p Progress, busy func(*BusyError)) (Progress, error) {
	var first *BusyError
	for !p.Done() {
		var err error
		p, err = r.Step(ctx, p)
		var b *BusyError
		switch {
		case err == nil:
			continue
		case !errors.As(err, &b), first != nil && *b != *first:
			return p, err
		case first == nil:
			first = b
			busy(b)
		}
		t := time.NewTimer(min(leaseLook, max(time.Until(b.Until), 0)+time.Millisecond))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return p, ctx.Err()
		}
	}
	return p, nil
}
