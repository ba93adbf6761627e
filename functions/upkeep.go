package functions

import (
	"context"
	"time"
)

// CleanUp is the id of the function that removes what nobody needs any more.
const CleanUp = "clean-up-old-records"

const (
	// cleanUpCron is a time at which little happens.
	cleanUpCron = "TZ=UTC 17 4 * * *"
	// cleanUpBatch bounds one removal, and cleanUpTime all of a night; the next one goes on.
	cleanUpBatch = 500
	cleanUpTime  = RunTimeout / 2
)

// Old is a kind of record that is removed when it has a certain age.
type Old struct {
	Name  string // for Inngest's page
	After time.Duration
	// Remove removes records from before a time, limit at the most, and returns how many.
	Remove func(ctx context.Context, before time.Time, limit int) (int, error)
}

// Sweep looks at a page of records, those after after, which is "" at first, limit at the most, and removes what should
// not be there. It returns how many, and where the next page begins, "" after the last.
type Sweep func(ctx context.Context, after string, limit int) (removed int, next string, err error)

// Upkeep returns a function that removes the rows of deleted users and old records every night, in bounded batches.
// MongoDB's TTL indexes do most of the latter by themselves; the embedded database has none.
func Upkeep(deleted Sweep, kinds ...Old) Function {
	return Function{ID: CleanUp, Name: "Clean up old records", cron: cleanUpCron, Run: func(ctx context.Context, _ Event) (any, error) {
		ctx, cancel := context.WithTimeout(ctx, RunTimeout)
		defer cancel()
		start := time.Now()
		removed := map[string]int{}
		for more, next := true, ""; more && time.Since(start) < cleanUpTime; more = next != "" { // before the tombstones that tell of them go
			n, after, err := deleted(ctx, next, cleanUpBatch)
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
	}}
}
