package inngestserver

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// What the programs on PATH do. DIR stands for the repository.
const (
	works    = `[ "$1" = version ]`
	broken   = `echo "out of order" >&2; exit 3`
	installs = `[ "$1" = --yes ] && mkdir DIR/npm && cp DIR/bin/works DIR/npm/inngest-cli && echo DIR/npm`
	builds   = `[ "$1 $3 $5 $GOOS $GOFLAGS $GOWORK" = "build -o github.com/inngest/inngest/cmd ` + runtime.GOOS + ` -mod=readonly off" ] &&
		grep -q v1.2.3 go.mod && echo built >>DIR/log && cp DIR/bin/works "$4"`
)

func TestFind(t *testing.T) {
	const (
		throughNPX = "looking for inngest-cli through npx…"
		building   = "building the Inngest dev server v1.2.3 from source, once; this takes a few minutes…"
		built      = "v1.2.3 built from source, without its web page"
	)
	tests := map[string]struct {
		programs   map[string]string
		inngestCLI string
		pinnedOnly bool
		want       string // its source
		progress   []string
		wantErr    string
	}{
		"INNGEST_CLI is before PATH": {
			programs:   map[string]string{"inngest": works},
			inngestCLI: "DIR/bin/works",
			want:       "INNGEST_CLI=DIR/bin/works",
		},
		"INNGEST_CLI may be relative": {
			inngestCLI: "bin/works",
			want:       "INNGEST_CLI=DIR/bin/works",
		},
		"INNGEST_CLI that does not work is an error": {
			programs:   map[string]string{"inngest": works, "mine": broken},
			inngestCLI: "DIR/bin/mine",
			wantErr:    "the server that INNGEST_CLI names does not work: DIR/bin/mine version: exit status 3: out of order",
		},
		"INNGEST_CLI that is not there is an error": {
			programs:   map[string]string{"inngest": works},
			inngestCLI: "DIR/bin/mine",
			wantErr:    "the server that INNGEST_CLI names does not work: DIR/bin/mine version: fork/exec DIR/bin/mine: no such file or directory",
		},
		"inngest is before inngest-cli": {
			programs: map[string]string{"inngest": works, "inngest-cli": works},
			want:     "DIR/bin/inngest",
		},
		"inngest-cli is before npx": {
			programs: map[string]string{"inngest-cli": works, "npx": installs},
			want:     "DIR/bin/inngest-cli",
		},
		"one on PATH that does not work is passed over": {
			programs: map[string]string{"inngest": broken, "inngest-cli": works},
			want:     "DIR/bin/inngest-cli",
			progress: []string{"passing over DIR/bin/inngest, which does not work: DIR/bin/inngest version: exit status 3: out of order"},
		},
		"npx is before a build": {
			programs: map[string]string{"npx": installs, "go": builds},
			want:     "npx inngest-cli@latest",
			progress: []string{throughNPX},
		},
		"an npx that fails is passed over": {
			programs: map[string]string{"npx": broken, "go": builds},
			want:     built,
			progress: []string{throughNPX, building},
		},
		"an npx that installs nothing is passed over": {
			programs: map[string]string{"npx": "echo DIR/npm", "go": builds},
			want:     built,
			progress: []string{throughNPX, building},
		},
		"without npx it is built": {
			programs: map[string]string{"go": builds},
			want:     built,
			progress: []string{building},
		},
		"the pinned one is neither on PATH nor from npx": {
			programs:   map[string]string{"inngest": works, "npx": installs, "go": builds},
			pinnedOnly: true,
			want:       built,
			progress:   []string{building},
		},
		"INNGEST_CLI is before the pinned one": {
			programs:   map[string]string{"go": builds},
			inngestCLI: "DIR/bin/works",
			pinnedOnly: true,
			want:       "INNGEST_CLI=DIR/bin/works",
		},
		"a build that fails is an error": {
			programs: map[string]string{"go": broken},
			progress: []string{building},
			wantErr:  "no Inngest dev server: build v1.2.3: DIR/bin/go build: exit status 3: out of order; " + advice,
		},
		"no Go is an error": {
			wantErr: "no Inngest dev server: there is no Go on PATH to build one with; " + advice,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRepo(t, tc.programs)
			var progress []string
			o := r.options(func(line string) { progress = append(progress, r.short(line)) })
			o.Environ = append(o.Environ, "INNGEST_CLI="+r.long(tc.inngestCLI))
			o.PinnedOnly = tc.pinnedOnly
			got, err := Find(t.Context(), o)
			if diff := cmp.Diff(tc.wantErr, r.short(text(err))); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tc.want, r.short(got.Source)); diff != "" && err == nil {
				t.Errorf("source (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tc.progress, progress); diff != "" {
				t.Errorf("progress (-want +got):\n%s", diff)
			}
		})
	}
}

func TestFindWalksUp(t *testing.T) {
	r := newRepo(t, map[string]string{"go": builds})
	elsewhere := t.TempDir()
	write(t, filepath.Join(elsewhere, "tools", "inngest", "go.mod"), "module example.com/tools/inngest\n\nrequire github.com/inngest/inngest v1.2.3\n")
	tests := map[string]struct {
		dir     string
		wantErr string
	}{
		"from the repository":    {dir: "DIR"},
		"from a directory in it": {dir: "DIR/cmd/clerksync"},
		"from the module itself": {dir: "DIR/tools/inngest"},
		"not from another project": {
			dir:     elsewhere,
			wantErr: "no Inngest dev server: the source of one, clerksync/tools/inngest, is not in " + elsewhere + " or above; " + advice,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			o := r.options(nil)
			o.Dir = r.long(tc.dir)
			_, err := Find(t.Context(), o)
			if got := text(err); got != tc.wantErr {
				t.Errorf("got error %q, want %q", got, tc.wantErr)
			}
		})
	}
}

// text returns what the error says, or "" if it is nil.
func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestFindBuildsOncePerPin(t *testing.T) {
	r := newRepo(t, map[string]string{"go": builds})
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if _, err := Find(t.Context(), r.options(nil)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if got, want := r.read("log"), "built\n"; got != want {
		t.Errorf("four at once: got %q, want %q", got, want)
	}
	write(t, r.long("DIR/tools/inngest/go.mod"), r.read("tools/inngest/go.mod")+"// changed\n")
	if _, err := Find(t.Context(), r.options(nil)); err != nil {
		t.Fatal(err)
	}
	if got, want := r.read("log"), "built\nbuilt\n"; got != want {
		t.Errorf("after a change of the pin: got %q, want %q", got, want)
	}
}

func TestFindEndsWithItsContext(t *testing.T) {
	r := newRepo(t, map[string]string{"go": builds})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Find(ctx, r.options(func(line string) { t.Errorf("it went on: %s", line) }))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

func TestRunEndsTheChildrenToo(t *testing.T) {
	c, processes := fake(t, "parent")
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error)
	go func() {
		_, err := run(ctx, t.TempDir(), c.env, c.Path, "dev", "--port", "0")
		failed <- err
	}()
	gone := processes(2)
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	gone()
}

func TestCleanEnv(t *testing.T) {
	got := cleanEnv([]string{
		"PATH=/bin", "HOME=/home/me", "INNGEST_DEV=1", "LOG_LEVEL=debug", "CLERK_SECRET_KEY=x", "MONGODB_URI=x",
		"https_proxy=http://proxy", "npm_config_registry=http://registry", "GOFLAGS=-v", "=C:=C:\\x",
	})
	want := []string{"DO_NOT_TRACK=1", "PATH=/bin", "HOME=/home/me", "https_proxy=http://proxy", "npm_config_registry=http://registry"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestEvery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []time.Duration
		stop := every(15*time.Second, func(elapsed time.Duration) { got = append(got, elapsed) })
		time.Sleep(50 * time.Second)
		stop()
		time.Sleep(50 * time.Second)
		if want := []time.Duration{15 * time.Second, 30 * time.Second, 45 * time.Second}; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

// repo is a repository with a tools/inngest that pins v1.2.3, and with programs in bin, which is all of PATH.
type repo struct {
	t   *testing.T
	dir string
}

func newRepo(t *testing.T, programs map[string]string) repo {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("its programs are shell scripts")
	}
	r := repo{t: t, dir: t.TempDir()}
	write(t, r.long("DIR/tools/inngest/go.mod"), "module clerksync/tools/inngest\n\nrequire (\n\tgithub.com/inngest/inngest v1.2.3 // indirect\n)\n")
	program := func(name, script string) {
		write(t, r.long("DIR/bin/"+name), "#!/bin/sh\nPATH=/usr/bin:/bin\n"+r.long(script)+"\n")
	}
	program("works", works)
	for name, script := range programs {
		program(name, script)
	}
	return r
}

func (r repo) long(s string) string  { return strings.ReplaceAll(s, "DIR", r.dir) }
func (r repo) short(s string) string { return strings.ReplaceAll(s, r.dir, "DIR") }

// options find only what is in the repository, in an environment that would spoil a build.
func (r repo) options(progress func(string)) FindOptions {
	return FindOptions{
		Environ:  []string{"PATH=relative:" + r.long("DIR/bin"), "GOOS=plan9", "GOFLAGS=-mod=vendor", "GOWORK=/nowhere"},
		Dir:      r.dir,
		Cache:    r.long("DIR/cache"),
		Progress: progress,
	}
}

func (r repo) read(name string) string {
	r.t.Helper()
	b, err := os.ReadFile(filepath.Join(r.dir, name))
	if err != nil {
		r.t.Fatal(err)
	}
	return string(b)
}

// write makes an executable file.
func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o700); err != nil {
		t.Fatal(err)
	}
}
