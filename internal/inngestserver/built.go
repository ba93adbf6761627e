package inngestserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/gofrs/flock"
)

// The servers that clerksync is tested with.
const (
	// Version is the one that everything here uses: the tests, 'dev', docker-compose.yml and the documentation, which a
	// test compares.
	Version = "v" + release
	// OldVersion is the oldest that is held: CI runs a few tests with it. It is of October 2025, and ignores the limits
	// of concurrency that the SDK asks for.
	OldVersion = "v1.12.1"
)

// release is the version as npm and Docker write it.
const release = "1.44.0"

const serverModule = "github.com/inngest/inngest"

// progressInterval is how often a build shows that it still goes on.
const progressInterval = 15 * time.Second

// ErrNotBuilt says that there is no server of a version in the cache.
var ErrNotBuilt = errors.New("is not built yet")

// BuildOptions say where a built server is and what builds it.
type BuildOptions struct {
	Environ  []string          // the process's environment, "NAME=value"
	Cache    string            // keeps the servers; "" is the user's cache directory
	Progress func(line string) // is told what takes long, never by two goroutines at once; may be nil
}

// TestEnv is the environment variable by which the tests run against the old server, if it is "old".
const TestEnv = "CLERKSYNC_TEST_INNGEST"

// TestVersion returns the version of the server that the tests run against.
func TestVersion(environ []string) (string, error) {
	switch v := value(environ, TestEnv); v {
	case "":
		return Version, nil
	case "old":
		return OldVersion, nil
	default:
		return "", fmt.Errorf("%s=%s: want \"old\" or nothing", TestEnv, v)
	}
}

// ForTests returns the server that the tests run against: the one that INNGEST_CLI names, or one that is built. It
// builds none, for a test waits for no build, and its error is one line that says what to do.
func ForTests(ctx context.Context, o FindOptions) (Command, error) {
	if c, ok, err := Named(ctx, o); ok || err != nil {
		return c, err
	}
	version, err := TestVersion(o.Environ)
	if err != nil {
		return Command{}, err
	}
	c, err := Built(version, o.BuildOptions)
	if errors.Is(err, ErrNotBuilt) {
		err = fmt.Errorf("%w: run 'make test', which builds it first, or 'go test -short ./...', which does without",
			err)
	}
	return c, err
}

// Built returns the server of a version that Build has made, or ErrNotBuilt. It takes no time.
func Built(version string, o BuildOptions) (Command, error) {
	binary, err := o.binary(version)
	if err != nil {
		return Command{}, err
	}
	if _, err := os.Stat(binary); err != nil {
		return Command{}, fmt.Errorf("the Inngest server %s %w", version, ErrNotBuilt)
	}
	return o.command(version, binary), nil
}

// Build returns the server of a version, such as "v1.44.0", and makes it if it is not in the cache: from the source
// that the Go module proxy has, which takes some minutes. One process builds it, others that want it meanwhile wait.
// What is in the cache is whole.
func Build(ctx context.Context, version string, o BuildOptions) (Command, error) {
	c, err := Built(version, o)
	if !errors.Is(err, ErrNotBuilt) {
		return c, err
	}
	binary, err := o.binary(version)
	if err != nil {
		return Command{}, err
	}
	goTool := lookPath("go", value(o.Environ, "PATH"))
	if goTool == "" {
		return Command{}, errors.New("there is no Go on PATH to build one with")
	}
	if err := os.MkdirAll(filepath.Dir(binary), 0o700); err != nil {
		return Command{}, err
	}
	lock := flock.New(binary + ".lock")
	if free, _ := lock.TryLock(); !free { // the next line has its error
		o.say("another process is building the Inngest server %s, waiting for it…", version)
	}
	if _, err := lock.TryLockContext(ctx, 100*time.Millisecond); err != nil {
		return Command{}, fmt.Errorf("lock the cache: %w", err)
	}
	defer func() { _ = lock.Close() }() // goes with the process in any case
	if c, err := Built(version, o); err == nil {
		return c, nil
	}
	if err := o.build(ctx, goTool, version, binary); err != nil {
		return Command{}, fmt.Errorf("build the Inngest server %s: %w", version, err)
	}
	return o.command(version, binary), nil
}

// binary is where in the cache the server is once built.
func (o BuildOptions) binary(version string) (string, error) {
	cache := o.Cache
	if cache == "" {
		var err error
		if cache, err = os.UserCacheDir(); err != nil {
			return "", err
		}
	}
	name := "inngest-" + version
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	return filepath.Join(cache, "clerksync", name), nil
}

// command runs the binary. Its web page's files are not in the Go module.
func (o BuildOptions) command(version, binary string) Command {
	return Command{Path: binary, Source: version + " built from source, without its web page", env: cleanEnv(o.Environ)}
}

func (o BuildOptions) say(format string, args ...any) {
	if o.Progress != nil {
		o.Progress(fmt.Sprintf(format, args...))
	}
}

// build makes the binary, whole or not at all. It works in a directory beside it, which is gone at the end, or at the
// next build if this one is killed.
func (o BuildOptions) build(ctx context.Context, goTool, version, binary string) error {
	start := time.Now()
	o.say("building the Inngest server %s from source, once: it takes about three minutes on two cores…", version)
	defer every(progressInterval, func(elapsed time.Duration) {
		o.say("still building the Inngest server %s (%s)", version, elapsed)
	})()
	dir := binary + ".build"
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	source := filepath.Join(dir, "source")
	if err := o.unpack(ctx, goTool, version, dir, source); err != nil {
		return err
	}
	made := filepath.Join(dir, filepath.Base(binary))
	env := append(o.goEnv(), "GOTMPDIR="+dir) // which goes too
	if _, err := run(ctx, source, env, goTool, "build", "-trimpath", "-ldflags=-s -w", "-o", made,
		"./cmd"); err != nil {
		return err
	}
	if _, err := run(ctx, dir, cleanEnv(o.Environ), made, "version"); err != nil {
		return err
	}
	if err := os.Rename(made, binary); err != nil {
		return err
	}
	o.say("built the Inngest server %s in %s", version, time.Since(start).Round(time.Second))
	return nil
}

// unpack copies the module's files from the module cache, where nothing can be changed, to a directory, and adds what
// the module lacks: the files of a go:embed. They are the documentation that the server shows, and one of them will do.
func (o BuildOptions) unpack(ctx context.Context, goTool, version, dir, source string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	// In a module of its own, so that no other, in a directory above, has a say.
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module build\n"), 0o600); err != nil {
		return err
	}
	out, err := run(ctx, dir, o.goEnv(), goTool, "mod", "download", "-json", serverModule+"@"+version)
	if err != nil {
		return err
	}
	var module struct{ Dir string }
	if err := json.Unmarshal([]byte(out), &module); err != nil {
		return fmt.Errorf("go mod download: %w", err)
	}
	if err := os.CopyFS(source, os.DirFS(module.Dir)); err != nil {
		return err
	}
	docs := filepath.Join(source, "internal", "embeddocs", "website", "pages", "docs")
	if err := os.MkdirAll(docs, 0o700); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(docs, "placeholder.mdx"), []byte("# Not here\n"), 0o600)
}

// goEnv is for this machine and from the server's go.mod alone, whatever the developer's own settings are for. None of
// them may be empty: the file that 'go env -w' writes counts then.
func (o BuildOptions) goEnv() []string {
	return append(slices.Clone(o.Environ), "GOOS="+runtime.GOOS, "GOARCH="+runtime.GOARCH, "GO111MODULE=on",
		"GOFLAGS=-mod=mod", "GOWORK=off", "CGO_ENABLED=0")
}

// every calls f each interval, with the time since now, until the function it returns has been called.
func every(interval time.Duration, f func(elapsed time.Duration)) (stop func()) {
	start := time.Now()
	tick := time.NewTicker(interval)
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-tick.C:
				f(time.Since(start).Round(time.Second))
			case <-done:
				return
			}
		}
	})
	return func() {
		tick.Stop()
		close(done)
		wg.Wait()
	}
}
