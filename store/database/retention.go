package database

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// RemoveOld removes the rows of a collection whose time in field is before a time, limit at the most, and returns how
// many. One that was renewed after it was found stays. locks are those by which the rows are written.
func (db *DB) RemoveOld(ctx context.Context, c *mongo.Collection, locks *Locks, field string, before time.Time, limit int) (int, error) {
	isOld := bson.E{Key: field, Value: bson.D{{Key: "$lt", Value: before}}}
	cur, err := c.Find(ctx, bson.D{isOld}, options.Find().SetLimit(int64(limit)))
	if err != nil {
		return 0, fmt.Errorf("look for old rows of %s: %w", c.Name(), Redact(err))
	}
	var old []struct {
		ID string `bson:"_id"`
	}
	if err := cur.All(ctx, &old); err != nil {
		return 0, fmt.Errorf("look for old rows of %s: %w", c.Name(), Redact(err))
	}
	ids := make([]string, len(old))
	for i, r := range old {
		ids[i] = r.ID
	}
	var removed atomic.Int64
	count := func(res *mongo.DeleteResult, err error) error {
		if err == nil {
			removed.Add(res.DeletedCount)
		}
		return err
	}
	switch {
	case len(ids) == 0:
		return 0, nil
	case db.OneProcess: // no filter but the _id
		err = sideBySide(ids, func(id string) error {
			defer locks.Lock(id)()
			row, err := c.FindOne(ctx, ByID(id)).Raw()
			if errors.Is(err, mongo.ErrNoDocuments) {
				return nil
			}
			if at, ok := row.Lookup(field).TimeOK(); err != nil || !ok || !at.Before(before) {
				return err
			}
			return count(c.DeleteOne(ctx, ByID(id)))
		})
	default:
		err = count(c.DeleteMany(ctx, append(byIDs(ids), isOld)))
	}
	if err != nil {
		return 0, fmt.Errorf("remove old rows of %s: %w", c.Name(), Redact(err))
	}
	return int(removed.Load()), nil
}
