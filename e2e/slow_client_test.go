package e2e_test

import (
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// TestSlowClients: a client that sends its headers or its body slowly, or sends nothing more, is cut off.
func TestSlowClients(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	for name, tc := range map[string]struct {
		send, drip string
		want       string // how the answer begins, if there is one
		within     time.Duration
	}{
		"headers": {"POST /webhooks/clerk HTTP/1.1\r\nHost: x\r\n", "X-A: b\r\n", "", time.Minute},
		"body": {
			"POST /webhooks/clerk HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n", "x", "HTTP/1.1 400",
			time.Minute,
		},
		"idle": {"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", "", "HTTP/1.1 200", 2 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := w.dial(tc.send)
			defer c.Close()
			done := make(chan struct{})
			defer close(done)
			go func() {
				tick := time.NewTicker(time.Second)
				defer tick.Stop()
				for {
					select {
					case <-tick.C:
						_, _ = io.WriteString(c, tc.drip)
					case <-done:
						return
					}
				}
			}()
			if err := c.SetReadDeadline(time.Now().Add(tc.within)); err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(c) // until the service closes the connection
			if os.IsTimeout(err) {
				t.Errorf("it is not cut off within %v", tc.within)
			}
			if !strings.HasPrefix(string(got), tc.want) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

// dial connects to the service and sends the beginning of a request.
func (w *world) dial(request string) net.Conn {
	w.t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := io.WriteString(c, request); err != nil {
		w.t.Error(err)
	}
	return c
}
