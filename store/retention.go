package store

import (
	"context"
	"time"

	"clerksync/store/database"
)

// retention is a collection whose rows are removed when they are old.
type retention struct {
	rows  *database.Collection
	field string        // holds the time of a row
	keep  time.Duration // how long after that time MongoDB removes it
}

func (r retention) index() database.Index { return database.Index{Field: r.field, TTL: r.keep} }

// Setup makes the TTL index, by which MongoDB removes old rows. It may be called again.
func (r retention) Setup(ctx context.Context) error { return r.rows.EnsureIndex(ctx, r.index()) }

// LacksIndex tells whether Setup has something to do.
func (r retention) LacksIndex(ctx context.Context) (bool, error) {
	return r.rows.LacksIndex(ctx, r.index())
}

// Forget removes at most limit rows from before a time and returns how many it removed. Only MongoDB removes old rows
// by itself.
func (r retention) Forget(ctx context.Context, before time.Time, limit int) (int, error) {
	return r.rows.RemoveOld(ctx, r.field, before, limit)
}
