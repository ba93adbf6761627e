package e2e_test

import (
	"maps"
	"testing"

	"clerksync/internal/inngestserver"
	"clerksync/internal/testenv"
	"clerksync/internal/testenv/inngesttest"

	"github.com/google/go-cmp/cmp"
)

// TestRequestsARun: a run that writes a row is one request where the server takes checkpoints, and two where it does
// not; the service finds out by itself which it is.
func TestRequestsARun(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	got, proxy := record(t, w.url)
	kill(w.service)
	w.env = append(w.env, "INNGEST_SERVE_ORIGIN="+proxy.URL, "INBOX_RESEND_AFTER=10m")
	w.startService()
	created, updated, deleted := life(t, "user_2requests")
	for _, hook := range []testenv.Webhook{created, updated, deleted} {
		w.deliver(hook)
		w.drained()
	}
	want := []int{200}
	if version, err := inngesttest.Version(); err != nil {
		t.Fatal(err)
	} else if version == inngestserver.OldVersion {
		want = []int{206, 200}
	}
	const last = "clerksync-delete-user-with-clerk"
	all := map[string][]int{
		"clerksync-sync-user-from-clerk": want, "clerksync-update-user-from-clerk": want, last: want,
	}
	answers := func() map[string][]int { got.mu.Lock(); defer got.mu.Unlock(); return maps.Clone(got.function) }
	w.until("the runs have ended", func() bool {
		now := answers()
		for function := range all {
			if len(now[function]) < len(want) {
				return false
			}
		}
		return true
	})
	if diff := cmp.Diff(all, answers()); diff != "" {
		t.Errorf("the functions were called and answered (-want +got):\n%s", diff)
	}
}
