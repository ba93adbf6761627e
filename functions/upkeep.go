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

// Upkeep returns a function that removes old records every night, in bounded batches. MongoDB's TTL indexes do most of it by
// themselves; the embedded database has none.
func Upkeep(kinds ...Old) Function {
	return Function{ID: CleanUp, Name: "Clean up old records", cron: cleanUpCron, Run: func(ctx context.Context, _ Event) (any, error) {
		ctx, cancel := context.WithTimeout(ctx, RunTimeout)
		defer cancel()
		start := time.Now()
		removed := map[string]int{}
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
