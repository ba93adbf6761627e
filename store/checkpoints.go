package store

import (
	"context"
	"errors"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// Checkpoints is the collection clerksync_state: what long work remembers of how far it is, by name.
type Checkpoints struct{ rows *mongo.Collection }

// NewCheckpoints returns the checkpoints of db.
func NewCheckpoints(db *DB) Checkpoints { return Checkpoints{db.Collection("clerksync_state")} }

// Load reads what was saved under a name into v, and tells whether there was anything.
func (c Checkpoints) Load(ctx context.Context, name string, v any) (bool, error) {
	var row struct {
		State bson.RawValue `bson:"state"`
	}
	err := c.rows.FindOne(ctx, byID(name)).Decode(&row)
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
	_, err := c.rows.UpdateOne(ctx, byID(name), bson.D{{Key: "$set", Value: bson.D{{Key: "state", Value: v}}}}, options.UpdateOne().SetUpsert(true))
	if err != nil {
		return fmt.Errorf("save the checkpoint %s: %w", name, Redact(err))
	}
	return nil
}

// Remove forgets what was saved under a name.
func (c Checkpoints) Remove(ctx context.Context, name string) error {
	if _, err := c.rows.DeleteOne(ctx, byID(name)); err != nil {
		return fmt.Errorf("remove the checkpoint %s: %w", name, Redact(err))
	}
	return nil
}
