package store_test

import (
	"testing"

	"clerksync/internal/testenv"
	"clerksync/store"
	"clerksync/store/database"
	"clerksync/store/mapping"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// TestIndexesAreListed: what matters for a clash is read from every database that can list its indexes.
func TestIndexesAreListed(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		s := store.NewUsers(db, mapping.Default())
		if err := s.Setup(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !testenv.ListsIndexes(t, db) || db.OneProcess {
			return
		}
		text := bson.D{{Key: "email", Value: bson.D{{Key: "$type", Value: "string"}}}}
		made := []mongo.IndexModel{
			{
				Keys:    bson.D{{Key: "email", Value: 1}},
				Options: options.Index().SetUnique(true).SetPartialFilterExpression(text),
			},
			{Keys: bson.D{{Key: "slug", Value: 1}}, Options: options.Index().SetUnique(true).SetSparse(true)},
		}
		if _, err := db.Collection("users").Indexes().CreateMany(t.Context(), made); err != nil {
			t.Fatal(err)
		}
		got, err := db.Collection("users").ListIndexes(t.Context())
		want := []database.IndexInfo{
			{Name: "email_1", Fields: []string{"email"}, Unique: true, Partial: true},
			{Name: "slug_1", Fields: []string{"slug"}, Unique: true, Sparse: true, Nulls: true},
		}
		unread := cmpopts.IgnoreUnexported(database.IndexInfo{}) // what only database looks at
		if d := cmp.Diff(want, got[len(got)-2:], unread); d != "" || err != nil {
			t.Errorf("%v, -want +got:\n%s", err, d)
		}
	})
}
