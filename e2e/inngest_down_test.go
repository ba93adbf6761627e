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
	if code, _ := w.post(created); code != http.StatusAccepted {
		t.Errorf("got %d, want 202", code)
	}
	if code, body := w.get("/readyz"); code != http.StatusServiceUnavailable ||
		!strings.Contains(body, `"inngest":"cannot be reached"`) {
		t.Errorf("readyz: %d %s, want 503", code, body)
	}
	if code, body := w.get("/healthz"); code != http.StatusOK {
		t.Errorf("healthz: %d %s, want 200", code, body)
	}
	w.startInngest()
	w.drained()
	if r := w.row("user_down"); r.Text("full_name") != "Ada Byron" {
		t.Errorf("got %+v", r)
	}
}
