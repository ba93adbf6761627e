package main

import (
	"cmp"
	"context"
	"errors"
	"os"
	"runtime/debug"

	"clerksync/app"
	"clerksync/config"
	"clerksync/history"
	"clerksync/internal/dev"
	"clerksync/internal/textfile"
	"clerksync/reconcile"
	"clerksync/store"
	"clerksync/store/database"
	"clerksync/store/mapping"
)

// maxSecretFile is the size of the largest file that may hold a secret, in bytes.
const maxSecretFile = 64 << 10

// readSettings reads the settings from environ and from the files that it names.
func readSettings(environ []string) (config.Config, config.Mistakes) {
	return config.Read(environ, func(path string) (string, error) { return textfile.Read(path, maxSecretFile) })
}

// readConfigForCommand reads the settings for a command other than 'serve' and 'dev'. It checks only those of the
// database, of Clerk's API and of the history, and those whose names begin with one of also. If MONGODB_URI is not set,
// it takes the database of 'clerksync dev' in this folder.
func readConfigForCommand(ctx context.Context, environ []string, also ...string) (config.Config, error) {
	cfg, mistakes := readSettings(environ)
	if _, err := takeDevFolder(ctx, &cfg, mistakes); err != nil {
		return cfg, err
	}
	settings := append(clerkSettings(), append(also, "MONGODB_", "CLERKSYNC_", "HISTORY_")...)
	return cfg, append(mistakes, app.Check(cfg).Only(settings...)...).Err()
}

// readConfigAndMap reads the settings as readConfigForCommand does, and the map. The error has the mistakes in both.
func readConfigAndMap(
	ctx context.Context, environ []string, also ...string,
) (config.Config, *mapping.Map, error) {
	cfg, err := readConfigForCommand(ctx, environ, also...)
	m, mapErr := app.LoadMap(cfg)
	return cfg, m, errors.Join(err, mapErr)
}

// clerkSettings returns the names of the settings of Clerk's API.
func clerkSettings() []string {
	return []string{"CLERK_INSTANCE_ID", "CLERK_SECRET_KEY", "CLERK_API_URL", "CLERK_RATE_SHARE"}
}

// devDatabase is the database of 'clerksync dev'.
const devDatabase = config.EmbeddedPrefix + "./" + dev.Folder

// takeDevFolder sets the database to that of 'clerksync dev' in this folder, if no database is set, not even wrongly,
// and the folder has one. It tells whether it did. Then it also sets dev's Inngest and signing secret, if these are not
// set. It fails if that is the database of a mongod, and 'dev' does not run.
func takeDevFolder(ctx context.Context, c *config.Config, mistakes config.Mistakes) (bool, error) {
	set := c.MongoURI != "" || len(mistakes.Only("MONGODB_URI")) > 0
	if f, err := os.Stat(dev.Folder); set || err != nil || !f.IsDir() {
		return false, nil
	}
	running, _ := dev.Find()
	if !running.Answers(ctx) { // it was killed: then what a 'dev' that is started now would have
		running = dev.Running{}
	}
	c.MongoURI = devDatabase
	if dev.HasMongod() {
		if c.MongoURI = running.Database; c.MongoURI == "" {
			return false, errors.New("MONGODB_URI is not set, and the database in ./" + dev.Folder + ", which is a " +
				"mongod's, only runs while 'clerksync dev' does: start that in this folder, or set MONGODB_URI")
		}
	}
	if c.Inngest.Dev == "" && !c.Inngest.SelfHosted() {
		c.Inngest.Dev = cmp.Or(running.Inngest, "1")
	}
	if c.SigningSecrets == "" {
		c.SigningSecrets = cmp.Or(running.Secret, dev.MakeSecret())
	}
	return true, nil
}

// access says what a command does with the database besides reading it.
type access struct {
	onlyLooks bool // it writes nothing: it makes no indexes, and has no map remembered
	switchMap bool // its map takes the place of the one that is remembered
}

// withClerk reads the settings and the map, opens the database, prepares it, and calls do.
func withClerk(
	ctx context.Context, e env, how access, do func(*database.DB, *reconcile.Reconcile) error, also ...string,
) error {
	if !isSet(e.environ, "GOGC") {
		// A run over all users keeps little in memory and makes much garbage: with 400 it takes a fifth less CPU time.
		defer debug.SetGCPercent(debug.SetGCPercent(400))
	}
	cfg, m, err := readConfigAndMap(ctx, e.environ, also...)
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
	users := store.NewUsers(db, m)
	past := app.History(cfg, db, users, log)
	err = how.prepare(ctx, db, users, past)
	if err == nil {
		err = do(db, app.Reconciler(cfg, api, db, users, log))
	}
	return errors.Join(err, past.Flush(ctx), db.Close(ctx))
}

// prepare checks that the map is the one that the database remembers. Unless the command only looks, it makes the
// indexes, and then has the map remembered: a map that does not fit the collection is not.
func (a access) prepare(ctx context.Context, db *database.DB, users *store.Users, past *history.History) error {
	if !a.switchMap {
		if err := app.CheckMap(ctx, db, users.Map(), ""); err != nil {
			return err
		}
	}
	if a.onlyLooks {
		return nil
	}
	if err := app.Prepare(ctx, db, users, past); err != nil {
		return err
	}
	if a.switchMap {
		return app.SwitchMap(ctx, db, users.Map())
	}
	return app.RememberMap(ctx, db, users.Map(), "")
}
