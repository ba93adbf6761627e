// Package testenv has what the tests run against: databases, a model of Clerk and its API, an SMTP server, a fault
// proxy and an executor of Inngest functions.
package testenv

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"clerksync/store/database"

	"go.mongodb.org/mongo-driver/v2/mongo"
)

// MongoURI is the environment variable that names the external database of the tests.
const MongoURI = "MONGODB_TEST_URI"

// EachDatabase runs the test on an embedded database, on one in memory that is as atomic as MongoDB and, where
// MONGODB_TEST_URI names one, on an external database. Each gets an empty database of its own, which goes with the
// test.
func EachDatabase(t *testing.T, f func(t *testing.T, db *database.DB)) {
	t.Helper()
	t.Run("embedded", func(t *testing.T) { f(t, Embedded(t)) })
	t.Run("memory", func(t *testing.T) { f(t, NewMemory().Connect(t, "test", nil, nil)) })
	t.Run("external", func(t *testing.T) {
		uri := os.Getenv(MongoURI)
		if uri == "" {
			t.Skipf("%s is not set", MongoURI)
		}
		f(t, Connect(t, uri, "test_"+strings.ToLower(rand.Text()[:12])))
	})
}

// Embedded starts an embedded database that ends with the test, with the indexes that the service gives it.
func Embedded(t testing.TB) *database.DB {
	t.Helper()
	db, err := database.Open(t.Context(), database.EmbeddedPrefix+t.TempDir(), "test", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	closing(t, db)
	if err := errors.Join(MakeCollections(t.Context(), db), db.IndexIDs(t.Context())); err != nil {
		t.Fatal(err)
	}
	return db
}

// MakeCollections makes the collections that there are not yet, for tests which do not have the service make them.
func MakeCollections(ctx context.Context, db *database.DB) error {
	there, err := db.ListCollectionNames(ctx, struct{}{})
	if err != nil {
		return err
	}
	for _, name := range []string{
		"users", "clerksync_deleted_users", "clerksync_inbox", "clerksync_welcome_mails", "clerksync_runs",
		"clerksync_history",
	} {
		if slices.Contains(there, name) {
			continue
		}
		if err := makeCollection(ctx, db, name); err != nil {
			return err
		}
	}
	return nil
}

// makeCollection makes a collection that may be there. A database that cannot make one makes it at the first write.
func makeCollection(ctx context.Context, db *database.DB, name string) error {
	err := db.CreateCollection(ctx, name)
	const exists, unknown = 48, 59 // NamespaceExists, CommandNotFound
	var se mongo.ServerError
	if errors.As(err, &se) && (se.HasErrorCode(exists) || se.HasErrorCode(unknown)) {
		return nil
	}
	return err
}

// Connect connects to a database, which is dropped at the end of the test.
func Connect(t testing.TB, uri, name string) *database.DB {
	t.Helper()
	db, err := database.ConnectWithin(t.Context(), time.Minute, uri, name)
	if err != nil {
		t.Fatal(err)
	}
	closing(t, db)
	return db
}

// closing drops and closes a database at the end of the test.
func closing(t testing.TB, db *database.DB) {
	t.Helper()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = db.Drop(ctx) // it goes with its folder, or stays behind on a server that is down
		if err := db.Close(ctx); err != nil {
			t.Error(err)
		}
	})
}

// AnotherProcess returns the database as another process has it, which shares no locks with this one.
func AnotherProcess(db *database.DB) *database.DB {
	return &database.DB{Database: db.Database, OneProcess: db.OneProcess, Log: db.Log}
}

// ListsIndexes tells whether the database can list its indexes, as MongoDB can.
func ListsIndexes(t testing.TB, db *database.DB) bool {
	t.Helper()
	err := db.RunCommand(t.Context(), map[string]string{"listIndexes": "users"}).Err()
	var se mongo.ServerError
	return !errors.As(err, &se) || !se.HasErrorCode(59) // CommandNotFound
}
