package database

import (
	"context"
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
		err = c.rows.failed("read "+name+" in", row.State.Unmarshal(v))
	}
	return there && err == nil, err
}

// Save keeps v under a name.
func (c Checkpoints) Save(ctx context.Context, name string, v any) error {
	set := bson.D{{Key: "$set", Value: bson.D{{Key: "state", Value: v}}}}
	_, err := c.rows.UpdateOne(ctx, ByID(name), set, options.UpdateOne().SetUpsert(true))
	return c.rows.failed("save "+name+" in", err)
}

// Remove forgets what was saved under a name.
func (c Checkpoints) Remove(ctx context.Context, name string) error {
	return c.rows.DeleteEach(ctx, []string{name})
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
	if won {
		held = l
	}
	return held, err
}
