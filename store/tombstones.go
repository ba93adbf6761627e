package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"clerksync/store/database"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
)

// The order that keeps the deleted dead, docs/adr/0002-tombstones.md: who deletes writes the tombstone before it
// removes the row; who writes looks for the tombstone after it has written the row, and removes the row if there is
// one. So they cannot miss each other.

// TombstoneRetention is how long a deletion is remembered. Clerk can replay a webhook for 90 days.
const TombstoneRetention = 180 * 24 * time.Hour

// IsDeleted tells whether the user has a tombstone.
func (s *Users) IsDeleted(ctx context.Context, id string) (bool, error) {
	err := s.tombstones.FindOne(ctx, database.ByID(id)).Err()
	if errors.Is(err, mongo.ErrNoDocuments) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for the tombstone of user %q: %w", id, database.Redact(err))
	}
	return true, nil
}

// bury deletes users for ever: their tombstones come first, from then on no write can end with a row.
func (s *Users) bury(ctx context.Context, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	stones := make([]any, len(ids))
	for i, id := range ids {
		stones[i] = bson.D{{Key: "_id", Value: id}, {Key: "deleted_at", Value: time.Now()}}
	}
	for i, err := range s.db.InsertMany(ctx, s.tombstones, ids, stones) {
		if err != nil && !database.IsDuplicate(err) {
			return fmt.Errorf("write the tombstone of user %q: %w", ids[i], database.Redact(err))
		}
	}
	return s.remove(ctx, ids)
}

// buried returns which of the users have a tombstone.
func (s *Users) buried(ctx context.Context, ids []string) (map[string]bson.Raw, error) {
	stones, err := s.db.FindMany(ctx, s.tombstones, ids)
	if err != nil {
		return nil, fmt.Errorf("look for tombstones: %w", database.Redact(err))
	}
	return stones, nil
}

// removeBuried removes the rows of those users who have a tombstone, and returns who they are. A writer that died
// between its write and this look leaves such a row.
func (s *Users) removeBuried(ctx context.Context, ids []string) (map[string]bson.Raw, error) {
	stones, err := s.buried(ctx, ids)
	if err != nil {
		return nil, err
	}
	var dead []string
	for _, id := range ids {
		if stones[id] != nil {
			dead = append(dead, id)
		}
	}
	return stones, s.remove(ctx, dead)
}

func (s *Users) remove(ctx context.Context, ids []string) error {
	if err := s.db.DeleteMany(ctx, s.rows, ids); err != nil {
		return fmt.Errorf("remove users: %w", database.Redact(err))
	}
	return nil
}
