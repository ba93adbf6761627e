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
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// What the programs on PATH do. DIR stands for the repository.
const (
	works    = `[ "$1" = version ] && echo 1.44.0-0f1e2d3c4`
	older    = `[ "$1" = version ] && echo 1.30.0-c3b2a1908`
	broken   = `echo "out of order" >&2; exit 3`
	installs = `[ "$1" = --yes ] && mkdir DIR/npm && cp DIR/bin/works DIR/npm/inngest-cli && echo DIR/npm`
	// builds is a Go that has a module without its documentation.
	builds = `PATH=/usr/bin:/bin
case "$*" in
"mod download -json github.com/inngest/inngest@v1.44.0") echo '{"Dir": "DIR/module"}' ;;
"list -deps ./cmd") echo unsafe; echo runtime; echo x.example/y ;;
"build -v -trimpath -gcflags=all=-l -dwarf=false -gcflags=std=-dwarf=false "*" -ldflags=-s -w -o "*" ./cmd")
	[ "$GOFLAGS $GOWORK" = "-mod=mod off" ] && [ "$GOOS" != plan9 ] && [ -w cmd/main.go ] &&
		[ "$(cat pkg/pubsub/broker.go)" = "$(cat DIR/trimmed)" ] &&
		[ -f internal/embeddocs/website/pages/docs/placeholder.mdx ] && echo built >>DIR/log &&
		cp DIR/bin/works "${10}" ;;
*) echo "not expected: $*" >&2; exit 4 ;;
esac`
)

func TestFind(t *testing.T) {
	const (
		throughNPX = "looking for inngest-cli@1.44.0 through npx…"
		building   = "building the Inngest server v1.44.0 from source, once, because no Inngest CLI was found: it " +
			"downloads up to\n300 MB from Go's module proxy, takes about two minutes on two cores, and is kept in\n" +
			"DIR/cache/clerksync"
		built = "v1.44.0 built from source, without its web page"
	)
	tests := map[string]struct {
		programs   map[string]string
		inngestCLI string
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
			wantErr: "the server that INNGEST_CLI names does not work: DIR/bin/mine version: exit status 3: out " +
				"of order",
		},
		"INNGEST_CLI that is not there is an error": {
			programs:   map[string]string{"inngest": works},
			inngestCLI: "DIR/bin/mine",
			wantErr: "the server that INNGEST_CLI names does not work: DIR/bin/mine version: fork/exec " +
				"DIR/bin/mine: no such file or directory",
		},
		"inngest is before inngest-cli": {
			programs: map[string]string{"inngest": works, "inngest-cli": works},
			want:     "DIR/bin/inngest",
		},
		"another version is taken, and said": {
			programs: map[string]string{"inngest": older},
			want:     "DIR/bin/inngest, which is 1.30.0-c3b2a1908; clerksync is tested with v1.44.0",
		},
		"inngest-cli is before npx": {
			programs: map[string]string{"inngest-cli": works, "npx": installs},
			want:     "DIR/bin/inngest-cli",
		},
		"one on PATH that does not work is passed over": {
			programs: map[string]string{"inngest": broken, "inngest-cli": works},
			want:     "DIR/bin/inngest-cli",
			progress: []string{
				"passing over DIR/bin/inngest, which does not work: DIR/bin/inngest version: exit status 3: out of " +
					"order",
			},
		},
		"npx is before a build": {
			programs: map[string]string{"npx": installs, "go": builds},
			want:     "npx inngest-cli@1.44.0",
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
		"a build that fails is an error": {
			programs: map[string]string{"go": broken},
			progress: []string{building},
			wantErr: "no Inngest dev server: build the Inngest server v1.44.0: DIR/bin/go mod: exit status 3: out " +
				"of order; " + advice,
		},
		"no Go is an error": {
			wantErr: "no Inngest dev server: there is no Go on PATH to build one with; " + advice,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRepo(t, tc.programs)
			var progress []string
			o := r.options(func(line string) {
				if !strings.HasPrefix(line, "built the Inngest server v1.44.0 in ") { // and how long it took
					progress = append(progress, r.short(line))
				}
			})
			o.Environ = append(o.Environ, "INNGEST_CLI="+r.long(tc.inngestCLI))
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

// text returns what the error says, or "" if it is nil.
func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// TestBuild: what several want at once is built once; each version is another; what is not built is an error that takes
// no time; and nothing is left of a build but the server.
func TestBuild(t *testing.T) {
	r := newRepo(t, map[string]string{"go": builds})
	o := r.options(nil)
	if _, err := Built(Version, o); !errors.Is(err, ErrNotBuilt) {
		t.Errorf("before: got %v, want ErrNotBuilt", err)
	}
	write(t, r.long("DIR/cache/clerksync/inngest-v1.44.0.build/source/cmd/old.go"), "what one that was killed has left")
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if _, err := Build(t.Context(), Version, o); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if got, want := r.read("log"), "built\n"; got != want {
		t.Errorf("four at once: got %q, want %q", got, want)
	}
	if _, err := Built(Version, o); err != nil {
		t.Errorf("after: %v", err)
	}
	if _, err := Build(t.Context(), OldVersion, o); !strings.Contains(text(err),
		"not expected: mod download -json github.com/inngest/inngest@v1.12.1") {
		t.Errorf("the old version: got %v", err)
	}
	left, err := filepath.Glob(r.long("DIR/cache/clerksync/*"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range left {
		left[i] = filepath.Base(left[i])
	}
	if d := cmp.Diff([]string{"inngest-v1.12.1.lock", "inngest-v1.44.0", "inngest-v1.44.0.lock"}, left); d != "" {
		t.Errorf("in the cache (-want +got):\n%s", d)
	}
}

// TestCacheCannotBeWritten: it is said what to set.
func TestCacheCannotBeWritten(t *testing.T) {
	r := newRepo(t, map[string]string{"go": builds})
	write(t, r.long("DIR/file"), "")
	o := r.options(nil)
	o.Cache = r.long("DIR/file")
	_, err := Build(t.Context(), Version, o)
	if want := "not a directory: the server would be built and kept there: set HOME, or on Linux XDG_CACHE_HOME, to " +
		"a folder that you may write to"; !strings.HasSuffix(text(err), want) {
		t.Errorf("got %v, want %q", err, want)
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

func TestCleanEnv(t *testing.T) {
	got := cleanEnv([]string{
		"PATH=/bin", "HOME=/home/me", "INNGEST_DEV=1", "LOG_LEVEL=debug", "CLERK_SECRET_KEY=x", "MONGODB_URI=x",
		"https_proxy=http://proxy", "npm_config_registry=http://registry", "GOFLAGS=-v", "=C:=C:\\x",
	})
	want := []string{
		"DO_NOT_TRACK=1", "PATH=/bin", "HOME=/home/me", "https_proxy=http://proxy",
		"npm_config_registry=http://registry",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestUntrimmed: a server whose queues are not where they were is not built as if they were gone.
func TestUntrimmed(t *testing.T) {
	r := newRepo(t, map[string]string{"go": builds})
	write(t, r.long("DIR/module/pkg/pubsub/broker.go"), "import (\n\t_ \"gocloud.dev/pubsub/gcppubsub\"\n)\n")
	_, err := Build(t.Context(), Version, r.options(nil))
	const want = "build the Inngest server v1.44.0: DIR/cache/clerksync/inngest-v1.44.0.build/source/pkg/pubsub/" +
		"broker.go does not import awssnssqs"
	if got := r.short(text(err)); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestStderr: packages are counted, however their lines are cut, and the last line of the others is the error.
func TestStderr(t *testing.T) {
	for name, tc := range map[string]struct {
		written  []string
		packages int64
		last     string
	}{
		"nothing":  {},
		"packages": {written: []string{"runtime\nx.exam", "ple/y\n", "internal/z\n"}, packages: 3},
		"an error among them": {
			written:  []string{"runtime\n# x.example/y\ny/y.go:3:5: undefined: ", "z\nx.example/a\nx.example/b\n"},
			packages: 3, last: "y/y.go:3:5: undefined: z",
		},
		"no end of the line": {written: []string{"runtime\n", "signal: killed"}, packages: 1, last: "signal: killed"},
	} {
		t.Run(name, func(t *testing.T) {
			var packages atomic.Int64
			s := &stderr{packages: &packages}
			for _, text := range tc.written {
				if n, err := s.Write([]byte(text)); n != len(text) || err != nil {
					t.Errorf("wrote %d of %d, %v", n, len(text), err)
				}
			}
			if got := packages.Load(); got != tc.packages || s.last() != tc.last {
				t.Errorf("got %d packages and %q, want %d and %q", got, s.last(), tc.packages, tc.last)
			}
		})
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

// repo is a directory with a module of the server in module, and with programs in bin, which is all of PATH.
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
	t.Chdir(r.dir)
	write(t, r.long("DIR/module/cmd/main.go"), "package main\n")
	if err := os.Chmod(r.long("DIR/module/cmd/main.go"), 0o400); err != nil { // as in the module cache
		t.Fatal(err)
	}
	write(t, r.long("DIR/trimmed"), "import (\n\t_ \"gocloud.dev/pubsub/mempubsub\"\n)\n")
	write(t, r.long("DIR/module/pkg/pubsub/broker.go"), "import (\n\t_ \"gocloud.dev/pubsub/awssnssqs\"\n"+
		"\t_ \"gocloud.dev/pubsub/gcppubsub\"\n\t_ \"gocloud.dev/pubsub/mempubsub\"\n"+
		"\t_ \"gocloud.dev/pubsub/natspubsub\"\n)\n")
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
func (r repo) options(progress func(string)) Options {
	return Options{
		Environ: []string{
			"PATH=relative:" + r.long("DIR/bin"), "GOOS=plan9", "GOFLAGS=-mod=vendor", "GOWORK=/nowhere",
		},
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
