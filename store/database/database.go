// Package database is the only place that knows how databases differ: MongoDB, and FerretDB v1, which
// docs/adr/0004-embedded-database.md describes.
package database

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"
)

// DB is a database that rows are written to.
type DB struct {
	*mongo.Database
	// Ingress is the same database through connections of its own, for what Clerk waits for: it does not stand in line
	// behind functions and sweeps. nil where there are none.
	Ingress *mongo.Database
	// OneProcess says that conditional updates are not atomic there, so that only this process may write and rows are
	// reached by _id alone: FerretDB v1, embedded or not. See docs/adr/0004-embedded-database.md.
	OneProcess bool
	// IDs, where it is set, lists the _ids of a collection between two others, in their order, and with each the text
	// that its row has at a path: FerretDB v1 would read and sort the whole collection for it.
	IDs func(ctx context.Context, collection, path, after, before string, limit int) (ids, texts []string, err error)
	// Log, where it is set, is told what takes long.
	Log *slog.Logger

	locks sync.Map // *Locks by collection
}

// Logger returns Log, or a logger that discards everything.
func (db *DB) Logger() *slog.Logger {
	if db.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return db.Log
}

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
		return errors.New("cannot be used: set it to mongodb://HOST/DATABASE, or to mongodb+srv://HOST/DATABASE with a HOST that has an SRV record")
	case wc != nil && !wc.Acknowledged():
		return errors.New("asks for unacknowledged writes (w=0): remove w=0, a lost write would go unseen")
	}
	return nil
}

// Connect opens the database called name at uri, waits until it answers (bounded by ctx) and finds out what kind it is.
// MayPass tells whether trying again may help. No error quotes the URI, which holds a password.
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
	db := &DB{Database: client.Database(name)} // until it is known what kind it is
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

// MayPass tells whether an error of the database may go by itself, as those of a server that is away, starts, recovers,
// shuts down or is no primary do; those about a login or a setting do not. An error of another kind does not either.
func MayPass(err error) bool {
	var ce mongo.CommandError
	if !errors.As(err, &ce) || ce.Code == 0 {
		return mongo.IsTimeout(err) || mongo.IsNetworkError(err)
	}
	// src/mongo/base/error_codes.yml of MongoDB. What is not known here is worth another try.
	switch ce.Code {
	case 11, 13, 18, 334, // UserNotFound, Unauthorized, AuthenticationFailed, MechanismUnavailable
		8000,             // AtlasError: a wrong password, or a cluster that does not allow it
		2, 9, 14, 20, 59, // BadValue, FailedToParse, TypeMismatch, IllegalOperation, CommandNotFound
		67, 72, 73, 85, 86, // CannotCreateIndex, InvalidOptions, InvalidNamespace, IndexOptionsConflict, IndexKeySpecsConflict
		115, 322, 323, 11000: // CommandNotSupported, APIVersionError, APIStrictError, DuplicateKey
		return false
	}
	return true
}

// Ping fails if the database does not answer.
func (db *DB) Ping(ctx context.Context) error {
	return Redact(db.RunCommand(ctx, bson.D{{Key: "ping", Value: 1}}).Err())
}

// Close ends the connections.
func (db *DB) Close(ctx context.Context) error {
	err := db.Client().Disconnect(ctx)
	if db.Ingress != nil {
		err = errors.Join(err, db.Ingress.Client().Disconnect(ctx))
	}
	return Redact(err)
}

// Redact returns err without the texts of the driver and the server, which quote values of rows ("dup key: { username:
// … }"): what it prints is safe in a log and in Inngest's history. errors.Is and errors.As still see err. Redact(nil)
// is nil.
func Redact(err error) error {
	if err == nil {
		return nil
	}
	return redacted{err}
}

type redacted struct{ err error }

func (r redacted) Unwrap() error { return r.err }

func (r redacted) Error() string {
	var se mongo.ServerError
	var ce mongo.CommandError
	switch {
	case IsDuplicate(r.err):
		return "duplicate key"
	case errors.As(r.err, &ce) && ce.Code != 0:
		return fmt.Sprintf("the database refused: code %d %s", ce.Code, ce.Name)
	case errors.Is(r.err, context.Canceled):
		return "cancelled"
	case mongo.IsTimeout(r.err), errors.Is(r.err, context.DeadlineExceeded):
		return "the database did not answer in time"
	case mongo.IsNetworkError(r.err), errors.Is(r.err, mongo.ErrClientDisconnected):
		return "the connection to the database broke"
	case errors.As(r.err, &se):
		return fmt.Sprintf("the database refused: codes %v", se.ErrorCodes())
	}
	return fmt.Sprintf("database error of type %T", r.err)
}

// IsDuplicate reports whether a write failed because of a unique index or an _id that is there already. FerretDB v1
// reports that of an update as an internal error.
func IsDuplicate(err error) bool {
	if mongo.IsDuplicateKeyError(err) {
		return true
	}
	var se mongo.ServerError
	return errors.As(err, &se) && se.HasErrorCodeWithMessage(1, "UNIQUE constraint failed")
}
