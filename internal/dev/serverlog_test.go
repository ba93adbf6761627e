package dev

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestServerLog: the errors of the Inngest dev server are seen, without what is about its inside. Its warnings, what
// concerns its gRPC, and what it says when the service has ended are not.
func TestServerLog(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey || a.Key == slog.MessageKey {
				return slog.Attr{}
			}
			return a
		},
	}))
	done := make(chan struct{})
	l := &serverLog{log: log, done: done}
	text := `{"time":"2026-11-26T04:58:48Z","level":"WARN","msg":"slow async checkpoint","run_id":"01M8"}
{"level":"ERROR","msg":"could not listen for grpc","err":"listen tcp :50052: bind: address already in use"}
{"level":"ERROR","msg":"error handling queue item","error":"Unable to reach SDK URL","item_kind":"start"}

{"level":"error","msg":"no disk","err":{"a":1}}
panic: out of order
` + strings.Repeat("x", 1000) + "\n"
	for i := range len(text) { // in pieces, as a pipe may bring it
		if n, err := l.Write([]byte(text[i : i+1])); n != 1 || err != nil {
			t.Fatal(n, err)
		}
	}
	for range 3 * maxServerLine / 1000 {
		_, _ = fmt.Fprint(l, strings.Repeat("y", 1000)) // a line without an end
	}
	if len(l.rest) > maxServerLine {
		t.Errorf("it keeps %d bytes", len(l.rest))
	}
	close(done)
	_, _ = fmt.Fprintln(l, "\n"+`{"level":"ERROR","msg":"error handling queue item","error":"Unable to reach SDK URL"}`)
	want := []string{
		`level=ERROR text="error handling queue item" error="Unable to reach SDK URL"`,
		`level=ERROR text="no disk" error=map[a:1]`, `level=WARN text="panic: out of order" error=""`,
		"level=WARN text=" + strings.Repeat("x", maxWords) + ` error=""`, "",
	}
	if diff := cmp.Diff(want, strings.Split(out.String(), "\n")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
