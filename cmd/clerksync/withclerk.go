package main

import (
	"context"
	"errors"
	"log/slog"
	"runtime/debug"

	"clerksync/app"
	"clerksync/clerk"
	"clerksync/config"
	"clerksync/reconcile"
	"clerksync/store"
	"clerksync/store/database"
)

// opened is what a command works with that asks Clerk and writes rows.
type opened struct {
	cfg   config.Config
	api   *clerk.API
	db    *database.DB
	users *store.Users
	log   *slog.Logger
}

// withClerk reads the settings, opens the database, prepares it unless the command only looks, and calls do.
func withClerk(ctx context.Context, e env, onlyLooks bool, do func(opened) error) error {
	if !isSet(e.environ, "GOGC") {
		// Who goes through all users keeps little in memory and throws much away: this takes a fifth less CPU time.
		defer debug.SetGCPercent(debug.SetGCPercent(400))
	}
	cfg, err := readConfigForCommand(e.environ)
	if err != nil {
		return err
	}
	o := opened{cfg: cfg, log: app.Logger(cfg, e.stderr)}
	if o.api, err = app.ClerkAPI(cfg); err != nil {
		return err
	}
	if o.db, err = app.OpenDatabase(ctx, cfg, o.log); err != nil {
		return err
	}
	if !onlyLooks {
		err = app.Prepare(ctx, o.db)
	}
	if err == nil {
		o.users = store.NewUsers(o.db)
		err = do(o)
	}
	return errors.Join(err, o.db.Close(ctx))
}

func (o opened) reconciler() *reconcile.Reconcile {
	return app.Reconciler(o.cfg, o.api, o.users, database.NewCheckpoints(o.db), o.log)
}
