package inngesttest

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// TestForTests: a test waits for no build, and says in a line what is missing.
func TestForTests(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("its program is a shell script")
	}
	server := filepath.Join(t.TempDir(), "works")
	script := "#!/bin/sh\n[ \"$1\" = version ] && echo 1.44.0-0f1e2d3c4\n"
	if err := os.WriteFile(server, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Chdir(filepath.Dir(server))
	const missing = " is not built yet: run 'make test', which builds it first, or 'go test -short ./...', which " +
		"does without"
	for name, tc := range map[string]struct {
		version, cli string
		want, err    string
	}{
		"the usual one":                 {err: "the Inngest server v1.44.0" + missing},
		"the old one":                   {version: "old", err: "the Inngest server v1.12.1" + missing},
		"another":                       {version: "1", err: `CLERKSYNC_TEST_INNGEST=1: want "old" or nothing`},
		"the one that INNGEST_CLI says": {cli: "./works", want: "INNGEST_CLI=" + server},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(Env, tc.version)
			t.Setenv("INNGEST_CLI", tc.cli)
			cache := t.TempDir()
			c, err := Find(t.Context(), cache)
			got := ""
			if err != nil {
				got = err.Error()
			}
			if got != tc.err || err == nil && c.Source != tc.want {
				t.Errorf("got %q, %q, want %q, %q", c.Source, got, tc.want, tc.err)
			}
			if built, err := os.ReadDir(cache); err != nil || len(built) > 0 {
				t.Errorf("it went on: got %v, %v in the cache", built, err)
			}
		})
	}
}
