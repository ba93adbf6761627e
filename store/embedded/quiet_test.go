//go:build !noembedded

package embedded

import (
	"log/slog"
	"net"
	"strings"
	"testing"
)

// TestClientsThatLeave: the pool of a client that is still connected at the end, one that leaves in the middle of a
// message and one that says nothing were in the log as warnings, as if something were wrong.
func TestClientsThatLeave(t *testing.T) {
	t.Parallel()
	var log buffer
	s, err := Start(t.Context(), t.TempDir(), anyPort, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	rows := connect(t, s)
	insert(t, rows, "1") // and its pool stays
	for _, says := range []string{"", "\x10", "\x30\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\xdd\x07\x00\x00\x00"} {
		conn, err := net.Dial("tcp", strings.Trim(strings.TrimPrefix(s.URI(), "mongodb:"), "/"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write([]byte(says)); err != nil {
			t.Fatal(err)
		}
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
	}
	idle, err := net.Dial("tcp", strings.Trim(strings.TrimPrefix(s.URI(), "mongodb:"), "/"))
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got := log.String(); got != "" {
		t.Errorf("got log\n%s\nwant none", got)
	}
}
