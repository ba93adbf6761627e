//go:build !race

package bench_test

import "testing"

// TestAllocations holds how often a webhook allocates between net/http and the inbox: docs/performance.md states it.
// The race detector allocates too.
func TestAllocations(t *testing.T) {
	answer, _ := oneWebhook(t)
	const want = 53
	if got := testing.AllocsPerRun(1000, answer); got > want {
		t.Errorf("a webhook allocates %v times, want %d at the most", got, want)
	}
}
