package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"clerksync/app"
	"clerksync/config"

	"clerksync/clerk"
	"clerksync/functions"
	"clerksync/inbox"
	"clerksync/reconcile"
	"clerksync/store"
	"clerksync/store/database"
)

type usersRestore struct {
	ID string `arg:"" help:"Clerk's id of the user (user_…)."`

	watch time.Duration // 0 is restoreWatch
}

// restoreWatch is how long a function that saw the tombstone before it was lifted may still run, and a little more.
const restoreWatch = functions.RunTimeout + 5*time.Second

// Help is what --help says beside the flags.
func (usersRestore) Help() string {
	return "A user who is deleted stays so, by a tombstone. If Clerk has the user nevertheless ('clerksync reconcile --dry-run' says buried), this lifts the " +
		"tombstone, writes the row, and looks at it for " + restoreWatch.String() + ": a function that had seen the tombstone may remove it once more. " +
		"It refuses while the user's deletion waits in the inbox or is a dead letter."
}

// Run brings the user back and prints the row.
func (c usersRestore) Run(ctx context.Context, e env) error {
	cfg, err := readConfigForCommand(e.environ)
	if err != nil {
		return err
	}
	api, err := app.ClerkAPI(cfg)
	if err != nil {
		return err
	}
	db, err := app.OpenDatabase(ctx, cfg, app.Logger(cfg, e.stderr))
	if err != nil {
		return err
	}
	return errors.Join(c.run(ctx, e, cfg, api, db), db.Close(ctx))
}

func (c usersRestore) run(ctx context.Context, e env, cfg config.Config, api *clerk.API, db *database.DB) error {
	if err := errors.Join(app.Prepare(ctx, db), app.CheckInstance(ctx, cfg, api, db, false)); err != nil {
		return err
	}
	watch, written := cmp.Or(c.watch, restoreWatch), 0
	restore := &reconcile.Restore{
		API: api, Users: store.NewUsers(db), Watch: watch, Every: watch / 65,
		Deletions: func(ctx context.Context, id string) (waiting, dead []string, err error) {
			return inbox.Deletions(ctx, db, id)
		},
		Written: func() {
			what := fmt.Sprintf("the row is written; looking at it for %s", watch)
			if written++; written > 1 {
				what = "the row has gone, and is written again"
			}
			_, _ = fmt.Fprintln(e.stderr, what) // a closed terminal ends nothing
		},
	}
	r, err := restore.Run(ctx, c.ID)
	switch {
	case written > 0 && ctx.Err() != nil:
		return errors.New("cut off: run it again, to look at the row until nobody can remove it any more")
	case errors.Is(err, reconcile.ErrDeleted):
		return fmt.Errorf("%s: %w, by an event that came meanwhile", c.ID, err)
	case errors.Is(err, clerk.ErrNoUser):
		return fmt.Errorf("%s: %w, so the tombstone is right: check the id, and that CLERK_SECRET_KEY is of its instance", c.ID, err)
	case err != nil:
		return fmt.Errorf("%s: %w", c.ID, err)
	}
	text, err := rowText(r)
	if err == nil {
		_, err = fmt.Fprintln(e.stdout, text)
	}
	return err
}
