package database_test

import (
	"context"
	"crypto/rand"
	"os"
	"strings"
	"testing"

	"clerksync/internal/testenv"
	"clerksync/store/database"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"
)

// TestObserve: each command of both clients is told, with the context of who asked, and whether it failed. A duplicate
// is an answer, not a failure.
func TestObserve(t *testing.T) {
	t.Parallel()
	dbs := map[string]*database.DB{"embedded": testenv.Embedded(t)}
	if uri := os.Getenv(testenv.MongoURI); uri != "" {
		dbs["external"] = testenv.Connect(t, uri, "test_observe_"+strings.ToLower(rand.Text()[:12]))
	}
	for name, db := range dbs {
		type key struct{}
		var first, second []string
		db.Observe(func(ctx context.Context, c database.Command) {
			if ctx.Value(key{}) != "asked" { // by the clean-up of the test
				return
			}
			text := c.Name
			if c.Err != nil {
				text += " failed"
			}
			if c.Took <= 0 {
				t.Errorf("%s: %s took %v", name, text, c.Took)
			}
			first = append(first, text)
		})
		db.Observe(func(_ context.Context, c database.Command) { second = append(second, c.Name) })
		ctx := context.WithValue(t.Context(), key{}, "asked")
		users := db.Collection("users")
		for range 2 {
			_, _ = users.Ingress().InsertOne(ctx, database.ByID("user_1"))
		}
		_ = users.FindOne(ctx, database.ByID("user_1")).Err()
		_ = db.RunCommand(ctx, bson.D{{Key: "nonsense", Value: 1}}).Err()
		if d := cmp.Diff([]string{"insert", "insert", "find", "nonsense failed"}, first); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
		if d := cmp.Diff([]string{"insert", "insert", "find", "nonsense"}, second); d != "" {
			t.Errorf("%s, the second observer (-want +got):\n%s", name, d)
		}
	}
}
