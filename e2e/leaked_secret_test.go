package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"

	"clerksync/internal/testenv"
)

// TestNothingPrivate: whatever goes wrong, no log, metric, answer, help text, error or process list contains a secret
// or a user's address. Every test with a world checks that at its end; this one provokes errors that the others do not.
func TestNothingPrivate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{ownDatabase: true})
	rng := rand.New(rand.NewPCG(13, 14))
	histories := testenv.Histories(t, rng, 20)
	w.deliverAll(shuffled(rng, histories), false)
	for i, h := range histories {
		body := h.Webhooks[0].Body
		// an error that could quote it
		w.post(testenv.Webhook{
			ID: fmt.Sprint("msg_number_", i), Body: bytes.Replace(body, []byte(`"image_url":`),
				[]byte(`"image_url":4242,"x":`), 1),
		})
		w.post(testenv.Webhook{ID: fmt.Sprint("msg_cut_", i), Body: body[:len(body)-1]})
		w.integrate("clerk/user.updated",
			json.RawMessage(bytes.ReplaceAll(h.Webhooks[0].Data, []byte(`"id":"user_`), []byte(`"id":"\u0001user_`))))
	}
	dead := []string{"msg_number_", `no Clerk id`, `"image_url" is a number`}
	w.until("the bad ones are dead letters", func() bool {
		list := w.command("deadletters", "list")
		return !slices.ContainsFunc(dead, func(s string) bool { return !strings.Contains(list, s) })
	})
	for id := range strings.FieldsSeq(w.command("deadletters", "list")) {
		if strings.HasPrefix(id, "msg_") {
			w.command("deadletters", "show", id)
		}
	}
	if err := w.inngest.Kill(); err != nil {
		t.Fatal(err)
	}
	w.deliver(histories[0].Webhooks[0])
	w.get("/readyz")
	kill(w.db)
	w.post(histories[0].Webhooks[0])
	w.get("/readyz")
	w.get("/metrics")
	w.command("--help")
	w.command("serve", "--help")
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", w.service.PID()))
	if err != nil && runtime.GOOS == "linux" {
		t.Error(err)
	}
	_, _ = w.log.Write(bytes.ReplaceAll(b, []byte{0}, []byte{' '})) // never fails
	for _, wrong := range []string{
		"MONGODB_URI=mongodb://u:e2e-password@h:x/y", "INNGEST_SIGNING_KEY=e2e-password",
		"CLERK_WEBHOOK_SIGNING_SECRET=e2e-password", "SHUTDOWN_TIMEOUT=e2e-password",
	} {
		cmd := exec.CommandContext(t.Context(), programs.clerksync, "serve")
		cmd.Env = append(slices.Clone(w.env), wrong)
		out, err := cmd.CombinedOutput()
		if err == nil || bytes.Contains(out, []byte("e2e-password")) {
			t.Errorf("with %s: %v, %s", wrong, err, out)
		}
		_, _ = w.log.Write(out) // never fails
	}
	n := 0
	w.private.Range(func(any, any) bool { n++; return true })
	if n < 10 {
		t.Errorf("looked for %d addresses and numbers, want more", n)
	}
}
