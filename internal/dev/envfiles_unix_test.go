//go:build unix

package dev

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestEnvFilesThatAreNone: a folder called .env is Python's, and nothing blocks the start.
func TestEnvFilesThatAreNone(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.Mkdir(".env", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(".env.local", 0o600); err != nil {
		t.Skip(err)
	}
	taken, said := takeHere()
	want := []string{
		".env.local is passed over: it is no ordinary file; set CLERK_WEBHOOK_SIGNING_SECRET in the environment",
	}
	if diff := cmp.Diff(want, said); diff != "" || taken != nil {
		t.Errorf("took %v, said (-want +got):\n%s", taken, diff)
	}
	if err := os.Remove(".env.local"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(".env.local", ".env.local"); err != nil {
		t.Fatal(err)
	}
	want[0] = strings.Replace(want[0], "it is no ordinary file", "too many levels of symbolic links", 1)
	if _, said = takeHere(); !cmp.Equal(want, said) {
		t.Errorf("a link to itself: said %q", said)
	}
	if err := os.WriteFile(filepath.Join(".env", "file"), nil, 0o600); err != nil {
		t.Errorf("the folder was changed: %v", err)
	}
}
