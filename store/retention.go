package store

import (
	"context"
	"time"

	"clerksync/store/database"
)

// retention is a collection whose rows are forgotten when they are old.
type retention struct {
	rows  *database.Collection
	field string        // the time of a row
	keep  time.Duration // how long after that time MongoDB removes it
}

func (r retention) index() database.Index { return database.Index{Field: r.field, TTL: r.keep} }

// Setup makes the index by which MongoDB forgets rows. It can be repeated.
func (r retention) Setup(ctx context.Context) error { return r.rows.EnsureIndex(ctx, r.index()) }

// LacksIndex tells whether Setup has something to do.
func (r retention) LacksIndex(ctx context.Context) (bool, error) {
	return r.rows.LacksIndex(ctx, r.index())
}

// Forget removes rows from before a time, limit at the most, and returns how many. Only MongoDB forgets by itself.
func (r retention) Forget(ctx context.Context, before time.Time, limit int) (int, error) {
	return r.rows.RemoveOld(ctx, r.field, before, limit)
}
