package inngestserver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofrs/flock"

	"clerksync/internal/child"
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

// Built returns the server of a version that Build has made, and takes no time. With ErrNotBuilt, it is the server that
// Build would make.
func Built(version string, o Options) (Command, error) {
	cache := o.Cache
	if cache == "" {
		var err error
		if cache, err = os.UserCacheDir(); err != nil {
			return Command{}, unwritable(err)
		}
	}
	name := "inngest-" + version
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	c := Command{
		Path:   filepath.Join(cache, "clerksync", name),
		Source: version + " built from source, without its web page", // whose files are not in the Go module
		env:    cleanEnv(o.Environ),
	}
	if _, err := os.Stat(c.Path); err != nil {
		return c, fmt.Errorf("the Inngest server %s %w", version, ErrNotBuilt)
	}
	return c, nil
}

// Build returns the server of a version, such as "v1.44.0", and makes it if it is not in the cache: from the source
// that the Go module proxy has, which takes some minutes. One process builds it, others that want it meanwhile wait.
// What is in the cache is whole.
func Build(ctx context.Context, version string, o Options) (Command, error) {
	c, err := Built(version, o)
	if !errors.Is(err, ErrNotBuilt) {
		return c, err
	}
	goTool := child.LookPath("go", child.Getenv(o.Environ, "PATH"))
	if goTool == "" {
		return Command{}, errors.New("there is no Go on PATH to build one with")
	}
	if err := os.MkdirAll(filepath.Dir(c.Path), 0o700); err != nil {
		return Command{}, unwritable(err)
	}
	lock := flock.New(c.Path + ".lock")
	if free, _ := lock.TryLock(); !free { // the next line has its error
		o.say("another process is building the Inngest server %s, waiting for it…", version)
	}
	if _, err := lock.TryLockContext(ctx, 100*time.Millisecond); err != nil {
		return Command{}, fmt.Errorf("lock the cache: %w", unwritable(err))
	}
	defer func() { _ = lock.Close() }() // goes with the process in any case
	if c, err := Built(version, o); err == nil {
		return c, nil
	}
	if err := o.build(ctx, goTool, version, c.Path); err != nil {
		return Command{}, fmt.Errorf("build the Inngest server %s: %w", version, err)
	}
	return c, nil
}

// unwritable adds to an error about the cache folder what to do, unless somebody has ended the build.
func unwritable(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return fmt.Errorf("%w: the server would be built and kept there: set HOME, or on Linux XDG_CACHE_HOME, to a "+
		"folder that you may write to", err)
}

// build makes the binary, whole or not at all. It works in a directory beside it, which is gone at the end, or at the
// next build if this one is killed.
func (o Options) build(ctx context.Context, goTool, version, binary string) error {
	start := time.Now()
	o.say("building the Inngest server %s from source, once, because no Inngest CLI was found: it downloads up to\n"+
		"300 MB from Go's module proxy, takes about two minutes on two cores, and is kept in\n%s",
		version, filepath.Dir(binary))
	var packages, compiled atomic.Int64
	defer every(progressInterval, func(elapsed time.Duration) {
		if packages.Load() == 0 {
			o.say("still downloading the source of the Inngest server %s (%s)", version, elapsed)
			return
		}
		o.say("still building the Inngest server %s: %d of %d packages (%s)", version, compiled.Load(),
			packages.Load(), elapsed)
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
	list, err := run(ctx, source, o.goEnv(), goTool, "list", "-deps", "./cmd") // which downloads what it needs
	if err != nil {
		return err
	}
	packages.Store(int64(len(strings.Fields(list))))
	made := filepath.Join(dir, filepath.Base(binary))
	// GOTMPDIR goes too. GOGC spares the compiler a tenth of its CPU, and costs memory.
	env := append(o.goEnv(), "GOTMPDIR="+dir, "GOGC=400")
	args := slices.Concat([]string{"build", "-v", "-trimpath"}, compilerFlags(), []string{
		"-ldflags=-s -w", "-o", made, "./cmd",
	})
	err = runTo(ctx, source, env, io.Discard, &stderr{packages: &compiled}, goTool, args...)
	if err != nil {
		return err
	}
	if _, err := o.try(ctx, made, ""); err != nil {
		return err
	}
	if err := os.Rename(made, binary); err != nil {
		return err
	}
	o.say("built the Inngest server %s in %s", version, time.Since(start).Round(time.Second))
	return nil
}

// compilerFlags return what makes compiling much cheaper. Inlining makes the code of the server's libraries much
// larger. It is worth that only where the server spends its time: in Go's own packages, and in the Redis that it has in
// memory, with its Lua. What a debugger needs is not made, because the linker drops it in any case.
func compilerFlags() []string {
	flags := []string{"-gcflags=all=-l -dwarf=false"}
	for _, hot := range []string{"std", "github.com/alicebob/miniredis/...", "github.com/yuin/gopher-lua/..."} {
		flags = append(flags, "-gcflags="+hot+"=-dwarf=false")
	}
	return flags
}

// trim takes the queues of AWS, Google and NATS out of the server, which are for Inngest's own cloud: a sixth of all
// packages. 'inngest dev' and 'inngest start' have their queue in memory, and no setting that changes it.
func trim(source string) error {
	path := filepath.Join(source, "pkg", "pubsub", "broker.go")
	text, err := os.ReadFile(path) //nolint:gosec // in a folder of our own
	if err != nil {
		return err
	}
	for _, queue := range []string{"awssnssqs", "gcppubsub", "natspubsub"} {
		line := []byte("\t_ \"gocloud.dev/pubsub/" + queue + "\"\n")
		if !bytes.Contains(text, line) {
			return fmt.Errorf("%s does not import %s", path, queue)
		}
		text = bytes.Replace(text, line, nil, 1)
	}
	return os.WriteFile(path, text, 0o600) //nolint:gosec // likewise
}

// unpack copies the module's files from the module cache, where nothing can be changed, to a directory, takes out what
// is not needed, and adds what the module lacks: the files of a go:embed. They are the documentation that the server
// shows, and one of them will do.
func (o Options) unpack(ctx context.Context, goTool, version, dir, source string) error {
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
	if err := trim(source); err != nil {
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
func (o Options) goEnv() []string {
	return append(slices.Clone(o.Environ), "GOOS="+runtime.GOOS, "GOARCH="+runtime.GOARCH, "GO111MODULE=on",
		"GOFLAGS=-mod=mod", "GOWORK=off", "CGO_ENABLED=0")
}

// every calls f each interval, with the time since now, until the function it returns has been called.
func every(interval time.Duration, f func(elapsed time.Duration)) (stop func()) {
	start, tick := time.Now(), time.Tick(interval)
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-tick:
				f(time.Since(start).Round(time.Second))
			case <-done:
				return
			}
		}
	})
	return func() {
		close(done)
		wg.Wait()
	}
}
