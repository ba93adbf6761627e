package e2e_test

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"
)

// TestFlood: after a flood of sign-ups all rows are there, with and without batches, and only the one bad event is a
// dead letter.
func TestFlood(t *testing.T) {
	t.Parallel()
	const n = 100
	for _, size := range []int{1, 100} {
		t.Run(fmt.Sprint("batches of ", size), func(t *testing.T) {
			w := newWorld(t, options{env: []string{
				fmt.Sprint("SYNC_BATCH_SIZE=", size), "LOG_LEVEL=info", "INBOX_RESEND_AFTER=5m",
			}})
			var g errgroup.Group
			g.SetLimit(16)
			var poison string
			for i := range n {
				hook := signUp(t, i)
				if i == n/2 {
					poison = hook.ID
					hook.Body = []byte(`{"type":"user.created","data":{"object":"user"}}`)
				}
				g.Go(func() error { w.deliver(hook); return nil })
			}
			_ = g.Wait() // deliver fails the test
			w.until("only the dead letter is left in the inbox", func() bool {
				return w.count("clerksync_inbox", struct{}{}) == 1
			})
			if c := w.count("users", struct{}{}); c != n-1 {
				t.Errorf("got %d rows, want %d", c, n-1)
			}
			w.until("the dead letter is listed", func() bool {
				return strings.Contains(w.command("deadletters", "list"), poison)
			})
		})
	}
}
