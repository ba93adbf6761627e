package main

import (
	"context"
	"errors"
	"runtime/debug"

	"clerksync/app"
	"clerksync/reconcile"
	"clerksync/store/database"
)

// withClerk reads the settings of the database, of Clerk's API and those whose names begin with also, opens the
// database, prepares it unless the command only looks, and calls do.
func withClerk(
	ctx context.Context, e env, onlyLooks bool, do func(*database.DB, *reconcile.Reconcile) error, also ...string,
) error {
	if !isSet(e.environ, "GOGC") {
		// Who goes through all users keeps little in memory and throws much away: this takes a fifth less CPU time.
		defer debug.SetGCPercent(debug.SetGCPercent(400))
	}
	cfg, err := readConfigForCommand(e.environ, also...)
	if err != nil {
		return err
	}
	api, err := app.ClerkAPI(cfg)
	if err != nil {
		return err
	}
	log := app.Logger(cfg, e.stderr)
	db, err := app.OpenDatabase(ctx, cfg, log)
	if err != nil {
		return err
	}
	if !onlyLooks {
		err = app.Prepare(ctx, db)
	}
	if err == nil {
		err = do(db, app.Reconciler(cfg, api, db, log))
	}
	return errors.Join(err, db.Close(ctx))
}
