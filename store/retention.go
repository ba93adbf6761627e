package store

import (
	"context"
	"time"
)

// ForgetDeleted removes tombstones from before a time, limit at the most.
func (s *Users) ForgetDeleted(ctx context.Context, before time.Time, limit int) (int, error) {
	return s.db.RemoveOld(ctx, s.tombstones, s.locks, "deleted_at", before, limit)
}

// Forget removes claims from before a time, limit at the most.
func (w *Welcomes) Forget(ctx context.Context, before time.Time, limit int) (int, error) {
	return w.db.RemoveOld(ctx, w.rows, w.locks, "claimed_at", before, limit)
}
