package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"clerksync/internal/child"
	"clerksync/internal/testenv"
)

// releaseEnv names the last release, as git does: a tag, or a commit.
const releaseEnv = "CLERKSYNC_TEST_RELEASE"

// TestLastRelease: this version carries on a database that the last release has written, with events that wait, dead
// letters, tombstones, notes of mails and of runs, and a history; and the last release carries on what this version has
// written, so that a deployment can go one step back.
func TestLastRelease(t *testing.T) {
	t.Parallel()
	release := os.Getenv(releaseEnv)
	if release == "" {
		t.Skip(releaseEnv + " names no release: set it to a tag or a commit, as .ci/run does")
	}
	last := build(t, checkOut(t, release), "last")
	this := build(t, ".", "this")
	own := filepath.Join(t.TempDir(), "clerksync.yaml")
	if err := os.WriteFile(own, []byte(testenv.Apps(t)[1].File), 0o600); err != nil {
		t.Fatal(err)
	}
	databases := map[string]map[string]string{"embedded": {}, "embedded, with a map": {"CLERKSYNC_MAP": own}}
	if uri := os.Getenv(testenv.MongoURI); uri != "" {
		databases["external"] = map[string]string{
			"MONGODB_URI": uri, "MONGODB_DATABASE": fmt.Sprint("test_release_", os.Getpid()),
		}
	}
	for name, database := range databases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := &carrying{around: newAround(t)}
			maps.Copy(w.settings, database)
			for n, binary := range []string{last, this, last, this} {
				w.round(n, binary)
			}
		})
	}
}

// checkOut writes the sources of a release to a new folder, and returns that of its command.
func checkOut(t *testing.T, release string) string {
	t.Helper()
	dir := t.TempDir()
	const script = `cd ../.. && git archive "$0" -- . | tar -x -C "$1"`
	if out, err := exec.CommandContext(t.Context(), "bash", "-o", "pipefail", "-c", script, release, dir).
		CombinedOutput(); err != nil {
		t.Fatalf("check out %s: %v\n%s", release, err, out)
	}
	return filepath.Join(dir, "cmd", "clerksync")
}

// build builds the command in a folder; with -trimpath, so that the second time all of it is in the build cache.
func build(t *testing.T, dir, name string) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), name)
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-buildvcs=false", "-o", binary, ".")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", name, err, out)
	}
	return binary
}

// carrying is a service whose binary changes from round to round.
type carrying struct {
	*around
	binary string
}

// round has a binary carry on what the one before it has left, and leave something itself.
func (w *carrying) round(n int, binary string) {
	w.t.Helper()
	w.binary = binary
	now := func(name string) string { return fmt.Sprint(name, "-", n) }
	before := func(name string) string { return fmt.Sprint(name, "-", n-1) }

	// What waits is written, the dead letter is replayed, and what Clerk sends once more changes nothing.
	w.start()
	w.away.Store(false)
	w.settled()
	w.stop()
	w.equal()
	w.start()
	if n > 0 {
		w.settled(before("waits"))
		w.deadLetters(1)
		w.clerksync("deadletters", "replay", "--all")
		w.settled(before("refused"))
	}
	w.again()
	w.settled()

	// New users and old ones.
	for _, name := range []string{"stays", "leaves", "leaving", "refused"} {
		w.happen("user.created", now(name), 0, http.StatusAccepted)
	}
	w.settled(now("stays"), now("leaves"), now("leaving"))
	w.deadLetters(1)
	w.happen("user.updated", now("stays"), 0, http.StatusAccepted)
	w.happen("user.deleted", now("leaves"), 0, http.StatusAccepted)
	if n > 0 {
		w.happen("user.updated", before("stays"), 0, http.StatusAccepted)
		w.happen("user.updated", before("waits"), 0, http.StatusAccepted)
		w.happen("user.deleted", before("refused"), 0, http.StatusAccepted)
	}
	w.settled()
	w.stop()

	// The rows are right, and why they are so is known.
	w.equal()
	if why := w.clerksync("users", "why", w.ids["stays-0"]); !strings.Contains(why, "created by webhook msg_stays-0_") {
		w.t.Errorf("round %d: got %s, want by what the first user was created", n, why)
	}
	for name, n := range w.mailed() {
		if n != 1 {
			w.t.Errorf("%s has got %d mails, want one", name, n)
		}
	}

	// What the next round finds.
	w.start()
	w.away.Store(true)
	w.happen("user.created", now("waits"), 0, http.StatusAccepted)
	w.still = true
	w.happen("user.updated", now("stays"), 0, http.StatusAccepted)
	w.still = false
	w.happen("user.deleted", now("leaving"), 0, http.StatusAccepted)
	w.stop()
}

// equal checks that the binary finds the rows equal to Clerk. The service must be stopped, for the embedded database.
func (w *carrying) equal() {
	w.t.Helper()
	const none = " 0 missing, 0 stale, 0 extra (repaired), 0 failed, 0 buried, 0 unknown"
	if what := w.clerksync("reconcile"); !strings.Contains(what, none) {
		w.t.Errorf("%s: got %s, want%s", filepath.Base(w.binary), what, none)
	}
}

// start starts the service, and waits until it listens.
func (w *carrying) start() {
	w.t.Helper()
	w.known.Store(false)
	w.service = service{log: &testenv.Output{}}
	cmd := exec.CommandContext(w.t.Context(), w.binary, "serve")
	cmd.Env, cmd.Stdout, cmd.Stderr = environ(w.settings), io.Discard, w.service.log
	p, err := child.Start(cmd)
	if err != nil {
		w.t.Fatal(err)
	}
	w.service.stop = func() error { return errors.Join(p.Terminate(), p.Wait()) }
	until(w.t, "it listens", func() bool {
		_, rest, ok := strings.Cut(w.service.log.String(), `"msg":"listening","url":"`)
		w.service.url, _, _ = strings.Cut(rest, `"`)
		return ok || p.Ended()
	})
	if p.Ended() {
		w.t.Fatalf("%s did not start:\n%s", filepath.Base(w.binary), w.service.log)
	}
}

func (w *carrying) stop() {
	w.t.Helper()
	if err := w.service.stop(); err != nil {
		w.t.Errorf("%s ended with %v:\n%s", filepath.Base(w.binary), err, w.service.log)
	}
}

// clerksync runs a command, and returns what it prints.
func (w *carrying) clerksync(args ...string) string {
	w.t.Helper()
	var out bytes.Buffer
	cmd := exec.CommandContext(w.t.Context(), w.binary, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = environ(w.settings), &out, &out
	if err := cmd.Run(); err != nil {
		w.t.Errorf("%s %s: %v\n%s", filepath.Base(w.binary), strings.Join(args, " "), err, &out)
	}
	return out.String()
}
