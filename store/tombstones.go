package store

import (
	"context"
	"fmt"
	"time"

	"clerksync/clerk"
	"clerksync/store/database"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// The order that keeps the deleted dead, docs/adr/0002-tombstones.md: who deletes writes the tombstone before it
// removes the row; who writes looks for the tombstone after it has written the row, and removes the row if there is
// one. So they cannot miss each other.

// TombstoneRetention is how long a deletion is remembered. Clerk can replay a webhook for 90 days.
const TombstoneRetention = 180 * 24 * time.Hour

// IsDeleted tells whether the user has a tombstone.
func (s *Users) IsDeleted(ctx context.Context, id string) (bool, error) {
	stones, err := s.buried(ctx, []string{id})
	return stones[id] != nil, err
}

// bury deletes users for ever: their tombstones come first, from then on no write can end with a row.
func (s *Users) bury(ctx context.Context, ids []string) error {
	stones := make([]any, len(ids))
	for i, id := range ids {
		stones[i] = append(database.ByID(id), bson.E{Key: "deleted_at", Value: time.Now()})
	}
	for i, err := range s.tombstones.rows.InsertEach(ctx, ids, stones) {
		if err != nil && !database.IsDuplicate(err) {
			return fmt.Errorf("write the tombstone of user %q: %w", ids[i], err)
		}
	}
	return s.rows.DeleteEach(ctx, ids)
}

// buried returns which of the users have a tombstone.
func (s *Users) buried(ctx context.Context, ids []string) (map[string]bson.Raw, error) {
	return s.tombstones.rows.FindMany(ctx, ids)
}

// ForgetDeleted removes tombstones from before a time, limit at the most.
func (s *Users) ForgetDeleted(ctx context.Context, before time.Time, limit int) (int, error) {
	return s.tombstones.Forget(ctx, before, limit)
}

// Lift removes the tombstone of a user, and tells whether there was one. Whoever has seen it before may still remove
// the user's row: see reconcile.Restore, which alone may call this.
func (s *Users) Lift(ctx context.Context, id string) (bool, error) {
	defer s.rows.Lock(id)()
	return s.tombstones.rows.DeleteIf(ctx, id, nil)
}

// afterAnyID is behind every id.
const afterAnyID = "\U0010FFFF"

// SweepBuried looks at a page of tombstones, those after after, which is "" at first, limit at the most, and removes
// the rows beside them: a writer that dies between its write and its look for the tombstone leaves one. It returns how
// many there were, and where the next page begins, "" after the last. Rows that the app made stay.
func (s *Users) SweepBuried(ctx context.Context, after string, limit int) (removed int, next string, err error) {
	stones, _, err := s.tombstones.rows.IDs(ctx, "deleted_at", after, afterAnyID, limit)
	if err != nil {
		return 0, "", err
	}
	if len(stones) == limit {
		next = stones[limit-1]
	}
	rows, err := s.find(ctx, stones)
	for id, row := range rows {
		if !clerk.IsUserID(id) || row.Clerk.Version == "" {
			continue
		}
		gone, err := s.removeBuriedRow(ctx, row)
		if err != nil {
			return removed, "", err
		}
		if gone {
			removed++
		}
	}
	return removed, next, err
}

// removeBuriedRow removes a row as it was read, if its user has a tombstone right now: it may have been lifted, and the
// row written anew.
func (s *Users) removeBuriedRow(ctx context.Context, f found) (bool, error) {
	defer s.rows.Lock(f.ID)()
	if dead, err := s.IsDeleted(ctx, f.ID); !dead || err != nil {
		return false, err
	}
	return s.rows.DeleteIf(ctx, f.ID, f.guard)
}
