// Package program finds the programs that some tests need besides Go: a browser, npm, promtool, servers.
package program

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Env is the environment variable that has a test fail, if it is "required", where it would skip for want of a program.
// .ci/run sets it, so that a check which is not made shows.
const Env = "CLERKSYNC_TEST_PROGRAMS"

// Program is one that a machine may lack.
type Program struct {
	Names []string // it goes by any of these on PATH; the first that is there is taken
	Dirs  string   // a pattern of folders, as of filepath.Glob, that are looked into after PATH; may be ""
	Get   string   // how to get it, for the line of a test that is skipped
}

// Chromium is a browser for tests. Debian's chromium-headless-shell starts in half of the time of the others.
func Chromium() Program {
	return Program{
		Names: []string{"chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"},
		Get:   "on Debian: apt-get install --no-install-recommends chromium-headless-shell",
	}
}

// Promtool checks metrics and alert rules.
func Promtool() Program {
	return Program{
		Names: []string{"promtool"},
		Get:   "on Debian: apt-get download prometheus && dpkg -x prometheus_*.deb DIR, then PATH=DIR/usr/bin:$PATH",
	}
}

// Postgres is PostgreSQL's server, with its other programs beside it. Debian keeps them out of PATH.
func Postgres() Program {
	return Program{
		Names: []string{"postgres"}, Dirs: "/usr/lib/postgresql/*/bin", Get: "on Debian: apt-get install postgresql",
	}
}

// Redis is the server that Inngest keeps its queue in.
func Redis() Program {
	return Program{Names: []string{"redis-server"}, Get: "on Debian: apt-get install redis-server"}
}

// Caddy is the proxy that clerksync stands behind.
func Caddy() Program { return Program{Names: []string{"caddy"}, Get: "on Debian: apt-get install caddy"} }

// Find returns the path of the program. The test skips where the program is missing, or fails if Env says so.
func Find(t testing.TB, p Program) string {
	t.Helper()
	dirs, _ := filepath.Glob(p.Dirs) // the patterns are ours
	for _, dir := range append([]string{""}, dirs...) {
		for _, name := range p.Names {
			if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
				return path
			}
		}
	}
	Missing(t, fmt.Sprintf("%s is not on PATH (%s)", strings.Join(p.Names, " or "), p.Get))
	return ""
}

// Missing skips the test because something is missing on this machine, or fails it if Env says so. what is the line
// that names it and says how to get it.
func Missing(t testing.TB, what string) {
	t.Helper()
	switch v := os.Getenv(Env); v {
	case "":
		t.Skip(what)
	case "required":
		t.Fatalf("%s; %s=%s does not let this test be skipped", what, Env, v)
	default:
		t.Fatalf(`%s=%s: want "required" or nothing`, Env, v)
	}
}
