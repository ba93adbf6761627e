// Package inngestserver finds an Inngest dev server, building it where there is none, and runs it. It is for
// development and tests.
package inngestserver

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"clerksync/internal/child"
)

// advice ends every error that leaves the user without a server.
const advice = "install one (npm install -g inngest-cli@" + release + ") or set INNGEST_CLI to the path of one"

// tryLimit bounds the trial of a server, and what npx takes to download one of 50 MB.
const tryLimit = time.Minute

// Command is how to run an Inngest server. Find makes it.
type Command struct {
	Path   string
	Source string // where it comes from, in words for a log line

	env []string
}

// Options say where a server is looked for, and what builds one.
type Options struct {
	Environ  []string          // the process's environment, "NAME=value"
	Cache    string            // keeps the servers that are built; "" is the user's cache directory
	Progress func(line string) // is told what takes long, never by two goroutines at once; may be nil
}

func (o Options) say(format string, args ...any) {
	if o.Progress != nil {
		o.Progress(fmt.Sprintf(format, args...))
	}
}

// Find returns the server that INNGEST_CLI names or else the first that works of: inngest and inngest-cli on PATH,
// inngest-cli of our version through npx, and one built from source, which it builds if the cache does not have it. It
// returns an error if INNGEST_CLI names something that does not work, if there is nothing else either, or if ctx ends.
func Find(ctx context.Context, o Options) (Command, error) {
	if c, ok, err := Named(ctx, o); ok {
		return c, err
	}
	for _, name := range []string{"inngest", "inngest-cli"} {
		path := child.LookPath(name, child.Getenv(o.Environ, "PATH"))
		if path == "" {
			continue
		}
		c, err := o.try(ctx, path, path)
		if err == nil {
			return c, nil
		}
		o.say("passing over %s, which does not work: %v", path, err)
	}
	if c, ok := o.npx(ctx); ok {
		return c, nil
	}
	c, err := Build(ctx, Version, o)
	switch {
	case ctx.Err() != nil:
		return Command{}, context.Cause(ctx)
	case err != nil:
		return Command{}, fmt.Errorf("no Inngest dev server: %w; %s", err, advice)
	}
	return c, nil
}

// Named returns the server that INNGEST_CLI names, and whether it is set. It returns an error, and true, if that server
// does not work.
func Named(ctx context.Context, o Options) (c Command, ok bool, err error) {
	path := child.Getenv(o.Environ, "INNGEST_CLI")
	if path == "" {
		return Command{}, false, nil
	}
	if path, err = filepath.Abs(path); err != nil { // it will run in another directory
		return Command{}, true, fmt.Errorf("find an Inngest dev server: %w", err)
	}
	if c, err = o.try(ctx, path, "INNGEST_CLI="+path); err != nil {
		return Command{}, true, fmt.Errorf("the server that INNGEST_CLI names does not work: %w", err)
	}
	return c, true, nil
}

// try returns the command if the server at path can tell its version, and adds that to the source if it is not ours.
func (o Options) try(ctx context.Context, path, source string) (Command, error) {
	ctx, cancel := context.WithTimeout(ctx, tryLimit)
	defer cancel()
	c := Command{Path: path, Source: source, env: cleanEnv(o.Environ)}
	version, err := run(ctx, os.TempDir(), c.env, path, "version") // such as 1.44.0-0f1e2d3c4
	if !strings.HasPrefix(version, release+"-") {
		c.Source += fmt.Sprintf(", which is %s; clerksync is tested with %s", version, Version)
	}
	return c, err
}

// npx lets npx install inngest-cli in its cache, and asks it only for the path: a server started through npx and a
// shell would outlive them. It says nothing of failures, which are usual where npm's registry can be reached and the
// server's downloads cannot.
func (o Options) npx(ctx context.Context) (Command, bool) {
	npx := child.LookPath("npx", child.Getenv(o.Environ, "PATH"))
	if npx == "" {
		return Command{}, false
	}
	const cli = "inngest-cli@" + release
	o.say("looking for %s through npx…", cli)
	limited, cancel := context.WithTimeout(ctx, tryLimit)
	defer cancel()
	// Without a network, retries would take 70 s. From version 12 on npm runs only the install scripts that it was told
	// to.
	path, err := run(limited, os.TempDir(), cleanEnv(o.Environ), npx, "--yes", "--loglevel=error", "--fetch-retries=0",
		"--allow-scripts=inngest-cli", "--package="+cli, "--", "node", "-p", "process.env.PATH")
	if err != nil {
		return Command{}, false
	}
	c, err := o.try(ctx, child.LookPath("inngest-cli", path), "npx "+cli)
	return c, err == nil
}

// cleanEnv leaves of the environment what npx, and programs in general, need. An Inngest server takes settings from any
// INNGEST_* and from LOG_LEVEL.
func cleanEnv(environ []string) []string {
	keep := []string{
		"PATH", "HOME", "TMPDIR",
		"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "NODE_EXTRA_CA_CERTS",
		"APPDATA", "COMSPEC", "LOCALAPPDATA", "PATHEXT", "SYSTEMROOT", "TEMP", "TMP", "USERPROFILE", // Windows
	}
	env := []string{"DO_NOT_TRACK=1"}
	for _, kv := range environ {
		name, _, _ := strings.Cut(strings.ToUpper(kv), "=") // http_proxy, npm_config_registry, Path
		if slices.Contains(keep, name) || strings.HasPrefix(name, "NPM_CONFIG_") {
			env = append(env, kv)
		}
	}
	return env
}

// run runs a program that asks nothing and returns what it printed, trimmed. When ctx ends, the program's children end
// too. The error has the last line that it wrote to its standard error.
func run(ctx context.Context, dir string, env []string, path string, args ...string) (string, error) {
	var stdout bytes.Buffer
	err := runTo(ctx, dir, env, &stdout, &stderr{}, path, args...)
	return strings.TrimSpace(stdout.String()), err
}

func runTo(
	ctx context.Context, dir string, env []string, stdout io.Writer, errs *stderr, path string, args ...string,
) error {
	cmd := exec.CommandContext(ctx, path, args...) //nolint:gosec // the user's own programs
	cmd.Dir, cmd.Env = dir, env
	cmd.Stdout, cmd.Stderr = stdout, errs
	err := child.Run(cmd)
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if last := errs.last(); last != "" {
		err = fmt.Errorf("%w: %s", err, last)
	}
	return fmt.Errorf("%s %s: %w", path, args[0], err)
}

// stderr takes what a program writes to its standard error.
type stderr struct {
	// packages, if it is not nil, counts the lines that 'go build -v' writes: the name of a package and nothing else.
	packages   *atomic.Int64
	part, text bytes.Buffer
}

func (s *stderr) Write(p []byte) (int, error) {
	s.part.Write(p)
	for {
		end := bytes.IndexByte(s.part.Bytes(), '\n')
		if end < 0 {
			return len(p), nil
		}
		line := s.part.Next(end + 1)
		if s.packages != nil && !bytes.ContainsAny(line, " \t:") {
			s.packages.Add(1)
			continue
		}
		s.text.Write(line)
	}
}

// last returns the last line that is not the name of a package.
func (s *stderr) last() string {
	text := strings.TrimSpace(s.text.String() + s.part.String())
	return text[strings.LastIndexByte(text, '\n')+1:]
}
