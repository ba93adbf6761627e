package e2e_test

import (
	"net/http"
	"testing"
	"time"

	"clerksync/clerk"
	"clerksync/internal/testenv"
	"clerksync/store"
)

// TestSlowTier: a tier of three minutes, longer than any call may last, ends, although Inngest takes checkpoints: each
// step is a call of its own.
func TestSlowTier(t *testing.T) {
	t.Parallel()
	const rows, delay = 500, 20 * time.Second // of each request about a hundred ids; there are ten
	fake := testenv.NewClerkAPI(t)
	people := testenv.People(rows)
	fake.Put(people[1:]...)
	fake.Fail = func(r *http.Request) int {
		if r.URL.Query().Has("user_id") {
			select {
			case <-time.After(delay):
			case <-r.Context().Done():
			}
		}
		return 0
	}
	w := newWorld(t, options{env: []string{
		"CLERK_SECRET_KEY=" + testenv.ClerkKey, "CLERK_API_URL=" + fake.URL,
		"RECONCILE_RECENT_CRON=off", "RECONCILE_ABSENT_CRON=0 0 1 1 *", "RECONCILE_CRON=off", // it is the only one
	}})
	var writes []store.Write
	for _, p := range people {
		u, err := clerk.ParseUser(p.JSON())
		if err != nil {
			t.Fatal(err)
		}
		writes = append(writes, store.Write{User: u})
	}
	for _, r := range w.users.Write(t.Context(), writes, store.All) {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	start := time.Now()
	w.invoke("reconcile-users-with-clerk-absent")
	w.until("the user whom Clerk does not have is removed", func() bool { return w.row(people[0].ID) == nil })
	w.until("the tier has ended", func() bool { return w.log.count(`"msg":"reconciled"`) == 1 })
	if took := time.Since(start); took < 3*time.Minute {
		t.Errorf("it took %v, want three minutes", took)
	}
}
