package e2e_test

import (
	"bytes"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"clerksync/internal/child"
	"clerksync/internal/testenv"
)

// doctor runs 'clerksync doctor' with the service's settings and these, and returns what it printed and its exit
// status.
func (w *world) doctor(set ...string) (string, int) {
	w.t.Helper()
	var out bytes.Buffer
	cmd := exec.Command(programs.clerksync, "doctor", "--url", w.url)
	to := io.MultiWriter(&out, w.log)
	cmd.Env, cmd.Stdout, cmd.Stderr = slices.Concat(w.env, set), to, to
	_ = cmd.Run() // the status says it
	return out.String(), cmd.ProcessState.ExitCode()
}

// examine checks the exit status of doctor, and that it printed these lines, or these beginnings of lines.
func (w *world) examine(status int, lines []string, set ...string) {
	w.t.Helper()
	got, code := w.doctor(set...)
	if code != status || strings.Contains(got, "FAIL") != (status == 1) {
		w.t.Errorf("got exit status %d, want %d:\n%s", code, status, got)
	}
	for _, l := range lines {
		if !strings.Contains(got, l) {
			w.t.Errorf("printed\n%s, want %q", got, l)
		}
	}
}

// withClerk starts the service again with the key of a fake Clerk, which has one user, whose webhook has become a row.
func (w *world) withClerk() {
	w.t.Helper()
	fake := testenv.NewClerkAPI(w.t)
	w.env = append(w.env, "CLERK_SECRET_KEY="+testenv.ClerkKey, "CLERK_API_URL="+fake.URL,
		"CLERK_INSTANCE_ID="+testenv.ClerkInstance)
	kill(w.service)
	w.startService()
	created, _, _ := life(w.t, testenv.UserID(time.Now().Add(-time.Hour), 1))
	fake.Put(created.APIUser(w.t))
	w.deliver(created)
	w.drained()
}

// TestDoctor: beside a service that runs as it should nothing has failed; without Inngest something has.
func TestDoctor(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	w.withClerk()
	well := []string{
		"ok    settings   complete", "ok    database   the indexes are there",
		"ok    inngest    the dev server answers", "ok    inngest    events are taken",
		`ok    inngest    the app "clerksync" is registered`, "ok    clerk      CLERK_SECRET_KEY is accepted",
		"ok    inbox      no event waits",
		"ok    inbox      no dead letters", "ok    rows       1, as many as Clerk",
		"but not over TLS",
	}
	w.examine(0, well)
	w.examine(1, []string{`FAIL  inngest    the app "other" is not registered`, "1 check failed"},
		"INNGEST_APP_ID=other")
	if err := w.inngest.Kill(); err != nil {
		t.Fatal(err)
	}
	w.examine(1, []string{
		"FAIL  inngest    the dev server cannot be reached", "ok    rows       1, as", "1 check failed",
	})
}

// selfHosted starts an Inngest of one's own, with our keys, and returns its URL.
func selfHosted(t *testing.T, args ...string) string {
	t.Helper()
	port := testenv.FreePort(t)
	args = append([]string{"--sqlite-dir", t.TempDir(), "--tick", "20"}, args...)
	server, err := child.Start(selfHostedCommand(t, port, signingKey, []string{eventKey}, args...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kill(server) })
	return fmt.Sprintf("http://127.0.0.1:%d", port)
}

// TestDoctorSelfHosted: a self-hosted Inngest refuses other keys than those that it was started with, and lists the
// functions.
func TestDoctorSelfHosted(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	w.env = append(w.env, "INNGEST_DEV=0", "INNGEST_BASE_URL="+selfHosted(t), "INNGEST_SIGNING_KEY="+signingKey)
	w.withClerk() // the row is that Inngest's work
	w.examine(0, []string{
		"ok    inngest    your Inngest answers", "ok    inngest    INNGEST_EVENT_KEY is accepted",
		"ok    inngest    INNGEST_SIGNING_KEY is accepted",
		`ok    inngest    the app "clerksync" is registered`, "ok    rows       1, as many as Clerk",
	})
	w.examine(1, []string{"FAIL  inngest    INNGEST_SIGNING_KEY is not accepted", "1 check failed"},
		"INNGEST_SIGNING_KEY=signkey-test-ffff")
	w.examine(1, []string{"FAIL  inngest    INNGEST_EVENT_KEY is not accepted", "1 check failed"},
		"INNGEST_EVENT_KEY=other")
	w.examine(0, []string{"warn  inngest    only INNGEST_SIGNING_KEY_FALLBACK is accepted"},
		"INNGEST_SIGNING_KEY=signkey-test-ffff", "INNGEST_SIGNING_KEY_FALLBACK="+signingKey)
}
