package database

import (
	"context"
	"errors"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// Checkpoints is the collection clerksync_state. Processes save there, under names, the state that they share or that
// must outlive them. It is safe for concurrent use.
type Checkpoints struct{ rows *Collection }

// NewCheckpoints returns the checkpoints of db.
func NewCheckpoints(db *DB) Checkpoints { return Checkpoints{db.Collection("clerksync_state")} }

// Load reads the value that was saved under a name into v, and tells whether there was one.
func (c Checkpoints) Load(ctx context.Context, name string, v any) (bool, error) {
	row, there, err := Get[struct {
		State bson.RawValue `bson:"state"`
	}](ctx, c.rows, name)
	if there {
		err = c.rows.failed("read "+name+" in", row.State.Unmarshal(v))
	}
	return there && err == nil, err
}

// LoadAll reads the values that were saved under names that begin with prefix. It leaves out values that are no T.
func LoadAll[T any](ctx context.Context, c Checkpoints, prefix string) (map[string]T, error) {
	begins := bson.D{{Key: "$gte", Value: prefix}, {Key: "$lt", Value: prefix + "\U0010FFFF"}}
	var rows []bson.Raw
	if err := c.rows.findAll(ctx, bson.D{{Key: idField, Value: begins}}, options.Find(), &rows); err != nil {
		return nil, err
	}
	all := make(map[string]T, len(rows))
	for _, row := range rows {
		var v T
		if row.Lookup("state").Unmarshal(&v) == nil {
			all[Text(row, idField)] = v
		}
	}
	return all, nil
}

// Save saves v under a name.
func (c Checkpoints) Save(ctx context.Context, name string, v any) error {
	set := bson.D{{Key: "$set", Value: bson.D{{Key: "state", Value: v}}}}
	_, err := c.rows.UpdateOne(ctx, ByID(name), set, options.UpdateOne().SetUpsert(true))
	return c.rows.failed("save "+name+" in", err)
}

// SaveFirst saves v under a name unless a value was saved under it before. Of several at the same time one saves.
func (c Checkpoints) SaveFirst(ctx context.Context, name string, v any) error {
	_, err := c.rows.InsertOne(ctx, append(ByID(name), bson.E{Key: "state", Value: v}))
	if IsDuplicate(err) {
		return nil
	}
	return c.rows.failed("save "+name+" in", err)
}

// Any tells whether anything was saved, under any name.
func (c Checkpoints) Any(ctx context.Context) (bool, error) {
	err := c.rows.FindOne(ctx, bson.D{}).Err()
	if errors.Is(err, mongo.ErrNoDocuments) {
		return false, nil
	}
	return err == nil, c.rows.failed("read", err)
}

// Remove removes the value that was saved under a name.
func (c Checkpoints) Remove(ctx context.Context, name string) error {
	return c.rows.DeleteEach(ctx, []string{name})
}

// Lease says who holds the lease of a name, and until when.
type Lease struct {
	Holder string    `bson:"holder"`
	Until  time.Time `bson:"until"`
}

// Claim takes the lease of a name for l.Holder until l.Until, and returns the lease that is valid now: l, or that of
// another holder if its time is not over. A holder may claim again, to extend its lease, or with a time in the past, to
// end it.
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
