package store

import (
	"context"
	"fmt"
	"time"

	"clerksync/store/database"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// RunRetention is for how long Runs remembers: Clerk tries a webhook for 28 hours, and the inbox sends an event for 24
// more.
const RunRetention = 7 * 24 * time.Hour

// Runs remembers which functions of the app have done their work for which message, in the collection clerksync_runs.
// It is safe for concurrent use.
type Runs struct{ retention }

// NewRuns returns the runs of db. Call Setup once before the first.
func NewRuns(db *database.DB) *Runs {
	return &Runs{retention{db.Collection("clerksync_runs"), "at", RunRetention}}
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
