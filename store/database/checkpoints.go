package database

import (
	"context"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// Checkpoints is the collection clerksync_state: what the work of several processes, or of one that may die, remembers
// by name. It is safe for concurrent use.
type Checkpoints struct{ rows *Collection }

// NewCheckpoints returns the checkpoints of db.
func NewCheckpoints(db *DB) Checkpoints { return Checkpoints{db.Collection("clerksync_state")} }

// Load reads what was saved under a name into v, and tells whether there was anything.
func (c Checkpoints) Load(ctx context.Context, name string, v any) (bool, error) {
	row, there, err := Get[struct {
		State bson.RawValue `bson:"state"`
	}](ctx, c.rows, name)
	if there {
		err = Redact(row.State.Unmarshal(v))
	}
	if err != nil {
		return false, fmt.Errorf("read the checkpoint %s: %w", name, err)
	}
	return there, nil
}

// Save keeps v under a name.
func (c Checkpoints) Save(ctx context.Context, name string, v any) error {
	set := bson.D{{Key: "$set", Value: bson.D{{Key: "state", Value: v}}}}
	if _, err := c.rows.UpdateOne(ctx, ByID(name), set, options.UpdateOne().SetUpsert(true)); err != nil {
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
	mine := bson.D{{Key: "holder", Value: l.Holder}, {Key: "until", Value: l.Until}}
	held, won, err := Claim(ctx, c.rows, name, mine, func(held Lease) bool {
		return held.Holder == l.Holder || !held.Until.After(time.Now())
	})
	if err != nil {
		return Lease{}, fmt.Errorf("claim %s: %w", name, err)
	}
	if won {
		held = l
	}
	return held, nil
}
