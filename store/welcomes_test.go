package store_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"clerksync/internal/testenv"
	"clerksync/store"
	"clerksync/store/database"

	"go.mongodb.org/mongo-driver/v2/bson"
)

func TestWelcomes(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		w := store.NewWelcomes(db)
		if err := w.Setup(t.Context()); err != nil {
			t.Fatal(err)
		}
		claim := func(run string, want store.ClaimState) store.Claim {
			t.Helper()
			got, err := w.Claim(t.Context(), "user_a", run)
			if got.State != want || err != nil {
				t.Errorf("run %s: got %q, %v, want %q", run, got.State, err, want)
			}
			return got
		}
		must := func(f func(context.Context, store.Claim) error, c store.Claim) {
			t.Helper()
			if err := f(t.Context(), c); err != nil {
				t.Error(err)
			}
		}
		mustNot := func(f func(context.Context, store.Claim) error, c store.Claim) {
			t.Helper()
			if f(t.Context(), c) == nil {
				t.Error("it may change a claim that is no longer its own")
			}
		}
		endLease := func() {
			t.Helper()
			old := bson.D{
				{Key: "$set", Value: bson.D{{Key: "claimed_at", Value: time.Now().Add(-2 * store.ClaimLease)}}},
			}
			if _, err := db.Collection("clerksync_welcome_mails").UpdateByID(t.Context(), "user_a", old); err != nil {
				t.Fatal(err)
			}
		}
		again := func(want bool) {
			t.Helper()
			if got, err := w.SendAgain(t.Context(), "user_a"); got != want || err != nil {
				t.Errorf("send again: got %v, %v, want %v", got, err, want)
			}
		}
		again(false)
		first := claim("1", store.Won)
		claim("1", store.Held) // a retry, which does not know whether its first attempt is still at it
		claim("2", store.Held)
		must(w.Release, first)
		third := claim("3", store.Won)
		claim("1", store.Held)
		mustNot(w.Release, first)
		endLease()
		second := claim("2", store.Won) // Inngest lost run 3
		mustNot(w.Sending, third)       // or it was only very slow
		claim("3", store.Held)
		must(w.Sending, second)
		claim("2", store.Held)
		must(w.Release, second) // the server refused the message
		second = claim("2", store.Won)
		endLease()
		must(w.Sending, second) // nobody else has taken it, and the lease begins anew
		claim("3", store.Held)
		again(false) // it is being sent
		endLease()
		claim("2", store.PerhapsSent)
		claim("3", store.PerhapsSent)
		again(true)
		again(false)
		last := claim("4", store.Won)
		must(w.Sending, last)
		must(w.Done, last)
		claim("4", store.Sent)
		endLease()
		claim("5", store.Sent)
		again(false)
	})
}

// TestWelcomesOnce: of many runs, in several processes where the database lets them, one gets the mail.
func TestWelcomesOnce(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
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
				if c.State == store.Won {
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
