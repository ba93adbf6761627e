package store_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"clerksync/internal/testenv"
	"clerksync/store/database"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// TestIndexOfLargeCollectionHasTenSeconds: the index on the user name was built within the ten seconds of any other
// operation, so that the start failed for ever on a large collection.
func TestIndexOfLargeCollectionHasTenSeconds(t *testing.T) {
	t.Parallel()
	limits := map[string]time.Duration{}
	db := testenv.NewMemory().Connect(t, "test", nil, &event.CommandMonitor{Started: func(_ context.Context, e *event.CommandStartedEvent) {
		ms, ok := e.Command.Lookup("maxTimeMS").AsInt64OK()
		if e.CommandName == "createIndexes" && ok {
			target, _ := e.Command.Lookup("createIndexes").StringValueOK()
			limits[target] = time.Duration(ms) * time.Millisecond
		}
	}})
	if _, err := db.Collection("users").InsertOne(t.Context(), bson.D{{Key: "_id", Value: "user_1"}, {Key: "username", Value: "ada"}}); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	db.Log = slog.New(slog.NewTextHandler(&log, nil))
	users(t, db)
	if got := limits["users"]; got < 30*time.Minute {
		t.Errorf("got a limit of %s, want enough for a large collection", got)
	}
	if got := log.String(); strings.Count(got, "building an index") != 1 || !strings.Contains(got, "field=username") {
		t.Errorf("got the log %q, want a line that says what takes long, once", got)
	}
}

// TestForeignUniqueIndexIsFoundByName: an index of the app's that will refuse users was not noticed until it did.
func TestForeignUniqueIndexIsFoundByName(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		s := users(t, db)
		if got, err := s.ForeignUnique(t.Context()); len(got) > 0 || err != nil {
			t.Errorf("got %v, %v, want none but ours", got, err)
		}
		if db.OneProcess {
			return // no more than the one that is ours can be made twice
		}
		for field, unique := range map[string]bool{"email": true, "plan": false} {
			m := mongo.IndexModel{Keys: bson.D{{Key: field, Value: 1}}, Options: options.Index().SetUnique(unique)}
			if _, err := db.Collection("users").Indexes().CreateOne(t.Context(), m); err != nil {
				t.Fatal(err)
			}
		}
		want := []string{"email_1"}
		if !testenv.ListsIndexes(t, db) {
			want = nil
		}
		got, err := s.ForeignUnique(t.Context())
		if d := cmp.Diff(want, got); d != "" || err != nil {
			t.Errorf("%v (-want +got):\n%s", err, d)
		}
	})
}
