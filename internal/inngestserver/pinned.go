package inngestserver

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/gofrs/flock"
)

// progressInterval is how often a build shows that it still goes on.
const progressInterval = 15 * time.Second

// module is a Go module that pins the server.
type module struct {
	dir, version string
	goMod        []byte
}

// findModule returns the module tools/inngest of this repository, dir being somewhere in it.
func findModule(dir string) (module, error) {
	const name = "clerksync/tools/inngest"
	var (
		named  = regexp.MustCompile(`(?m)^module ` + name + `\s*$`)
		pinned = regexp.MustCompile(`(?m)^\s*(?:require )?github\.com/inngest/inngest (v\S+)`)
	)
	for at := dir; ; at = filepath.Dir(at) {
		m := module{dir: filepath.Join(at, "tools", "inngest")}
		var err error
		m.goMod, err = os.ReadFile(filepath.Join(m.dir, "go.mod"))
		if err == nil && named.Match(m.goMod) {
			v := pinned.FindSubmatch(m.goMod)
			if v == nil {
				return module{}, fmt.Errorf("%s requires no github.com/inngest/inngest", filepath.Join(m.dir, "go.mod"))
			}
			m.version = string(v[1])
			return m, nil
		}
		if at == filepath.Dir(at) {
			return module{}, fmt.Errorf("the source of one, %s, is not in %s or above", name, dir)
		}
	}
}

// binary is where in the cache the server is once built. A changed go.mod is another place.
func (m module) binary(cache string) string {
	name := fmt.Sprintf("inngest-%s-%.6x", m.version, sha256.Sum256(m.goMod))
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	return filepath.Join(cache, "clerksync", name)
}

// pinned returns the server that tools/inngest pins. One process builds it, others that want it meanwhile wait.
func (o FindOptions) pinned(ctx context.Context) (Command, error) {
	m, err := findModule(o.Dir)
	if err != nil {
		return Command{}, err
	}
	cache := o.Cache
	if cache == "" {
		if cache, err = os.UserCacheDir(); err != nil {
			return Command{}, err
		}
	}
	binary := m.binary(cache)
	source := m.version + " built from source, without its web page" // whose files are not in the Go module
	if c, err := o.try(ctx, binary, source); err == nil {
		return c, nil
	}
	if ctx.Err() != nil {
		return Command{}, ctx.Err()
	}
	goTool := lookPath("go", value(o.Environ, "PATH"))
	if goTool == "" {
		return Command{}, errors.New("there is no Go on PATH to build one with")
	}
	o.Progress(fmt.Sprintf("building the Inngest dev server %s from source, once; this takes a few minutes…", m.version))
	defer every(progressInterval, func(elapsed time.Duration) {
		o.Progress(fmt.Sprintf("still building the Inngest dev server (%s)", elapsed))
	})()
	if err := os.MkdirAll(filepath.Dir(binary), 0o700); err != nil {
		return Command{}, err
	}
	lock := flock.New(binary + ".lock")
	if _, err := lock.TryLockContext(ctx, 100*time.Millisecond); err != nil {
		return Command{}, fmt.Errorf("lock the cache: %w", err)
	}
	defer func() { _ = lock.Close() }() // goes with the process in any case
	if c, err := o.try(ctx, binary, source); err == nil {
		return c, nil
	}
	if err := m.build(ctx, goTool, o.Environ, binary); err != nil {
		return Command{}, fmt.Errorf("build %s: %w", m.version, err)
	}
	return o.try(ctx, binary, source)
}

// build makes the binary, whole or not at all.
func (m module) build(ctx context.Context, goTool string, environ []string, binary string) error {
	dir, err := os.MkdirTemp(filepath.Dir(binary), "build-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	// For this machine and from go.mod alone, whatever the developer's own settings are for. None of them may be empty: the file
	// that 'go env -w' writes counts then.
	env := append(slices.Clone(environ), "GOOS="+runtime.GOOS, "GOARCH="+runtime.GOARCH, "GOFLAGS=-mod=readonly", "GOWORK=off", "CGO_ENABLED=0")
	made := filepath.Join(dir, filepath.Base(binary))
	if _, err := run(ctx, m.dir, env, goTool, "build", "-ldflags=-s -w", "-o", made, "github.com/inngest/inngest/cmd"); err != nil {
		return err
	}
	return os.Rename(made, binary)
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
