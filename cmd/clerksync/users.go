package main

import (
	"context"
	"errors"
	"fmt"

	"clerksync/app"
	"clerksync/config"

	"clerksync/clerk"
	"clerksync/reconcile"
	"clerksync/store"
	"clerksync/store/database"

	"go.mongodb.org/mongo-driver/v2/bson"
)

type usersCmd struct {
	Ensure  usersEnsure  `cmd:"" help:"Print a user's row; if there is none, fetch the user from Clerk and write it. Sends no events."`
	Restore usersRestore `cmd:"" help:"Bring back a user whom Clerk has although there is a tombstone. Sends no events."`
}

type usersEnsure struct {
	ID string `arg:"" help:"Clerk's id of the user (user_…)."`
}

// Run prints the row.
func (c usersEnsure) Run(ctx context.Context, e env) error {
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

func (c usersEnsure) run(ctx context.Context, e env, cfg config.Config, api *clerk.API, db *database.DB) error {
	if err := errors.Join(app.Prepare(ctx, db), app.CheckInstance(ctx, cfg, api, db, false)); err != nil {
		return err
	}
	ensure := &reconcile.Ensure{API: api, Users: store.NewUsers(db)}
	r, err := ensure.Row(ctx, c.ID)
	switch {
	case errors.Is(err, reconcile.ErrDeleted):
		return fmt.Errorf("%s: %w, and stays so; if Clerk has the user: clerksync users restore %s", c.ID, err, c.ID)
	case errors.Is(err, clerk.ErrNoUser):
		return fmt.Errorf("%s: %w: check the id, and that CLERK_SECRET_KEY is of its instance", c.ID, err)
	case err != nil:
		return err
	}
	text, err := rowText(r)
	if err == nil {
		_, err = fmt.Fprintln(e.stdout, text)
	}
	return err
}

// rowText prints a row as docs/your-app.md shows it.
func rowText(r store.Row) (string, error) {
	b, err := bson.MarshalExtJSONIndent(r, false, false, "", "  ")
	return string(b), err
}
