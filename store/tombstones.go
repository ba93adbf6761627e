package store

import (
	"context"
	"fmt"
	"time"

	"clerksync/clerk"
	"clerksync/store/database"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// This order keeps deleted users deleted, docs/adr/0002-tombstones.md: a deletion writes the tombstone before it
// removes the row. A write looks for a tombstone after it has written the row, and if there is one, it removes the row.
// So the two cannot miss each other.

// TombstoneRetention is how long a deletion is remembered. Clerk can replay a webhook for 90 days.
const TombstoneRetention = 180 * 24 * time.Hour

// IsDeleted tells whether a user has a tombstone.
func (s *Users) IsDeleted(ctx context.Context, id string) (bool, error) {
	stones, err := s.buried(ctx, []string{id})
	return stones[id] != nil, err
}

// bury deletes users forever. It writes the tombstones first: from then on no write can leave a row behind.
func (s *Users) bury(ctx context.Context, dead []*attempt) error {
	stones := make([]any, len(dead))
	for i, a := range dead {
		stones[i] = append(database.ByID(a.User.ID), bson.E{Key: "deleted_at", Value: time.Now()})
	}
	for i, err := range s.tombstones.rows.InsertEach(ctx, ids(dead), stones) {
		if dead[i].again = database.IsDuplicate(err); err != nil && !dead[i].again {
			return fmt.Errorf("write the tombstone of user %q: %w", dead[i].User.ID, err)
		}
	}
	return s.rows.DeleteEach(ctx, ids(dead))
}

// buried returns the tombstones of those of the users who have one, by user id.
func (s *Users) buried(ctx context.Context, ids []string) (map[string]bson.Raw, error) {
	return s.tombstones.rows.FindMany(ctx, ids)
}

// ForgetDeleted removes at most limit tombstones from before a time and returns how many it removed.
func (s *Users) ForgetDeleted(ctx context.Context, before time.Time, limit int) (int, error) {
	return s.tombstones.Forget(ctx, before, limit)
}

// Lift removes the tombstone of a user, and tells whether there was one. A process that saw the tombstone before may
// still remove the user's row. Only reconcile.Restore may call Lift, because it deals with that.
func (s *Users) Lift(ctx context.Context, id string) (bool, error) {
	defer s.rows.Lock(id)()
	return s.tombstones.rows.DeleteIf(ctx, id, nil)
}

// afterAnyID sorts after every id.
const afterAnyID = "\U0010FFFF"

// SweepBuried removes the rows of users who have a tombstone. A process leaves such a row if it dies between its write
// and its look for the tombstone. Rows that clerksync did not write stay. One call looks at the next limit tombstones
// whose ids are greater than after, which is "" for the first call. It returns how many rows it removed, and the value
// of after for the next call, "" at the end.
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
		if !clerk.IsUserID(id) || row.state.Version == "" {
			continue
		}
		gone, err := s.removeBuriedRow(ctx, id, row)
		if err != nil {
			return removed, "", err
		}
		if gone {
			removed++
		}
	}
	return removed, next, err
}

// removeBuriedRow removes the row if it is still as it was read and its user still has a tombstone: somebody may have
// restored the user meanwhile, and the row was then written anew.
func (s *Users) removeBuriedRow(ctx context.Context, id string, f found) (bool, error) {
	defer s.rows.Lock(id)()
	if dead, err := s.IsDeleted(ctx, id); !dead || err != nil {
		return false, err
	}
	return s.rows.DeleteIf(ctx, id, f.guard)
}

// retention is a collection whose rows are removed when they are old.
type retention struct {
	rows  *database.Collection
	index database.Index // on the time of a row, with how long after that time MongoDB removes it
}

// Setup makes the TTL index, by which MongoDB removes old rows. It may be called again.
func (r retention) Setup(ctx context.Context) error { return r.rows.EnsureIndex(ctx, r.index) }

// LacksIndex tells whether Setup has something to do.
func (r retention) LacksIndex(ctx context.Context) (bool, error) {
	return r.rows.LacksIndex(ctx, r.index)
}

// Forget removes at most limit rows from before a time and returns how many it removed. Only MongoDB removes old rows
// by itself.
func (r retention) Forget(ctx context.Context, before time.Time, limit int) (int, error) {
	return r.rows.RemoveOld(ctx, r.index.Field, before, limit)
}
