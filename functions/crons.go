package functions

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"clerksync/clerk"
	"clerksync/reconcile"
)

// Cron is a function that runs at certain times.
type Cron struct{ fn registered }

// reconcileRetries is how often a step is retried, over about half an hour. After that, the next run does the work.
const reconcileRetries = 6

// Reconcile returns the functions of those tiers that have a cron.
func Reconcile(r *reconcile.Reconcile, crons map[reconcile.Tier]string) []Cron {
	var all []Cron
	for _, t := range []struct {
		reconcile.Tier
		id, name string
	}{
		{reconcile.Recent, "reconcile-users-with-clerk-recent", "Repair the users that Clerk has just changed"},
		{reconcile.Absent, "reconcile-users-with-clerk-absent", "Remove the users that Clerk has no more"},
		{reconcile.Full, "reconcile-users-with-clerk", "Compare all users with Clerk"},
	} {
		if crons[t.Tier] == "" {
			continue
		}
		all = append(all, Cron{registered{
			Function: Function{ID: t.id, Name: t.name}, schedule: crons[t.Tier], retries: reconcileRetries, step: t.id,
			work: func(ctx context.Context, events []Event) (any, error) {
				return reconcileStep(ctx, r, t.Tier, events[0])
			},
			more: func(result json.RawMessage) bool {
				var p reconcile.Progress
				return json.Unmarshal(result, &p) == nil && p.ID != "" && !p.Done()
			},
		}})
	}
	return all
}

func reconcileStep(ctx context.Context, r *reconcile.Reconcile, t reconcile.Tier, e Event) (any, error) {
	p := reconcile.Start(t, e.RunID)
	if e.last != nil {
		if err := json.Unmarshal(e.last, &p); err != nil {
			return nil, NoRetry(fmt.Errorf("read what the step before has left: %w", err))
		}
	}
	p, err := r.Step(ctx, p)
	switch {
	case errors.Is(err, reconcile.ErrBusy) && t == reconcile.Recent && e.last == nil:
		return "skipped: another reconcile is running", nil // and the next run looks as far back
	case errors.Is(err, reconcile.ErrBrake), errors.Is(err, clerk.ErrKey):
		e.Log.ErrorContext(ctx, "the reconcile has failed", "tier", t, "error", err)
		return nil, NoRetry(err)
	case err != nil:
		return nil, err
	case p.Done():
		e.Log.InfoContext(ctx, "reconciled", "tier", t, "users", p.Found.Users, "rows", p.Found.Rows,
			"missing", p.Found.Missing, "stale", p.Found.Stale, "extra", p.Found.Extra, "buried", p.Found.Buried,
			"unknown", p.Found.Unknown, "failed", p.Found.Failed)
	}
	return p, nil
}

const (
	// cleanUpCron is a time at which little happens.
	cleanUpCron = "TZ=UTC 17 4 * * *"
	// cleanUpBatch limits one removal, and cleanUpTime all removals of a night. Old records that are left go the next
	// night; the look at the tombstones begins with the first one every night.
	cleanUpBatch = 500
	cleanUpTime  = RunTimeout / 2
)

// Retention says how long records of one kind are kept.
type Retention struct {
	Name  string // for Inngest's page
	After time.Duration
	// Remove removes at most limit records that are older than before, and returns how many it has removed.
	Remove func(ctx context.Context, before time.Time, limit int) (int, error)
}

// Upkeep returns a function that every night makes indexes that have gone, and removes the rows of deleted users and
// old records, in bounded batches. MongoDB's TTL indexes remove most old records by themselves; the embedded database
// has no such indexes.
//
// mend makes the indexes of the rows again, such as those that mongoose's syncIndexes has dropped. If that fails, the
// error is logged, and the rest is done.
//
// sweep looks at a page of at most limit tombstones, those after the id after ("" at first), and removes rows that
// still exist beside them. It returns how many it has removed, and the id after which the next page begins, or "".
func Upkeep(
	mend func(ctx context.Context) error,
	sweep func(ctx context.Context, after string, limit int) (removed int, next string, err error), kinds ...Retention,
) Cron {
	work := func(ctx context.Context, events []Event) (any, error) {
		start := time.Now()
		if err := mend(ctx); err != nil {
			events[0].Log.ErrorContext(ctx, "an index on the users has gone and cannot be made again", "error", err)
		}
		removed := map[string]int{}
		// Rows go first, while the tombstones that tell of them are there.
		for more, next := true, ""; more && time.Since(start) < cleanUpTime; more = next != "" {
			n, after, err := sweep(ctx, next, cleanUpBatch)
			if err != nil {
				return nil, err
			}
			removed["rows_of_deleted_users"] += n
			next = after
		}
		for _, k := range kinds {
			for n := cleanUpBatch; n == cleanUpBatch && time.Since(start) < cleanUpTime; {
				var err error
				if n, err = k.Remove(ctx, start.Add(-k.After), cleanUpBatch); err != nil {
					return nil, err
				}
				removed[k.Name] += n
			}
		}
		return removed, nil
	}
	fn := Function{ID: "clean-up-old-records", Name: "Clean up old records"}
	return Cron{registered{Function: fn, schedule: cleanUpCron, work: work}}
}
