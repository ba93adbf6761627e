package store_test

import (
	"testing"

	"clerksync/internal/testenv"
	"clerksync/store/database"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// TestForeignUniqueIndexIsFoundByName: an index of the app's that will refuse users was not noticed until it did.
func TestForeignUniqueIndexIsFoundByName(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		s := users(t, db)
		if clashes, others, err := s.Clashes(t.Context()); len(clashes)+len(others) > 0 || err != nil {
			t.Errorf("got %v, %v, %v, want none but ours", clashes, others, err)
		}
		if db.OneProcess {
			return // no more than the one that is ours can be made twice
		}
		for field, unique := range map[string]bool{"email": true, "plan": false} {
			kind := options.Index().SetUnique(unique).SetSparse(true)
			m := mongo.IndexModel{Keys: bson.D{{Key: field, Value: 1}}, Options: kind}
			if _, err := db.Collection("users").Indexes().CreateOne(t.Context(), m); err != nil {
				t.Fatal(err)
			}
		}
		want := []string{"email_1"}
		if !testenv.ListsIndexes(t, db) {
			want = nil
		}
		_, got, err := s.Clashes(t.Context())
		if d := cmp.Diff(want, got); d != "" || err != nil {
			t.Errorf("%v (-want +got):\n%s", err, d)
		}
	})
}
