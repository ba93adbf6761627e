package e2e_test

import (
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"clerksync/internal/testenv"
)

// TestDatabaseKilled: while the database is down, webhooks are answered 503 before Clerk gives up waiting, so that
// Clerk sends them again. When the database is back, nothing is missing.
func TestDatabaseKilled(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{ownDatabase: true})
	rng := rand.New(rand.NewPCG(3, 4))
	histories := testenv.Histories(t, rng, 30)
	hooks := shuffled(rng, histories)
	var wg sync.WaitGroup
	wg.Go(func() { w.deliverAll(hooks, false) })
	w.until("some rows are there", func() bool {
		return slices.ContainsFunc(histories, func(h testenv.History) bool { return w.row(h.UserID) != nil })
	})
	kill(w.db)
	created, _, _ := life(t, "user_refused")
	var code int
	var header http.Header
	// A machine that stands still for some seconds makes one answer late, and not all of them.
	w.until("an answer comes within 12 s", func() bool {
		start := time.Now()
		code, header = w.post(created)
		return code != 0 && time.Since(start) <= 12*time.Second
	})
	if code != http.StatusServiceUnavailable || header.Get("Retry-After") == "" {
		t.Errorf("got %d, Retry-After %q, want 503 with Retry-After", code, header.Get("Retry-After"))
	}
	w.startDatabase()
	wg.Wait()
	w.drained()
	w.compare(histories)
}
