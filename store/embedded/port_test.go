//go:build !noembedded

package embedded

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/consul/sdk/freeport"
)

// TestKeptPort: other programs find a folder's server at the same port after a restart, even if a command has had the
// folder meanwhile; if something else has the port, it is another one, and that one is kept.
func TestKeptPort(t *testing.T) {
	dir := t.TempDir()
	port := freeport.GetOne(t) // no other test's, as those from 27018 on may be at any time
	serve := func(addr string) (uri string) {
		t.Helper()
		s, err := startFrom(t.Context(), port, dir, addr, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		return s.URI()
	}
	first := serve("")
	if want := fmt.Sprintf("mongodb://127.0.0.1:%d/", port); first != want {
		t.Errorf("the first time: got %s, want %s", first, want)
	}
	serve(anyPort)
	if got := serve(""); got != first {
		t.Errorf("after a restart: got %s, want %s", got, first)
	}
	taken, err := net.Listen("tcp", strings.Trim(strings.TrimPrefix(first, "mongodb://"), "/"))
	if err != nil {
		t.Fatal(err)
	}
	second := serve("")
	if second == first {
		t.Errorf("the port is taken: got %s", second)
	}
	if err := taken.Close(); err != nil {
		t.Fatal(err)
	}
	if got := serve(""); got != second {
		t.Errorf("after that: got %s, want %s", got, second)
	}
	for _, text := range []string{"", "0", "http", "99999", "-1", strings.Repeat("2", 1<<16)} {
		write(t, filepath.Join(dir, portFile), text)
		if got := serve(""); got != first {
			t.Errorf("%.20q in the file: got %s, want %s", text, got, first)
		}
	}
}

// TestLinkedFiles: a folder that came with somebody else's repository may have links in it. What they lead to stays as
// it is.
func TestLinkedFiles(t *testing.T) {
	dir := t.TempDir()
	precious := filepath.Join(t.TempDir(), "precious")
	write(t, precious, "mine")
	for _, name := range []string{portFile, uriFile} {
		if err := os.Symlink(precious, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	s, err := startFrom(t.Context(), freeport.GetOne(t), dir, "", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(precious); string(b) != "mine" {
		t.Errorf("got %q %v", b, err)
	}
}

// TestEndlessFiles: a file of ours that is a link to a device is as none: reading it would never end.
func TestEndlessFiles(t *testing.T) {
	const endless = "/dev/zero"
	if _, err := os.Stat(endless); err != nil {
		t.Skip("needs " + endless)
	}
	dir := t.TempDir()
	for _, name := range []string{portFile, uriFile} {
		if err := os.Symlink(endless, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if uri, err := Running(dir); err == nil {
		t.Errorf("got %.20q, want an error", uri)
	}
	if got := (&folder{path: dir}).keptAddress(t.Context(), firstPort); got == "" {
		t.Error("got no address")
	}
}
