package functions

import (
	"context"
	"time"
)

const (
	// cleanUpCron is a time at which little happens.
	cleanUpCron = "TZ=UTC 17 4 * * *"
	// cleanUpBatch bounds one removal, and cleanUpTime all of a night; the next one goes on.
	cleanUpBatch = 500
	cleanUpTime  = RunTimeout / 2
)

// Retention is for how long records of a kind are kept.
type Retention struct {
	Name  string // for Inngest's page
	After time.Duration
	// Remove removes records from before a time, limit at the most, and returns how many.
	Remove func(ctx context.Context, before time.Time, limit int) (int, error)
}

// Upkeep returns a function that removes the rows of deleted users and old records every night, in bounded batches.
// MongoDB's TTL indexes do most of the latter by themselves; the embedded database has none. sweep looks at a page of
// tombstones, those after after, which is "" at first, limit at the most, and removes rows that stand beside them. It
// returns how many, and where the next page begins, "" after the last.
func Upkeep(
	sweep func(ctx context.Context, after string, limit int) (removed int, next string, err error), kinds ...Retention,
) Cron {
	work := func(ctx context.Context, _ Event) (any, error) {
		start := time.Now()
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
	return Cron{id: "clean-up-old-records", name: "Clean up old records", schedule: cleanUpCron, work: work}
}
