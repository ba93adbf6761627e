package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"clerksync/clerk"
	"clerksync/functions"
	"clerksync/inbox"
	"clerksync/reconcile"
	"clerksync/store"
	"clerksync/store/database"

	"go.mongodb.org/mongo-driver/v2/bson"
)

type usersCmd struct {
	Ensure  usersEnsure  `cmd:"" help:"Print a user's row, fetched from Clerk if there is none. Sends no events."`
	Restore usersRestore `cmd:"" help:"Bring back a user whom Clerk has despite a tombstone. Sends no events."`
	Show    usersShow    `cmd:"" help:"Print a user's row, and what waits or has failed. Needs no Clerk key."`
	Why     usersWhy     `cmd:"" help:"Say why a user's row is as it is: what was written by what, and what was not."`
	Export  usersExport  `cmd:"" help:"Print all that is kept of a user, as JSON. Needs no Clerk key."`
	Erase   usersErase   `cmd:"" help:"Remove all that is kept of a user whom Clerk no longer has."`
}

type usersEnsure struct {
	ID id `arg:"" help:"Clerk's id of the user (user_…)."`
}

// Run prints the row.
func (c usersEnsure) Run(ctx context.Context, e env) error {
	return printRow(ctx, e, func(_ *database.DB, r *reconcile.Reconcile) (store.Row, error) {
		ensure := &reconcile.Ensure{API: r.API, Users: r.Users}
		row, err := ensure.Row(ctx, string(c.ID))
		switch {
		case errors.Is(err, reconcile.ErrDeleted):
			err = fmt.Errorf("%s: %w, and stays so; if Clerk has the user: clerksync users restore %s", c.ID, err, c.ID)
		case errors.Is(err, clerk.ErrNoUser):
			err = fmt.Errorf("%s: %w: check the id, and that CLERK_SECRET_KEY is of its instance", c.ID, err)
		}
		return row, err
	})
}

type usersRestore struct {
	ID id `arg:"" help:"Clerk's id of the user (user_…)."`

	watch time.Duration // 0 means restoreWatch
}

// restoreWatch is a little longer than a function may run: one that saw the tombstone before it was lifted may still
// remove the row.
const restoreWatch = functions.RunTimeout + 5*time.Second

// Help returns the text of --help besides the flags.
func (usersRestore) Help() string {
	return "A user who is deleted stays so, by a tombstone. If Clerk has the user nevertheless " +
		"('clerksync reconcile --dry-run' says buried), this lifts the tombstone, writes the row, and looks at it " +
		"for " + restoreWatch.String() + ": a function that had seen the tombstone may remove it once more. " +
		"It refuses while the user's deletion waits in the inbox or is a dead letter."
}

// Run brings the user back and prints the row.
func (c usersRestore) Run(ctx context.Context, e env) error {
	return printRow(ctx, e, func(db *database.DB, r *reconcile.Reconcile) (store.Row, error) {
		watch, written := cmp.Or(c.watch, restoreWatch), 0
		restore := &reconcile.Restore{
			API: r.API, Users: r.Users, Watch: watch, Every: watch / 65,
			Deletions: inbox.NewTable(db).Deletions,
			Written: func() {
				what := fmt.Sprintf("the row is written; looking at it for %s", watch)
				if written++; written > 1 {
					what = "the row has gone, and is written again"
				}
				_, _ = fmt.Fprintln(e.stderr, what) // a closed terminal does not end it
			},
		}
		row, err := restore.Run(ctx, string(c.ID))
		switch {
		case written > 0 && ctx.Err() != nil:
			err = errors.New("cut off: run it again, to look at the row until nobody can remove it any more")
		case errors.Is(err, reconcile.ErrDeleted):
			err = fmt.Errorf("%s: %w, by an event that came meanwhile", c.ID, err)
		case errors.Is(err, clerk.ErrNoUser):
			err = fmt.Errorf("%s: %w, so the tombstone is right: "+
				"check the id, and that CLERK_SECRET_KEY is of its instance", c.ID, err)
		case err != nil:
			err = fmt.Errorf("%s: %w", c.ID, err)
		}
		return row, err
	})
}

// printRow calls makeRow, which returns the row of one of Clerk's users, and prints the row.
func printRow(
	ctx context.Context, e env, makeRow func(*database.DB, *reconcile.Reconcile) (store.Row, error),
) error {
	return withClerk(ctx, e, access{}, func(db *database.DB, r *reconcile.Reconcile) error {
		if err := reconcile.CheckInstance(ctx, r.API, r.State, r.InstanceID, false); err != nil {
			return err
		}
		row, err := makeRow(db, r)
		if err != nil {
			return err
		}
		text, err := rowText(row)
		if err == nil {
			_, err = fmt.Fprintln(e.stdout, text)
		}
		return err
	})
}

// rowText formats a row as docs/your-app.md shows it. The user has chosen the names in it, so they are escaped.
func rowText(r store.Row) (string, error) {
	b, err := bson.MarshalExtJSONIndent(r.Doc, false, false, "", "  ")
	return escaped(string(b), "\n"), err
}
