package reconcile_test

import (
	"testing"

	"clerksync/internal/testenv"
	"clerksync/store/database"
)

// TestRefusedUserAloneInPageStopsBackfill: the only user of a page whom a unique index of the app's refuses was taken
// for a database that is down, and ended every run at that page.
func TestRefusedUserAloneInPageStopsBackfill(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		fake := testenv.NewClerkAPI(t)
		r := backfiller(t, db, fake)
		rows := db.Collection("users")
		if err := rows.EnsureIndex(t.Context(), database.Index{Field: "email", Unique: true}); err != nil {
			t.Fatal(err)
		}
		ada := testenv.People(1)[0]
		fake.Put(ada)
		insert(t, db, doc{"_id": "app-1", "username": "app-1", "email": ada.Email})
		p, err := backfill(t.Context(), r)
		if err != nil || p.Found.Failed != 1 || p.Listed != 1 {
			t.Errorf("got %+v, %v, want the user counted as failed", p, err)
		}
	})
}
