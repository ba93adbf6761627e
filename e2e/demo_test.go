package e2e_test

import (
	"bytes"
	"os/exec"
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
