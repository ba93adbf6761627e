package store_test

import (
	"testing"
	"time"

	"clerksync/inbox"
	"clerksync/internal/testenv"
	"clerksync/store"
	"clerksync/store/database"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// TestAppsCollectionsWithCommonNames: inbox, deleted_users and welcome_mails may be the app's own. The clean-up once
// deleted their documents.
func TestAppsCollectionsWithCommonNames(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		s := users(t, db)
		old := time.Now().Add(-365 * 24 * time.Hour)
		theirs := []string{"inbox", "deleted_users", "welcome_mails"}
		for _, name := range theirs {
			doc := bson.D{
				{Key: "_id", Value: "app"},
				{Key: "deleted_at", Value: old},
				{Key: "claimed_at", Value: old},
				{Key: "failure", Value: bson.D{{Key: "dropped_at", Value: old}}},
			}
			if _, err := db.Collection(name).InsertOne(t.Context(), doc); err != nil {
				t.Fatal(err)
			}
		}
		dead := inbox.NewTable(db)
		for _, forget := range []func() (int, error){
			func() (int, error) { return s.ForgetDeleted(t.Context(), time.Now(), 10) },
			func() (int, error) { return store.NewWelcomes(db).Forget(t.Context(), time.Now(), 10) },
			func() (int, error) { return dead.ForgetDropped(t.Context(), time.Now(), 10) },
		} {
			if n, err := forget(); n != 0 || err != nil {
				t.Errorf("got %d removed, %v, want none", n, err)
			}
		}
		for _, name := range theirs {
			if n, err := db.Collection(name).CountDocuments(t.Context(), bson.D{}); n != 1 || err != nil {
				t.Errorf("%s: got %d documents, %v, want the app's", name, n, err)
			}
		}
	})
}
