package e2e_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"clerksync/internal/child"
)

// TestDemo runs the first command of the README.
func TestDemo(t *testing.T) {
	t.Parallel()
	endToEnd(t)
	dir, env := t.TempDir(), []string{
		"PATH=/usr/bin:/bin", "HOME=" + t.TempDir(), "INNGEST_CLI=" + programs.inngest.Path,
		"EMBEDDED_PORT=0", // other tests may take the first that is free at the same time
	}
	demo := func() (string, error) {
		var out bytes.Buffer
		cmd := exec.CommandContext(t.Context(), programs.clerksync, "dev", "--demo")
		cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, env, &out, &out
		err := child.Run(cmd)
		return out.String(), err
	}
	out, err := demo()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{
		`"full_name": "Ada Lovelace"`, `"full_name": "Ada King"`, "(no row)",
		"Inngest     http://127.0.0.1:", "mongodb://127.0.0.1:",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the output has no %s:\n%s", want, out)
		}
	}
	if out, err := demo(); err != nil {
		t.Errorf("the second time: %v\n%s", err, out)
	}
}

// TestDevAndSend runs what the README says next: 'dev' in one terminal and 'send' in another, which prints the row that
// a real Inngest has had written. Nothing looks like an error, neither while they run nor at the end.
func TestDevAndSend(t *testing.T) {
	t.Parallel()
	endToEnd(t)
	dir, log := t.TempDir(), &logFile{}
	command := func(args ...string) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), programs.clerksync, args...)
		cmd.Dir, cmd.Env = dir, []string{
			"PATH=/usr/bin:/bin", "HOME=" + t.TempDir(), "INNGEST_CLI=" + programs.inngest.Path,
			"EMBEDDED_PORT=0",       // other tests may take the first that is free at the same time
			"INBOX_RESEND_AFTER=1h", // what a busy machine only delays is not sent again, which is a warning
		}
		return cmd
	}
	cmd := command("dev")
	cmd.Stdout, cmd.Stderr = log, log
	dev, err := child.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kill(dev) })
	running := filepath.Join(dir, "data", "dev.json")
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("'dev' printed:\n%s", log)
		}
	})
	until(t, "dev runs", patience, func() bool { _, err := os.Stat(running); return err == nil })
	const ada = "user_2clerksyncSampleAdaLovelace"
	for _, step := range []struct{ typ, sent, line string }{
		{"user.created", `"full_name": "Ada Lovelace"`, "user.created " + ada + " → created in "},
		{"user.updated", `"full_name": "Ada King"`, "user.updated " + ada + " → updated in "},
		{"user.deleted", "a deleted user stays deleted", "user.deleted " + ada + " → deleted in "},
		{"user.created", "no row: a deleted user stays deleted", "user.created " + ada + " → deleted in "},
	} {
		out, err := command("send", step.typ, "--within", patience.String()).CombinedOutput()
		if err != nil || !strings.Contains(string(out), step.sent) {
			t.Errorf("send %s: got %v\n%s", step.typ, err, out)
		}
		until(t, "'dev' prints "+step.line, patience, func() bool { return log.count(step.line) > 0 })
	}
	if err := dev.Stop(); err != nil {
		t.Errorf("it ended with %v", err)
	}
	for _, bad := range []string{`"level":"ERROR"`, `"level":"WARN"`, "production", "whsec_"} {
		if log.count(bad) > 0 {
			t.Errorf("it printed %s", bad)
		}
	}
	if _, err := os.Stat(running); err == nil {
		t.Errorf("%s is still there", running)
	}
}
