package reconcile_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"clerksync/internal/testenv"
	"clerksync/reconcile"
	"clerksync/store/database"
)

// TestKilledReconcileBlocks: a run by hand says whose lease it meets and when that ends, and goes on when it has; if
// the other is alive, it does not wait for hours.
func TestKilledReconcileBlocks(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		fake := testenv.NewClerkAPI(t)
		r, _ := reconciler(t, db, fake, 30)
		killed := reconcile.Start(reconcile.Absent, "01JKILLED")
		if _, err := r.Step(t.Context(), killed); err != nil { // and no more
			t.Fatal(err)
		}
		_, err := r.Step(t.Context(), reconcile.Start(reconcile.Full, "by hand"))
		var busy *reconcile.BusyError
		if !errors.As(err, &busy) || !errors.Is(err, reconcile.ErrBusy) {
			t.Fatalf("got %v, want that another is running", err)
		}
		if left := time.Until(busy.Until); left > 3*time.Minute || left < 2*time.Minute ||
			!strings.Contains(busy.Holder, "01JKILLED") {
			t.Errorf("got %+v, want the killed run's lease", busy)
		}
		want := "another reconcile is running: absent tier, run 01JKILLED, whose lease ends at " +
			busy.Until.UTC().Format("15:04:05") + " UTC unless it goes on"
		if got := err.Error(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}

		lease := func(d time.Duration) { // instead of the time that passes
			t.Helper()
			if l, err := r.State.Claim(t.Context(), "reconcile_lease",
				database.Lease{Holder: busy.Holder, Until: time.Now().Add(d)}); err != nil || l.Holder != busy.Holder {
				t.Fatalf("got %+v, %v", l, err)
			}
		}
		said := 0
		p, err := r.Run(t.Context(), reconcile.Start(reconcile.Full, "by hand"), func(*reconcile.BusyError) {
			said++
			lease(-time.Second)
		})
		if err != nil || !p.Done() || p.Found.Users != 30 || said != 1 {
			t.Errorf("after a killed one: got %+v, %v, said %d times, want all done and once", p, err, said)
		}
		lease(time.Hour)
		_, err = r.Run(t.Context(), reconcile.Start(reconcile.Full, "by hand again"), func(*reconcile.BusyError) {
			lease(2 * time.Hour)
		})
		if !errors.Is(err, reconcile.ErrBusy) {
			t.Errorf("beside one that is alive: got %v, want that it is running", err)
		}
	})
}

// TestLostLeaseHidesError: a run that stops at the brake, and whose lease another has taken meanwhile because its step
// was so slow, does not wait for the other and go on behind the brake.
func TestLostLeaseHidesError(t *testing.T) {
	t.Parallel()
	db := testenv.NewMemory().Connect(t, "test", nil, nil)
	fake := testenv.NewClerkAPI(t)
	r, people := reconciler(t, db, fake, 3)
	for _, p := range people {
		fake.Remove(p.ID)
	}
	fake.Fail = func(req *http.Request) int {
		if !req.URL.Query().Has("user_id") { // it is not asked for the users of the rows
			return 0
		}
		lease := doc{"holder": "another", "until": time.Now().Add(time.Second)}
		state := db.Collection("clerksync_state")
		_, err := state.UpdateOne(t.Context(), doc{"_id": "reconcile_lease"}, doc{"$set": lease})
		if err != nil {
			t.Error(err)
		}
		return 0
	}
	_, err := r.Run(t.Context(), reconcile.Start(reconcile.Full, "slow"), func(b *reconcile.BusyError) {
		t.Errorf("it waits for %s", b.Holder)
	})
	if !errors.Is(err, reconcile.ErrBrake) || errors.Is(err, reconcile.ErrBusy) {
		t.Errorf("got %v, want the brake alone", err)
	}
	if n, err := db.Collection("users").CountDocuments(t.Context(), doc{}); err != nil || n != 3 {
		t.Errorf("%d rows are left, %v, want 3", n, err)
	}
}
