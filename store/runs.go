package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"clerksync/store/database"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// RunRetention is for how long Runs remembers: Clerk tries a webhook for 28 hours, and the inbox sends an event for 24
// more.
const RunRetention = 7 * 24 * time.Hour

// Runs remembers which functions of the app have done their work for which message, in the collection clerksync_runs.
// It is safe for concurrent use.
type Runs struct {
	db   *database.DB
	rows *mongo.Collection
}

// NewRuns returns the runs of db. Call Setup once before the first.
func NewRuns(db *database.DB) *Runs { return &Runs{db: db, rows: db.Collection("clerksync_runs")} }

// Setup makes the index by which MongoDB forgets runs. It can be repeated.
func (r *Runs) Setup(ctx context.Context) error {
	return database.EnsureIndex(ctx, r.db.Logger(), r.rows, r.index())
}

// LackIndex tells whether Setup has something to do.
func (r *Runs) LackIndex(ctx context.Context) (bool, error) {
	return database.LacksIndex(ctx, r.rows, r.index())
}

func (r *Runs) index() database.Index {
	ix := database.Index{Field: "at"}
	if !r.db.OneProcess {
		ix.Options = options.Index().SetExpireAfterSeconds(int32(RunRetention / time.Second))
	}
	return ix
}

// Has tells whether a function has done its work for a message.
func (r *Runs) Has(ctx context.Context, function, messageID string) (bool, error) {
	err := r.rows.FindOne(ctx, database.ByID(runID(function, messageID))).Err()
	if errors.Is(err, mongo.ErrNoDocuments) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for a run of %s: %w", function, database.Redact(err))
	}
	return true, nil
}

// Add notes that a function has done its work for a message. It may be repeated.
func (r *Runs) Add(ctx context.Context, function, messageID string) error {
	_, err := r.rows.InsertOne(ctx, append(database.ByID(runID(function, messageID)), bson.E{Key: "at", Value: time.Now()}))
	if err != nil && !database.IsDuplicate(err) {
		return fmt.Errorf("note a run of %s: %w", function, database.Redact(err))
	}
	return nil
}

func runID(function, messageID string) string { return messageID + ":" + function }

// Forget removes what was noted before a time, limit at the most.
func (r *Runs) Forget(ctx context.Context, before time.Time, limit int) (int, error) {
	return r.db.RemoveOld(ctx, r.rows, r.db.Locks(r.rows.Name()), "at", before, limit)
}
