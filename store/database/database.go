// Package database is the only place that knows how databases differ: MongoDB, and FerretDB v1, which
// docs/adr/0004-embedded-database.md describes.
package database

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"clerksync/store/embedded"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"
)

// DB is a database that rows are written to. It is safe for concurrent use.
type DB struct {
	*mongo.Database
	// Ingress is the same database through connections of its own, for what Clerk waits for: it does not stand in line
	// behind functions and sweeps. nil where there are none.
	Ingress *mongo.Database
	// OneProcess says that conditional updates are not atomic there, so that only this process may write and rows are
	// reached by _id alone: FerretDB v1, embedded or not. Nobody outside this package has to ask, except tests.
	OneProcess bool
	Log        *slog.Logger // is told what takes long

	engine *embedded.Server // nil with an external database, and with one embedded in another process
	locks  sync.Map         // *locks by collection
}

// EmbeddedPrefix begins the URI of an embedded database; its folder follows.
const EmbeddedPrefix = "embedded:"

var (
	// ErrLocked says that another process has the folder of an embedded database.
	ErrLocked = embedded.ErrLocked
	// ErrNoFolder says that OpenBeside was to make a new embedded database.
	ErrNoFolder = errors.New("there is no folder")
	// ErrLeftOut says that this build has no embedded database, because of -tags noembedded.
	ErrLeftOut = embedded.ErrLeftOut
)

// opTimeout bounds one operation, with the driver's own retry in it: no caller waits for a dead database for ever.
const opTimeout = 10 * time.Second

const (
	// ingressPool is how many connections are kept for what Clerk waits for: as many as the inbox has inserts in
	// flight.
	ingressPool = 16
	// maxPool is how many all others share.
	maxPool = 32
	// maxPoolOne is that for FerretDB v1, whose writers wait for each other, and not in turn: with 32 of them an insert
	// waited for seconds (BenchmarkPriority). Both together stay below the parallel writes at which it deadlocks, some
	// 40.
	maxPoolOne = 8
)

// CheckURI returns an error that says what is wrong with a connection string, without quoting it: the text follows the
// name of whatever holds it. It looks up the host of a mongodb+srv one.
func CheckURI(uri string) error {
	opts := options.Client().ApplyURI(uri)
	switch wc := opts.WriteConcern; {
	case strings.Contains(uri, "%00"): // CVE-2026-129934 of the driver up to v2.10.0: a NUL in credentials
		return errors.New("holds %00: remove it")
	case opts.Validate() != nil:
		return errors.New("cannot be used: set it to mongodb://HOST/DATABASE, or to mongodb+srv://HOST/DATABASE " +
			"with a HOST that has an SRV record")
	case wc != nil && !wc.Acknowledged():
		return errors.New("asks for unacknowledged writes (w=0): remove w=0, a lost write would go unseen")
	}
	return nil
}

// Open opens the database called name at a URI: of MongoDB, which is waited for while it starts, or embedded:DIR, which
// is started in this process. The error is ErrLocked if another process has that folder. No error quotes the URI.
func Open(ctx context.Context, uri, name string, log *slog.Logger) (*DB, error) {
	dir, isEmbedded := strings.CutPrefix(uri, EmbeddedPrefix)
	var engine *embedded.Server
	if isEmbedded {
		var err error
		if engine, err = embedded.Start(ctx, dir, "127.0.0.1:0", log); err != nil {
			return nil, err
		}
		uri = engine.URI()
	}
	var db *DB
	bounded, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := Patiently(ctx, log, func() (err error) {
		db, err = Connect(bounded, uri, name)
		return err
	})
	switch {
	case err != nil && isEmbedded:
		return nil, errors.Join(err, engine.Close())
	case err != nil:
		return nil, err
	}
	db.engine, db.Log = engine, log
	return db, nil
}

// OpenBeside opens a database for a command that runs beside the service or without it, and that writes no rows of
// users. An embedded one may be running in another process; it never makes a new one.
func OpenBeside(ctx context.Context, uri, name string, log *slog.Logger) (*DB, error) {
	dir, isEmbedded := strings.CutPrefix(uri, EmbeddedPrefix)
	if !isEmbedded {
		return Open(ctx, uri, name, log)
	}
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w %s", ErrNoFolder, dir)
	}
	db, err := Open(ctx, uri, name, log)
	if errors.Is(err, ErrLocked) { // by the service
		if uri, err = embedded.Running(dir); err == nil {
			db, err = Open(ctx, uri, name, log)
		}
	}
	return db, err
}

// patience is how long a database that does not answer at start is waited for.
const patience = 30 * time.Second

// Patiently calls f until it succeeds or fails for good, and for 30 seconds while its error may go by itself.
func Patiently(ctx context.Context, log *slog.Logger, f func() error) error {
	end := time.Now().Add(patience)
	for {
		err := f()
		if err == nil || !MayPass(err) || ctx.Err() != nil || time.Now().After(end) {
			return err
		}
		log.WarnContext(ctx, "the database is not ready yet; trying again", "error", err)
		select {
		case <-time.After(500 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// Connect opens the database called name at the URI of a server, waits until it answers (bounded by ctx) and finds out
// what kind it is. MayPass tells whether trying again may help. No error quotes the URI, which holds a password.
func Connect(ctx context.Context, uri, name string) (*DB, error) {
	if err := CheckURI(uri); err != nil {
		return nil, fmt.Errorf("the connection string %w", err)
	}
	opts := options.Client().ApplyURI(uri)
	// Primary and majority: what the tombstone protocol needs, docs/adr/0002-tombstones.md says why.
	opts.SetWriteConcern(writeconcern.Majority()).SetReadPreference(readpref.Primary()).
		SetRetryWrites(true).SetTimeout(opTimeout).SetServerSelectionTimeout(opTimeout / 2).SetMaxPoolSize(ingressPool).
		SetAppName("clerksync")
	client, err := mongo.Connect(opts)
	if err != nil {
		return nil, fmt.Errorf("connect to the database: %w", Redact(err))
	}
	db := &DB{Database: client.Database(name), Log: slog.New(slog.DiscardHandler)} // until it is known what kind it is
	if err := db.Ping(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("connect to the database: %w", err), db.Close(ctx))
	}
	info, err := db.build(ctx)
	if err != nil {
		return nil, errors.Join(err, db.Close(ctx))
	}
	db.OneProcess = info.FerretDBv1 != ""
	opts.SetMaxPoolSize(maxPool)
	if db.OneProcess {
		opts.SetMaxPoolSize(maxPoolOne)
	}
	if client, err = mongo.Connect(opts); err != nil {
		return nil, errors.Join(fmt.Errorf("connect to the database: %w", Redact(err)), db.Close(ctx))
	}
	db.Ingress, db.Database = db.Database, client.Database(name)
	return db, nil
}

// EmbeddedURI returns where other programs find the embedded database of this process; "" if it has none.
func (db *DB) EmbeddedURI() string {
	if db.engine == nil {
		return ""
	}
	return db.engine.URI()
}

// Ping fails if the database does not answer.
func (db *DB) Ping(ctx context.Context) error {
	return Redact(db.RunCommand(ctx, bson.D{{Key: "ping", Value: 1}}).Err())
}

// Close ends the connections, for five seconds at the most also if ctx has ended, and then the embedded database.
func (db *DB) Close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	err := db.Client().Disconnect(ctx)
	if db.Ingress != nil {
		err = errors.Join(err, db.Ingress.Client().Disconnect(ctx))
	}
	err = Redact(err)
	if db.engine != nil {
		err = errors.Join(err, db.engine.Close())
	}
	return err
}
