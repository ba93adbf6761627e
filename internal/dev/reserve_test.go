package dev

import (
	"net"
	"testing"

	"clerksync/internal/testenv"
)

// TestDevsStartedAtOnce: of two processes that start an Inngest dev server at the same time only one gets the usual
// port, before anything listens there. Both got it, and one took the other's server for its own until that ended.
func TestDevsStartedAtOnce(t *testing.T) {
	t.Parallel()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	taken := l.Addr().(*net.TCPAddr).Port
	if got := reserve(t.Context(), taken); got != 0 {
		t.Errorf("something listens there: got %d, want 0", got)
	}
	port := testenv.FreePort(t)
	if first, second := reserve(t.Context(), port), reserve(t.Context(), port); first != port || second != 0 {
		t.Errorf("got %d and %d, want %d and 0", first, second, port)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}
