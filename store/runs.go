package store

import (
	"context"
	"fmt"
	"time"

	"clerksync/store/database"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// RunRetention is how long Runs remembers a run. It must be longer than 52 hours: Clerk tries a webhook for 28 hours,
// and the inbox sends an event for 24 more.
const RunRetention = 7 * 24 * time.Hour

// Runs remembers in the collection clerksync_runs which function of the app has done its work for which message. It is
// safe for concurrent use.
type Runs struct{ retention }

// NewRuns returns the runs of db. Call Setup once before the first run.
func NewRuns(db *database.DB) *Runs {
	return &Runs{retention{db.Collection("clerksync_runs"), database.Index{Field: "at", TTL: RunRetention}}}
}

// Has tells whether a function has done its work for a message.
func (r *Runs) Has(ctx context.Context, function, messageID string) (bool, error) {
	_, there, err := database.Get[struct{}](ctx, r.rows, runID(function, messageID))
	return there, err
}

// Add notes that a function has done its work for a message. It may be repeated.
func (r *Runs) Add(ctx context.Context, function, messageID string) error {
	id := runID(function, messageID)
	row := append(database.ByID(id), bson.E{Key: "at", Value: time.Now()})
	err := r.rows.InsertEach(ctx, []string{id}, []any{row})[0]
	if err != nil && !database.IsDuplicate(err) {
		return fmt.Errorf("note a run of %s: %w", function, err)
	}
	return nil
}

func runID(function, messageID string) string { return messageID + ":" + function }
