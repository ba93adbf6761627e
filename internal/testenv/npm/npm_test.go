package npm

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// TestInstall: packages are installed once, however many tests want them at the same time; what a killed installation
// left is not taken for whole, and a machine without npm or its registry is told from a lock file that is wrong.
func TestInstall(t *testing.T) {
	const works = "echo install >>$CALLS\nls >files\nmkdir node_modules && touch node_modules/last"
	tests := map[string]struct {
		npm     string // a shell script; "" if there is no npm
		killed  bool   // an installation was
		skipped bool
		err     string
	}{
		"works":         {npm: works},
		"killed before": {npm: works, killed: true},
		"no npm":        {skipped: true},
		"no registry":   {npm: "mkdir node_modules; echo 'npm error code ENOTFOUND' >&2; exit 1", skipped: true},
		"wrong lock":    {npm: "echo 'npm error code EUSAGE' >&2; exit 1", err: "EUSAGE"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			bin, dir, cache := t.TempDir(), t.TempDir(), t.TempDir()
			t.Setenv("PATH", bin+":/bin:/usr/bin")
			if tt.npm == "" {
				t.Setenv("PATH", bin)
			}
			t.Setenv("HOME", cache) // where macOS has its caches
			t.Setenv("XDG_CACHE_HOME", cache)
			calls := filepath.Join(t.TempDir(), "calls")
			t.Setenv("CALLS", calls)
			write(t, filepath.Join(bin, "node"), "#!/bin/sh\n")
			if tt.npm != "" {
				write(t, filepath.Join(bin, "npm"), "#!/bin/sh\n"+tt.npm+"\n")
			}
			write(t, filepath.Join(dir, "package.json"), "{}")
			write(t, filepath.Join(dir, "package-lock.json"), `{"lockfileVersion": 3}`)
			if tt.killed {
				first, err := install(t.Context(), dir)
				if err != nil {
					t.Fatal(err)
				}
				whole := filepath.Dir(first)
				if err := errors.Join(os.Rename(whole, whole+".part"), os.Remove(calls)); err != nil {
					t.Fatal(err)
				}
			}

			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() {
					modules, err := install(t.Context(), dir)
					switch {
					case tt.skipped != errors.Is(err, errMissing):
						t.Errorf("got %v, want it skipped: %v", err, tt.skipped)
					case tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)):
						t.Errorf("got %v, want an error with %s", err, tt.err)
					case tt.err == "" && !tt.skipped:
						if _, statErr := os.Stat(filepath.Join(modules, "last")); err != nil || statErr != nil {
							t.Errorf("got %q, %v: %v", modules, err, statErr)
						}
					}
				})
			}
			wg.Wait()
			if b, _ := os.ReadFile(calls); tt.err == "" && !tt.skipped && string(b) != "install\n" {
				t.Errorf("npm was called so: %q, want one call", b)
			}
		})
	}
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}
