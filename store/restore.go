package store

import (
	"context"
	"fmt"

	"clerksync/clerk"
	"clerksync/store/database"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Lift removes the tombstone of a user, and tells whether there was one. Whoever has seen it before may still remove
// the user's row: see reconcile.Restore, which alone may call this.
func (s *Users) Lift(ctx context.Context, id string) (bool, error) {
	defer s.locks.Lock(id)()
	res, err := s.tombstones.DeleteOne(ctx, database.ByID(id))
	if err != nil {
		return false, fmt.Errorf("lift the tombstone of user %q: %w", id, database.Redact(err))
	}
	return res.DeletedCount > 0, nil
}

// afterAnyID is behind every id.
const afterAnyID = "\U0010FFFF"

// SweepBuried looks at a page of tombstones, those after after, which is "" at first, limit at the most, and removes
// the rows beside them: a writer that dies between its write and its look for the tombstone leaves one. It returns how
// many there were, and where the next page begins, "" after the last. Rows that the app made stay.
func (s *Users) SweepBuried(ctx context.Context, after string, limit int) (removed int, next string, err error) {
	stones, _, err := s.db.ListIDs(ctx, s.tombstones, "deleted_at", after, afterAnyID, limit)
	if err != nil {
		return 0, "", fmt.Errorf("list the tombstones: %w", err)
	}
	if len(stones) == limit {
		next = stones[limit-1]
	}
	rows, err := s.GetMany(ctx, stones)
	if err != nil {
		return 0, "", err
	}
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
	return removed, next, nil
}

// removeBuriedRow removes a row as it was read, if its user has a tombstone right now: it may have been lifted, and the
// row written anew.
func (s *Users) removeBuriedRow(ctx context.Context, r Row) (bool, error) {
	defer s.locks.Lock(r.ID)()
	if dead, err := s.IsDeleted(ctx, r.ID); !dead || err != nil {
		return false, err
	}
	filter := database.ByID(r.ID)
	if !s.db.OneProcess { // there the lock does it
		filter = append(filter, bson.E{Key: "clerk.version", Value: r.Clerk.Version})
	}
	res, err := s.rows.DeleteOne(ctx, filter)
	if err != nil {
		return false, fmt.Errorf("remove user %q: %w", r.ID, database.Redact(err))
	}
	return res.DeletedCount > 0, nil
}
