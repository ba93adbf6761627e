// Package database is the only package that knows how MongoDB and FerretDB v1 differ.
// docs/adr/0004-embedded-database.md describes the differences.
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
	"sync/atomic"
	"time"

	"clerksync/store/embedded"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"
)

// DB is a connected database. It is safe for concurrent use.
type DB struct {
	*mongo.Database
	// Ingress is the same database with connections that are reserved for webhooks: Clerk waits for their answers, so
	// they must not queue behind functions and sweeps. It is nil if there are no such connections.
	Ingress *mongo.Database
	// OneProcess says that the database is FerretDB v1, embedded or not. Its conditional updates are not atomic, so
	// only this process may write, and a row is updated by its _id alone. Only this package and tests need to know it.
	OneProcess bool
	Log        *slog.Logger // gets a line about operations that take long

	engine    *embedded.Server // nil if the database does not run in this process
	locks     sync.Map         // *locks by collection
	observers []func(context.Context, Command)
	monitor   *event.CommandMonitor // of both clients

	collections sync.Map // of the commands that run, by the driver's id of the command, see ObserveCollections

	// readsLists says that the server has refused the operators that keep a list sorted and short, see PushEach.
	readsLists atomic.Bool
}

// EmbeddedPrefix is the beginning of the URI of an embedded database; the path of its folder follows.
const EmbeddedPrefix = "embedded:"

var (
	// ErrLocked says that another process uses the folder of an embedded database.
	ErrLocked = embedded.ErrLocked
	// ErrNoFolder says that the embedded database that OpenBeside was to open does not exist.
	ErrNoFolder = errors.New("there is no folder")
	// ErrPort says that an embedded database cannot listen on the port that it was given.
	ErrPort = embedded.ErrPort
	// ErrLeftOut says that this build has no embedded database, because of -tags noembedded.
	ErrLeftOut = embedded.ErrLeftOut
)

// opTimeout bounds one operation, including the driver's own retry, so that no caller waits forever for a dead
// database.
const opTimeout = 10 * time.Second

const (
	// ingressPool is how many connections are reserved for webhooks: the most inserts that the inbox has in flight.
	ingressPool = 16
	// maxPool is how many connections everything else shares.
	maxPool = 32
	// maxPoolOne is the same for FerretDB v1. Its writers wait for each other in no particular order: with 32
	// connections an insert waited for seconds (BenchmarkPriority). With ingressPool it stays below the about 40
	// parallel writes at which FerretDB v1 deadlocks.
	maxPoolOne = 8
)

// Open opens the database called name at a URI. For embedded:DIR it starts an embedded database in this process; the
// error is ErrLocked if another process uses that folder. Otherwise it connects to a server, and waits up to 30 seconds
// while the server starts. No error quotes the URI.
func Open(ctx context.Context, uri, name string, log *slog.Logger) (*DB, error) {
	return OpenOn(ctx, "0", uri, name, log)
}

// OpenOn is Open with the port on which an embedded database listens: "0" is any free one, "" the one that it had the
// last time, or else the first free one from 27018 on. The error is ErrPort if it cannot have the port.
func OpenOn(ctx context.Context, port, uri, name string, log *slog.Logger) (*DB, error) {
	if dir, isEmbedded := strings.CutPrefix(uri, EmbeddedPrefix); isEmbedded {
		addr := port
		if port != "" {
			addr = "127.0.0.1:" + port
		}
		engine, err := embedded.Start(ctx, dir, addr, log)
		if err != nil {
			return nil, err
		}
		db, err := Open(ctx, engine.URI(), name, log)
		if err != nil {
			return nil, errors.Join(err, engine.Close())
		}
		db.engine = engine
		return db, nil
	}
	var db *DB
	bounded, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := Patiently(ctx, log, func() (err error) {
		db, err = Connect(bounded, uri, name)
		return err
	})
	if err != nil {
		return nil, err
	}
	db.Log = log
	return db, nil
}

// OpenBeside opens a database for a command that writes no rows of users, whether the service runs or not. If an
// embedded database runs in another process, it connects to that one. It never makes a new one: the error is then
// ErrNoFolder.
func OpenBeside(ctx context.Context, uri, name string, log *slog.Logger) (*DB, error) {
	dir, isEmbedded := strings.CutPrefix(uri, EmbeddedPrefix)
	if !isEmbedded {
		return Open(ctx, uri, name, log)
	}
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w %s", ErrNoFolder, dir)
	}
	db, err := Open(ctx, uri, name, log)
	if errors.Is(err, ErrLocked) { // the service runs it
		if uri, err = embedded.Running(dir); err == nil {
			db, err = Open(ctx, uri, name, log)
		}
	}
	return db, err
}

// HoldsEmbedded tells whether the folder dir holds an embedded database in which something was written.
func HoldsEmbedded(dir string) bool { return embedded.Holds(dir) }

// patience is how long to wait at the start for a database that does not answer.
const patience = 30 * time.Second

// Patiently calls f until it succeeds, until MayPass says that its error will not pass, or until 30 seconds are over.
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

// Connect opens the database called name at the URI of a server, waits until the server answers or ctx ends, and asks
// which database it is. MayPass tells of the error whether trying again may help. No error quotes the URI, which holds
// a password.
func Connect(ctx context.Context, uri, name string) (*DB, error) {
	return ConnectWithin(ctx, opTimeout, uri, name)
}

// ConnectWithin is Connect for tests, which give each operation another limit than ten seconds: on a busy machine an
// answer may take longer.
func ConnectWithin(ctx context.Context, limit time.Duration, uri, name string) (*DB, error) {
	if err := CheckURI(uri); err != nil {
		return nil, fmt.Errorf("the connection string %w", err)
	}
	opts := options.Client().ApplyURI(uri)
	// What the connection string says of these does not count, docs/adr/0009-what-each-call-needs.md.
	opts.SetWriteConcern(writeconcern.Majority()).SetReadConcern(readconcern.Local()).
		SetReadPreference(readpref.Primary()).SetRetryWrites(true).SetRetryReads(true).
		SetTimeout(limit).SetServerSelectionTimeout(limit / 2).SetMaxPoolSize(ingressPool).
		SetAppName("clerksync")
	db := &DB{Log: slog.New(slog.DiscardHandler)}
	db.monitor = db.newMonitor()
	opts.SetMonitor(db.monitor)
	client, err := mongo.Connect(opts)
	if err != nil {
		return nil, fmt.Errorf("connect to the database: %w", Redact(err))
	}
	db.Database = client.Database(name) // until the kind of database is known
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

// EmbeddedURI returns the URI at which other programs reach the embedded database of this process; "" if there is none.
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

// Close closes the connections, for which it takes five seconds at most, or until the deadline of ctx, even if ctx was
// cancelled. Then it stops the embedded database.
func (db *DB) Close(ctx context.Context) error {
	limit := 5 * time.Second
	if end, bounded := ctx.Deadline(); bounded {
		limit = min(limit, time.Until(end))
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
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
