package database_test

import (
	"bytes"
	"context"
	"log/slog"
	"os/exec"
	"strings"
	"testing"
	"time"

	"clerksync/internal/testenv"
	"clerksync/store/database"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/event"
)

// TestErrorsQuoteNothing: what a database says of a clash names the value.
func TestErrorsQuoteNothing(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		rows := db.Collection("users")
		if err := rows.EnsureIndex(t.Context(), database.Index{Field: "username", Unique: true}); err != nil {
			t.Fatal(err)
		}
		insert := func(id, name string) error {
			_, err := rows.InsertOne(t.Context(), append(database.ByID(id), bson.E{Key: "username", Value: name}))
			return err
		}
		if err := insert("user_a", "ada"); err != nil {
			t.Fatal(err)
		}
		err := insert("user_b", "ada")
		if err == nil || !database.IsDuplicate(err) {
			t.Fatalf("got %v, want a duplicate", err)
		}
		if got, want := database.Redact(err).Error(), "duplicate key"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if err := insert("user_b", "bob"); err != nil {
			t.Fatal(err)
		}
		set := bson.D{{Key: "$set", Value: bson.D{{Key: "username", Value: "ada"}}}}
		if _, err = rows.UpdateOne(t.Context(), database.ByID("user_b"), set); !database.IsDuplicate(err) {
			t.Errorf("an update's clash is %v, want a duplicate", database.Redact(err))
		}
	})
}

func TestConnect(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ uri, want string }{
		"no URI":               {"mongodb://", "cannot be used"},
		"a bad password":       {"mongodb://ada:p%zz@127.0.0.1/x", "'%' must be written %25"},
		"unacknowledged write": {"mongodb://127.0.0.1:1/?w=0", "remove w=0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := database.Connect(t.Context(), tc.uri, "x")
			if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "p%zz") {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
	if _, err := database.Connect(t.Context(), "mongodb://127.0.0.1:1", "x"); !database.MayPass(err) {
		t.Errorf("got %v, want one that may pass", err)
	}
}

// TestIndexOfLargeCollectionHasTenSeconds: the index on the user name was built within the ten seconds of any other
// operation, so that the start failed for ever on a large collection.
func TestIndexOfLargeCollectionHasTenSeconds(t *testing.T) {
	t.Parallel()
	limits := map[string]time.Duration{}
	started := func(_ context.Context, e *event.CommandStartedEvent) {
		ms, ok := e.Command.Lookup("maxTimeMS").AsInt64OK()
		if e.CommandName == "createIndexes" && ok {
			target, _ := e.Command.Lookup("createIndexes").StringValueOK()
			limits[target] = time.Duration(ms) * time.Millisecond
		}
	}
	db := testenv.NewMemory().Connect(t, "test", nil, &event.CommandMonitor{Started: started})
	rows := db.Collection("users")
	if _, err := rows.InsertOne(t.Context(), database.ByID("user_1")); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	db.Log = slog.New(slog.NewTextHandler(&log, nil))
	for range 2 {
		if err := rows.EnsureIndex(t.Context(), database.Index{Field: "username", Unique: true}); err != nil {
			t.Fatal(err)
		}
	}
	if got := limits["users"]; got < 30*time.Minute {
		t.Errorf("got a limit of %s, want enough for a large collection", got)
	}
	if got := log.String(); strings.Count(got, "building an index") != 1 || !strings.Contains(got, "field=username") {
		t.Errorf("got the log %q, want a line that says what takes long, once", got)
	}
}

// TestEmbeddedIsLeftOut: with -tags noembedded the binary has neither FerretDB nor SQLite.
func TestEmbeddedIsLeftOut(t *testing.T) {
	t.Parallel()
	for tags, want := range map[string]bool{"": true, "noembedded": false} {
		cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-tags="+tags, "clerksync/cmd/clerksync")
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		for _, pkg := range []string{"github.com/FerretDB/FerretDB/", "modernc.org/sqlite"} {
			if got := bytes.Contains(out, []byte(pkg)); got != want {
				t.Errorf("tags %q: got %s in the binary: %v, want %v", tags, pkg, got, want)
			}
		}
	}
}
