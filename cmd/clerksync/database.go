package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"clerksync/config"

	"clerksync/inbox"
	"clerksync/store"
	"clerksync/store/embedded"
)

// database is an open database, with the embedded engine under it if that is what it is.
type database struct {
	*store.DB
	engine *embedded.Server // nil with an external database, and with one embedded in another process
}

// databaseWait is how long a database that does not answer at start is waited for.
const databaseWait = 30 * time.Second

// openDatabase connects, and starts the embedded database first if that is what the settings name.
func openDatabase(ctx context.Context, cfg config.Config, log *slog.Logger) (*database, error) {
	db, uri := &database{}, cfg.MongoURI
	if dir, ok := cfg.Embedded(); ok {
		engine, err := embedded.Start(ctx, dir, "127.0.0.1:0", log)
		if err != nil {
			return nil, err
		}
		db.engine, uri = engine, engine.URI()
	}
	var err error
	if db.DB, err = waitForDatabase(ctx, uri, cfg.DatabaseName(), log); err != nil {
		return nil, errors.Join(err, db.close(ctx))
	}
	db.Log = log
	if db.engine != nil {
		db.IDs = db.engine.IDsOf(db.Name())
	}
	return db, nil
}

func waitForDatabase(ctx context.Context, uri, name string, log *slog.Logger) (db *store.DB, err error) {
	bounded, cancel := context.WithTimeout(ctx, databaseWait)
	defer cancel()
	err = patiently(ctx, log, func() error {
		db, err = store.Connect(bounded, uri, name)
		return err
	})
	if store.MayPass(err) {
		return nil, fmt.Errorf("%w: check MONGODB_URI, and that the database runs", err)
	}
	return db, err
}

// patiently calls f until it succeeds or fails for good, and for databaseWait while its error may go by itself.
func patiently(ctx context.Context, log *slog.Logger, f func() error) error {
	end := time.Now().Add(databaseWait)
	for {
		err := f()
		if err == nil || !store.MayPass(err) || ctx.Err() != nil || time.Now().After(end) {
			return err
		}
		log.WarnContext(ctx, "the database is not ready yet; trying again", "error", err)
		select {
		case <-time.After(500 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// readConfigForCommand reads the settings for a command other than 'serve' and 'dev'. Without MONGODB_URI the database
// is that of 'clerksync dev' in this folder.
func readConfigForCommand(environ []string) (config.Config, error) {
	cfg, err := config.Read(environ)
	takeDevFolder(&cfg)
	return cfg, errors.Join(err, checkClerkAPI(cfg), checkDatabase(cfg))
}

// takeDevFolder sets the database to that of 'clerksync dev' in this folder, if none is set and there is one, and tells
// whether it did.
func takeDevFolder(c *config.Config) bool {
	if _, err := os.Stat(devFolder); c.MongoURI != "" || err != nil {
		return false
	}
	c.MongoURI = config.EmbeddedPrefix + "./" + devFolder
	return true
}

// openBeside opens the database that the settings name for a command that runs beside the service or without it, and
// that writes no rows of users. It never makes a new one.
func openBeside(ctx context.Context, cfg config.Config, log *slog.Logger) (*database, error) {
	dir, ok := cfg.Embedded()
	if !ok {
		return openDatabase(ctx, cfg, log)
	}
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no folder %s: set MONGODB_URI to embedded:DIR with the service's folder", dir)
	}
	db, err := openDatabase(ctx, cfg, log)
	if !errors.Is(err, embedded.ErrLocked) {
		return db, err
	}
	if cfg.MongoURI, err = embedded.Running(dir); err != nil { // by the service
		return nil, err
	}
	return openDatabase(ctx, cfg, log)
}

// prepare makes what the collections need.
func (db *database) prepare(ctx context.Context) error {
	if err := errors.Join(store.NewUsers(db.DB).Setup(ctx), inbox.Setup(ctx, db.DB), store.NewWelcomes(db.DB).Setup(ctx), store.NewRuns(db.DB).Setup(ctx)); err != nil {
		return fmt.Errorf("prepare the database: %w", err)
	}
	if db.engine != nil {
		return db.engine.IndexIDs(ctx, db.Name())
	}
	foreign, err := store.NewUsers(db.DB).ForeignUnique(ctx)
	for _, name := range foreign {
		db.Log.WarnContext(ctx, foreignIndex, "index", name)
	}
	return err
}

// foreignIndex says what a unique index of the app's does.
const foreignIndex = "a unique index of the app's on users refuses each user who has the same value as another, who then becomes a dead letter: drop it, or make it not unique"

// prepared tells whether prepare has been done.
func (db *database) prepared(ctx context.Context) (bool, error) {
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

func (db *database) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	var errs []error
	if db.DB != nil {
		errs = append(errs, db.Close(ctx))
	}
	if db.engine != nil {
		errs = append(errs, db.engine.Close())
	}
	return errors.Join(errs...)
}
