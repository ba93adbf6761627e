package database

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// Checkpoints is the collection clerksync_state: what the work of several processes, or of one that may die, remembers
// by name. It is safe for concurrent use.
type Checkpoints struct {
	rows  *mongo.Collection
	locks *Locks // by name
}

// NewCheckpoints returns the checkpoints of db.
func NewCheckpoints(db *DB) Checkpoints {
	return Checkpoints{rows: db.Collection("clerksync_state"), locks: db.Locks("clerksync_state")}
}

// Load reads what was saved under a name into v, and tells whether there was anything.
func (c Checkpoints) Load(ctx context.Context, name string, v any) (bool, error) {
	var row struct {
		State bson.RawValue `bson:"state"`
	}
	err := c.rows.FindOne(ctx, ByID(name)).Decode(&row)
	if errors.Is(err, mongo.ErrNoDocuments) {
		return false, nil
	}
	if err == nil {
		err = row.State.Unmarshal(v)
	}
	if err != nil {
		return false, fmt.Errorf("read the checkpoint %s: %w", name, Redact(err))
	}
	return true, nil
}

// Save keeps v under a name.
func (c Checkpoints) Save(ctx context.Context, name string, v any) error {
	_, err := c.rows.UpdateOne(ctx, ByID(name), bson.D{{Key: "$set", Value: bson.D{{Key: "state", Value: v}}}}, options.UpdateOne().SetUpsert(true))
	if err != nil {
		return fmt.Errorf("save the checkpoint %s: %w", name, Redact(err))
	}
	return nil
}

// Remove forgets what was saved under a name.
func (c Checkpoints) Remove(ctx context.Context, name string) error {
	if _, err := c.rows.DeleteOne(ctx, ByID(name)); err != nil {
		return fmt.Errorf("remove the checkpoint %s: %w", name, Redact(err))
	}
	return nil
}

// Lease is who has what is called by a name, and until when.
type Lease struct {
	Holder string    `bson:"holder"`
	Until  time.Time `bson:"until"`
}

// Claim gives what is called name to the holder of a lease, and returns the lease that is valid then: another's, while
// that one's time lasts. A holder may claim again, to have it for longer; to give it back, until a time that is past.
func (c Checkpoints) Claim(ctx context.Context, name string, l Lease) (Lease, error) {
	defer c.locks.Lock(name)()
	row := bson.D{{Key: "holder", Value: l.Holder}, {Key: "until", Value: l.Until}}
	_, err := c.rows.InsertOne(ctx, append(ByID(name), row...))
	if err == nil {
		return l, nil
	}
	if !IsDuplicate(err) {
		return Lease{}, fmt.Errorf("claim %s: %w", name, Redact(err))
	}
	held, err := c.lease(ctx, name)
	if err != nil || held.Holder != l.Holder && held.Until.After(time.Now()) {
		return held, err
	}
	was := append(ByID(name), bson.E{Key: "holder", Value: held.Holder}, bson.E{Key: "until", Value: held.Until})
	res, err := c.rows.UpdateOne(ctx, was, bson.D{{Key: "$set", Value: row}})
	switch {
	case err != nil:
		return Lease{}, fmt.Errorf("claim %s: %w", name, Redact(err))
	case res.MatchedCount == 0: // another was quicker
		return c.lease(ctx, name)
	}
	return l, nil
}

func (c Checkpoints) lease(ctx context.Context, name string) (Lease, error) {
	var l Lease
	if err := c.rows.FindOne(ctx, ByID(name)).Decode(&l); err != nil {
		return Lease{}, fmt.Errorf("read who has %s: %w", name, Redact(err))
	}
	return l, nil
}
