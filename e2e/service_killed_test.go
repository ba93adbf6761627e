package e2e_test

import (
	"math/rand/v2"
	"testing"

	"clerksync/internal/testenv"
)

// TestServiceKilled: webhooks that were accepted before a SIGKILL are written after the restart.
func TestServiceKilled(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	rng := rand.New(rand.NewPCG(5, 6))
	histories := testenv.Histories(t, rng, 40)
	hooks := shuffled(rng, histories)
	w.deliverAll(hooks, false)
	kill(w.service)
	w.startService()
	w.drained()
	w.compare(histories)
}

// TestShutdown: SIGTERM ends the service with status 0, and the next process writes what this one had accepted.
func TestShutdown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	rng := rand.New(rand.NewPCG(7, 8))
	histories := testenv.Histories(t, rng, 20)
	w.deliverAll(shuffled(rng, histories), false)
	if err := w.service.Terminate(); err != nil {
		t.Fatal(err)
	}
	if err := w.service.Wait(); err != nil {
		t.Errorf("got %v, want status 0", err)
	}
	w.startService()
	w.drained()
	w.compare(histories)
}
