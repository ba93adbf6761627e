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
	start := time.Now()
	code, header := w.post(created)
	if code != http.StatusServiceUnavailable || header.Get("Retry-After") == "" {
		t.Errorf("got %d, Retry-After %q, want 503 with Retry-After", code, header.Get("Retry-After"))
	}
	if took := time.Since(start); took > 12*time.Second {
		t.Errorf("the answer took %v", took)
	}
	w.startDatabase()
	wg.Wait()
	w.drained()
	w.compare(histories)
}
