package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"

	"clerksync/config"
	"clerksync/doctor"
	"clerksync/history"
	"clerksync/inbox"
	"clerksync/store"
	"clerksync/store/database"
)

// OpenDatabase opens the database that the settings name, an embedded one on any free port: the one that is set, or
// kept for other programs, is the service's.
func OpenDatabase(ctx context.Context, cfg config.Config, log *slog.Logger) (*database.DB, error) {
	db, err := database.Open(ctx, cfg.MongoURI, cfg.DatabaseName(), log)
	return db, databaseError(err)
}

// OpenBeside opens the database that the settings name for a command that writes no rows of users, whether the service
// runs or not. It never makes a new database.
func OpenBeside(ctx context.Context, cfg config.Config, log *slog.Logger) (*database.DB, error) {
	db, err := database.OpenBeside(ctx, cfg.MongoURI, cfg.DatabaseName(), log)
	return db, databaseError(err)
}

// databaseError adds to an error which setting to change.
func databaseError(err error) error {
	switch {
	case errors.Is(err, database.ErrLocked):
		return fmt.Errorf("%w (MONGODB_URI=embedded:DIR)", err)
	case errors.Is(err, database.ErrPort):
		return fmt.Errorf("%w: set EMBEDDED_PORT to a free port, or leave it unset", err)
	case errors.Is(err, database.ErrNoFolder):
		return fmt.Errorf("%w: set MONGODB_URI to embedded:DIR with the service's folder", err)
	case errors.Is(err, database.ErrLeftOut):
		return fmt.Errorf("%w: set MONGODB_URI to mongodb://…, or build without -tags noembedded", err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: let this process write to the folder and to what is in it, or set MONGODB_URI to "+
			"embedded:DIR with a folder that it may write to", err)
	case errors.As(err, new(*fs.PathError)):
		return fmt.Errorf("%w: set MONGODB_URI to embedded:DIR with a folder that this process may write to", err)
	case database.RefusesLogin(err):
		return fmt.Errorf("%w: the user name or the password in MONGODB_URI is not accepted: "+
			"check both, and authSource; in a password, every character but letters and digits is written %%XX, "+
			"such as %%40 for @", err)
	case database.Unreached(err) != "":
		return fmt.Errorf("%w (MONGODB_URI)", err)
	case database.MayPass(err):
		return fmt.Errorf("%w: check MONGODB_URI, and that the database runs", err)
	}
	return err
}

// indexed is a collection on which clerksync makes indexes.
type indexed interface {
	Setup(ctx context.Context) error
	LacksIndex(ctx context.Context) (bool, error)
}

func collections(db *database.DB, users *store.Users, h *history.History) []indexed {
	return []indexed{users, inbox.NewTable(db), store.NewWelcomes(db), store.NewRuns(db), h}
}

// Prepare makes the indexes that are missing, and logs a warning for each unique index of the app that would refuse
// rows. It fails, and makes none, if such an index refuses what the map writes for every second user.
func Prepare(ctx context.Context, db *database.DB, users *store.Users, h *history.History) error {
	clashes, others, err := users.Clashes(ctx)
	if err != nil {
		return err
	}
	var refused []error
	for _, c := range clashes {
		if c.Refused {
			refused = append(refused, errors.New(c.Text))
		}
	}
	if err := errors.Join(refused...); err != nil {
		return err
	}
	for _, c := range collections(db, users, h) {
		if err := c.Setup(ctx); err != nil {
			return fmt.Errorf("prepare the database: %w", err)
		}
	}
	for _, c := range clashes {
		db.Log.WarnContext(ctx, "a unique index of the app's will refuse users", "index", c.Index, "do", c.Text)
	}
	for _, name := range others {
		db.Log.WarnContext(ctx, doctor.ForeignIndex, "index", name) //nolint:sloglint // it is a constant
	}
	return nil
}

// Prepared tells whether all indexes exist that Prepare makes. It fails if CheckMap does.
func Prepared(ctx context.Context, db *database.DB, users *store.Users, h *history.History) (bool, error) {
	if err := CheckMap(ctx, db, users.Map(), ""); err != nil {
		return false, err
	}
	for _, c := range collections(db, users, h) {
		if lacks, err := c.LacksIndex(ctx); lacks || err != nil {
			return false, err
		}
	}
	return true, nil
}
