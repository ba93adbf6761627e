package e2e_test

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"clerksync/internal/testenv"
)

// TestPoison: an event that can never be written becomes a dead letter after one try, and delays no other event.
func TestPoison(t *testing.T) {
	t.Parallel()
	// Sent again before the first failure is known, it would fail twice.
	w := newWorld(t, options{env: []string{"INBOX_RESEND_AFTER=1h"}})
	histories := testenv.Histories(t, rand.New(rand.NewPCG(9, 10)), 20)
	hooks := shuffled(rand.New(rand.NewPCG(9, 10)), histories)
	// Each only once: if a second delivery comes after the first was written, nothing clears it before it is sent
	// again, because Inngest ignores its id.
	seen := map[string]bool{}
	hooks = slices.DeleteFunc(hooks, func(h testenv.Webhook) bool {
		again := seen[h.ID]
		seen[h.ID] = true
		return again
	})
	poison := testenv.Webhook{
		ID: "msg_poison", Body: []byte(`{"type":"user.created","data":{"object":"user","first_name":"Ada"}}`),
	}
	w.deliverAll(slices.Insert(hooks, len(hooks)/2, poison), false)
	w.until("only the bad one is left", func() bool { return w.count("clerksync_inbox", struct{}{}) == 1 })
	w.compare(histories)
	w.until("it is marked failed", func() bool {
		return w.log.count(`"svix_id":"msg_poison","function":"clerksync-sync-user-from-clerk"`) == 1
	})
	if code, body := w.get("/metrics"); code != 200 || !strings.Contains(body, "clerksync_inbox_failed_total 1") {
		t.Errorf("metrics: %d, want one failed event", code)
	}
	show := w.command("deadletters", "show", "msg_poison")
	for _, want := range []string{
		"clerk/user.created", "sent      once", "function  clerksync-sync-user-from-clerk",
		"error     not a Clerk user: it has no id",
	} {
		if !strings.Contains(show, want) {
			t.Errorf("show has no %q:\n%s", want, show)
		}
	}
	w.command("deadletters", "replay", "msg_poison")
	w.until("it has failed again", func() bool {
		return strings.Contains(w.command("deadletters", "list"), "msg_poison")
	})
	if show := w.command("deadletters", "show", "msg_poison"); strings.Contains(show, "sent      once") {
		t.Errorf("want it sent again:\n%s", show)
	}
}

// TestDeadLetterOfIntegration: an event of Inngest's own integration that failed for good is kept too, and replayed
// after its cause is fixed.
func TestDeadLetterOfIntegration(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	restart := func(instance string) {
		kill(w.service)
		w.env = append(w.env, "CLERK_INSTANCE_ID="+instance)
		w.startService()
	}
	restart("ins_other")
	h := testenv.Histories(t, rand.New(rand.NewPCG(11, 12)), 1)[0]
	w.integrate("clerk/user.created", json.RawMessage(h.Webhooks[0].Body)) // an envelope, which names its instance
	w.until("it is a dead letter", func() bool {
		return strings.Contains(w.command("deadletters", "list"), "another Clerk instance")
	})
	if w.row(h.UserID) != nil {
		t.Error("it was written")
	}
	restart("ins_2e2e")
	if got, want := w.command("deadletters", "replay", "--all"), "1 will be sent again\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	w.until("it is written", func() bool { return w.row(h.UserID) != nil })
	w.drained()
	if got, want := w.command("deadletters", "list"), "no dead letters\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
