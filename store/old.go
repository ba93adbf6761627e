package store

import (
	"context"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// removeOld removes the rows of a collection whose time in field is before a time, limit at the most, and returns how many.
func removeOld(ctx context.Context, db *DB, c *mongo.Collection, field string, before time.Time, limit int) (int, error) {
	cur, err := c.Find(ctx, bson.D{{Key: field, Value: bson.D{{Key: "$lt", Value: before}}}}, options.Find().SetLimit(int64(limit)))
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
	switch {
	case len(ids) == 0:
		return 0, nil
	case db.OneProcess:
		err = sideBySide(ids, func(id string) error { _, err := c.DeleteOne(ctx, byID(id)); return err })
	default:
		_, err = c.DeleteMany(ctx, byIDs(ids))
	}
	if err != nil {
		return 0, fmt.Errorf("remove old rows of %s: %w", c.Name(), Redact(err))
	}
	return len(ids), nil
}

// ForgetDeleted removes tombstones from before a time, limit at the most.
func (s *Users) ForgetDeleted(ctx context.Context, before time.Time, limit int) (int, error) {
	return removeOld(ctx, s.db, s.tombstones, "deleted_at", before, limit)
}

// Forget removes claims from before a time, limit at the most.
func (w *Welcomes) Forget(ctx context.Context, before time.Time, limit int) (int, error) {
	return removeOld(ctx, w.db, w.rows, "claimed_at", before, limit)
}
