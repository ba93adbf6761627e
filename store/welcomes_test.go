package store_test

import (
	"sync"
	"testing"
	"time"

	"clerksync/internal/testenv"
	"clerksync/store"

	"go.mongodb.org/mongo-driver/v2/bson"
)

func TestWelcomes(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *store.DB) {
		w := store.NewWelcomes(db)
		if err := w.Setup(t.Context()); err != nil {
			t.Fatal(err)
		}
		claim := func(run string, want store.Claim) {
			t.Helper()
			if got, err := w.Claim(t.Context(), "user_a", run); got != want || err != nil {
				t.Errorf("run %s: got %q, %v, want %q", run, got, err, want)
			}
		}
		claim("1", store.Won)
		claim("1", store.Won) // a retry
		claim("2", store.Held)
		for _, run := range []string{"2", "1"} { // only the first's is its to release
			if err := w.Release(t.Context(), "user_a", run); err != nil {
				t.Fatal(err)
			}
			if run == "2" {
				claim("3", store.Held)
			}
		}
		claim("3", store.Won)
		claim("1", store.Held)
		old := bson.D{{Key: "$set", Value: bson.D{{Key: "claimed_at", Value: time.Now().Add(-2 * store.ClaimLease)}}}}
		if _, err := db.Collection("clerksync_welcome_mails").UpdateByID(t.Context(), "user_a", old); err != nil {
			t.Fatal(err)
		}
		claim("2", store.Won) // Inngest lost run 3
		claim("3", store.Held)
		if err := w.Done(t.Context(), "user_a"); err != nil {
			t.Fatal(err)
		}
		claim("2", store.Sent)
		claim("3", store.Sent)
	})
}

// TestWelcomesOnce: of many runs, in several processes where the database lets them, one gets the mail.
func TestWelcomesOnce(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *store.DB) {
		processes := []*store.Welcomes{store.NewWelcomes(db), store.NewWelcomes(testenv.AnotherProcess(db))}
		if db.OneProcess {
			processes = processes[:1]
		}
		var mu sync.Mutex
		won := 0
		var wg sync.WaitGroup
		for i := range 16 {
			wg.Go(func() {
				c, err := processes[i%len(processes)].Claim(t.Context(), "user_a", string(rune('a'+i)))
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				if c == store.Won {
					won++
				}
			})
		}
		wg.Wait()
		if won != 1 {
			t.Errorf("%d runs won the claim, want 1", won)
		}
	})
}
