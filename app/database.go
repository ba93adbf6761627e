package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"clerksync/config"
	"clerksync/doctor"

	"clerksync/inbox"
	"clerksync/store"
	"clerksync/store/database"
	"clerksync/store/embedded"
)

// database is an open database, with the embedded engine under it if that is what it is.
type Database struct {
	*database.DB
	Engine *embedded.Server // nil with an external database, and with one embedded in another process
}

// DatabaseWait is how long a database that does not answer at start is waited for.
const DatabaseWait = 30 * time.Second

// OpenDatabase connects, and starts the embedded database first if that is what the settings name.
func OpenDatabase(ctx context.Context, cfg config.Config, log *slog.Logger) (*Database, error) {
	db, uri := &Database{}, cfg.MongoURI
	if dir, ok := cfg.Embedded(); ok {
		engine, err := embedded.Start(ctx, dir, "127.0.0.1:0", log)
		if err != nil {
			return nil, err
		}
		db.Engine, uri = engine, engine.URI()
	}
	var err error
	if db.DB, err = waitForDatabase(ctx, uri, cfg.DatabaseName(), log); err != nil {
		return nil, errors.Join(err, db.Close(ctx))
	}
	db.Log = log
	if db.Engine != nil {
		db.IDs = db.Engine.IDsOf(db.Name())
	}
	return db, nil
}

func waitForDatabase(ctx context.Context, uri, name string, log *slog.Logger) (db *database.DB, err error) {
	bounded, cancel := context.WithTimeout(ctx, DatabaseWait)
	defer cancel()
	err = patiently(ctx, log, func() error {
		db, err = database.Connect(bounded, uri, name)
		return err
	})
	if database.MayPass(err) {
		return nil, fmt.Errorf("%w: check MONGODB_URI, and that the database runs", err)
	}
	return db, err
}

// patiently calls f until it succeeds or fails for good, and for DatabaseWait while its error may go by itself.
func patiently(ctx context.Context, log *slog.Logger, f func() error) error {
	end := time.Now().Add(DatabaseWait)
	for {
		err := f()
		if err == nil || !database.MayPass(err) || ctx.Err() != nil || time.Now().After(end) {
			return err
		}
		log.WarnContext(ctx, "the database is not ready yet; trying again", "error", err)
		select {
		case <-time.After(500 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// OpenBeside opens the database that the settings name for a command that runs beside the service or without it, and
// that writes no rows of users. It never makes a new one.
func OpenBeside(ctx context.Context, cfg config.Config, log *slog.Logger) (*Database, error) {
	dir, ok := cfg.Embedded()
	if !ok {
		return OpenDatabase(ctx, cfg, log)
	}
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no folder %s: set MONGODB_URI to embedded:DIR with the service's folder", dir)
	}
	db, err := OpenDatabase(ctx, cfg, log)
	if !errors.Is(err, embedded.ErrLocked) {
		return db, err
	}
	if cfg.MongoURI, err = embedded.Running(dir); err != nil { // by the service
		return nil, err
	}
	return OpenDatabase(ctx, cfg, log)
}

// prepare makes what the collections need.
func (db *Database) Prepare(ctx context.Context) error {
	if err := errors.Join(store.NewUsers(db.DB).Setup(ctx), inbox.Setup(ctx, db.DB), store.NewWelcomes(db.DB).Setup(ctx), store.NewRuns(db.DB).Setup(ctx)); err != nil {
		return fmt.Errorf("prepare the database: %w", err)
	}
	if db.Engine != nil {
		return db.Engine.IndexIDs(ctx, db.Name())
	}
	foreign, err := store.NewUsers(db.DB).ForeignUnique(ctx)
	for _, name := range foreign {
		db.Log.WarnContext(ctx, doctor.ForeignIndex, "index", name)
	}
	return err
}

// prepared tells whether prepare has been done.
func (db *Database) Prepared(ctx context.Context) (bool, error) {
	for _, lacks := range []func(context.Context) (bool, error){
		store.NewUsers(db.DB).LackIndexes,
		func(ctx context.Context) (bool, error) { return inbox.LacksIndex(ctx, db.DB) },
		store.NewWelcomes(db.DB).LackIndex,
		store.NewRuns(db.DB).LackIndex,
	} {
		if yes, err := lacks(ctx); yes || err != nil {
			return false, err
		}
	}
	return true, nil
}

func (db *Database) Close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	var errs []error
	if db.DB != nil {
		errs = append(errs, db.DB.Close(ctx))
	}
	if db.Engine != nil {
		errs = append(errs, db.Engine.Close())
	}
	return errors.Join(errs...)
}
