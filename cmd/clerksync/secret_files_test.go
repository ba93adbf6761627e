package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"clerksync/internal/testenv"
	"clerksync/internal/testenv/collector"
)

// TestSecretFiles: a service that has all its secrets from files takes webhooks, signs for Inngest, opens its page, and
// sends the collector of traces its key.
func TestSecretFiles(t *testing.T) {
	inngest, traces, dir := newFakeInngest(t), collector.New(t), t.TempDir()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", traces.HTTP) // the SDK reads it by itself
	settings := with(good(t), map[string]string{
		"INNGEST_DEV": "0", "INNGEST_BASE_URL": inngest.URL, "OTEL_EXPORTER_OTLP_ENDPOINT": traces.HTTP,
	})
	for name, secret := range map[string]string{
		"ADMIN_TOKEN": "a-token-of-sixteen", "CLERK_WEBHOOK_SIGNING_SECRET": testenv.Secret,
		"MONGODB_URI": settings["MONGODB_URI"], "INNGEST_EVENT_KEY": "theeventkey",
		"INNGEST_SIGNING_KEY": "signkey-test-00ff", "OTEL_EXPORTER_OTLP_HEADERS": "api-key=a%20key",
	} {
		settings[name+"_FILE"] = filepath.Join(dir, name)
		settings[name] = ""
		if err := os.WriteFile(settings[name+"_FILE"], []byte(secret+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := serve(t, settings)
	until(t, "the functions are registered", func() bool {
		return strings.Contains(s.log.String(), "registered the functions")
	})
	inngest.mu.Lock()
	if !strings.HasPrefix(inngest.auth, "Bearer signkey-test-") {
		t.Errorf("it registers with %q, want the hash of its key", inngest.auth)
	}
	inngest.mu.Unlock()
	body := []byte(`{"type":"user.deleted","object":"event","data":{"id":"user_2abc","deleted":true}}`)
	hook := testenv.Signed(t, s.url+"/webhooks/clerk", testenv.Secret, "msg_1", time.Now(), body)
	page, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/status", nil)
	if err != nil {
		t.Fatal(err)
	}
	page.Header.Set("Authorization", "Bearer a-token-of-sixteen")
	for req, want := range map[*http.Request]int{hook: http.StatusAccepted, page: http.StatusOK} {
		if code, text := do(t, req); code != want {
			t.Errorf("%s: got %d %s, want %d", req.URL.Path, code, text, want)
		}
	}
	until(t, "the event is sent", func() bool { return len(inngest.sent()) == 1 })
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	if key := traces.Header("Api-Key"); key != "a key" {
		t.Errorf("the collector got the key %q, want %q", key, "a key")
	}
}
