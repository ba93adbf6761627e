package inngestserver

import (
	"os"
	"os/exec"
	"testing"
)

func TestServerDiesWithUs(t *testing.T) {
	c, processes := fake(t, "orphans")
	cmd := exec.Command(c.Path, "dev")
	cmd.Env = append(os.Environ(), "TMPDIR="+t.TempDir()) // for the directory that it cannot remove
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	gone := processes(2)
	_ = cmd.Wait() // it kills itself
	gone()
}
