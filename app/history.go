package app

import (
	"context"
	"log/slog"
	"time"

	"clerksync/config"
	"clerksync/history"
	"clerksync/store"
	"clerksync/store/database"
)

// History returns the history of users, and has it note what is written to them from now on, unless the settings turn
// it off.
func History(c config.Config, db *database.DB, users *store.Users, log *slog.Logger) *history.History {
	h := history.New(db, c.HistoryRetention, log)
	if c.HistoryRetention > 0 {
		users.Watch(h.Record)
	}
	return h
}

// flushTime is how long the end of the service waits for what the history owes.
const flushTime = 2 * time.Second

// openHistory has the service note what it writes. What the database did not take at the end is tried once more.
func (a *App) openHistory() {
	a.history = History(a.cfg, a.db, a.users, a.log)
	a.onClose("history", func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, flushTime)
		defer cancel()
		return a.history.Flush(ctx)
	})
}
