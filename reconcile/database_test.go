package reconcile_test

import (
	"sync/atomic"
	"testing"

	"clerksync/internal/testenv"
	"clerksync/reconcile"
	"clerksync/store/database"
)

// TestRefusedUserAloneInPageStopsBackfill: the only user of a page whom a unique index of the app's refuses was taken
// for a database that is down, and ended every run at that page.
func TestRefusedUserAloneInPageStopsBackfill(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		fake := testenv.NewClerkAPI(t)
		r := backfiller(t, db, fake)
		unique(t, db, "email")
		ada := testenv.People(1)[0]
		fake.Put(ada)
		insert(t, db, doc{"_id": "app-1", "username": "app-1", "email": ada.Email})
		p, err := backfill(t.Context(), r)
		if err != nil || p.Found.Failed != 1 || p.Listed != 1 {
			t.Errorf("got %+v, %v, want the user counted as failed", p, err)
		}
	})
}

// TestDatabaseIsAwayForAMoment: a backfill tries a page again by itself, and loses nobody; the step of another tier
// fails, for Inngest repeats it.
func TestDatabaseIsAwayForAMoment(t *testing.T) {
	t.Parallel()
	for tier, fails := range map[reconcile.Tier]bool{reconcile.Backfill: false, reconcile.Full: true} {
		t.Run(string(tier), func(t *testing.T) {
			t.Parallel()
			var refused atomic.Int32 // inserts that are still to be refused
			uri := testenv.NewMemory().Listen(t, func(command string) int32 {
				if command == "insert" && refused.Add(-1) >= 0 {
					return 50 // MaxTimeMSExpired: no code that the driver itself tries again
				}
				return 0
			})
			fake := testenv.NewClerkAPI(t)
			fake.Put(testenv.People(50)...)
			r := backfiller(t, testenv.Connect(t, uri, "test"), fake)
			p := reconcile.Start(tier, "one")
			r.OnPage = func(p reconcile.Progress) {
				if p.Listed == 20 {
					refused.Store(2)
				}
			}
			next, err := r.Run(t.Context(), p, nil)
			if fails != (err != nil) {
				t.Fatalf("got %+v, %v", next, err)
			}
			if fails {
				r.OnPage = nil
				refused.Store(0)
				if next, err = r.Run(t.Context(), p, nil); err != nil {
					t.Fatal(err)
				}
			}
			rows, err := r.Users.Count(t.Context())
			if err != nil || rows != 50 || next.Found.Failed != 0 || next.Listed != 50 {
				t.Errorf("%d rows, %v, got %+v, want all 50", rows, err, next)
			}
		})
	}
}
