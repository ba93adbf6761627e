package store_test

import (
	"testing"
	"time"

	"clerksync/internal/testenv"
	"clerksync/store"
	"clerksync/store/database"
	"clerksync/store/mapping"
)

// TestEstimate: the estimates are right on a quiet database, before the first row too.
func TestEstimate(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		users := store.NewUsers(db, mapping.Default())
		check := func(wantUsers, wantTombstones int) {
			t.Helper()
			n, tombstones, err := users.Estimate(t.Context())
			if n != wantUsers || tombstones != wantTombstones || err != nil {
				t.Errorf("got %d, %d, %v, want %d, %d", n, tombstones, err, wantUsers, wantTombstones)
			}
		}
		check(0, 0)
		ids := []string{testenv.UserID(time.Now(), 1), testenv.UserID(time.Now(), 2), testenv.UserID(time.Now(), 3)}
		for _, id := range ids {
			if _, err := db.Collection("users").InsertOne(t.Context(), database.ByID(id)); err != nil {
				t.Fatal(err)
			}
		}
		check(3, 0)
		testenv.Delete(t, users, ids[0])
		check(2, 1)
	})
}
