package e2e_test

import (
	"net/http"
	"strings"
	"testing"
)

// TestInngestDown: webhooks are accepted while Inngest is down, and written when it is back.
func TestInngestDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	if err := w.inngest.Kill(); err != nil {
		t.Fatal(err)
	}
	created, _, _ := life(t, "user_down")
	w.deliver(created)
	if code, body := w.get("/readyz"); code != http.StatusServiceUnavailable ||
		!strings.Contains(body, `"inngest":"cannot be reached"`) {
		t.Errorf("readyz: %d %s, want 503", code, body)
	}
	w.until("the service is healthy: its database has 3 s to answer", func() bool {
		code, _ := w.get("/healthz")
		return code == http.StatusOK
	})
	w.startInngest()
	w.drained()
	if r := w.row("user_down"); r.Text("full_name") != "Ada Byron" {
		t.Errorf("got %+v", r)
	}
}
