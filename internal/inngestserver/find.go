// Package inngestserver finds an Inngest dev server, building it where there is none, and runs it. It is for development and tests.
package inngestserver

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// advice ends every error that leaves the user without a server.
const advice = "install one (npm install -g inngest-cli) or set INNGEST_CLI to the path of one"

// tryLimit bounds the trial of a server, and what npx takes to download one of 50 MB.
const tryLimit = time.Minute

// Command is how to run an Inngest server. Find makes it.
type Command struct {
	Path   string
	Source string // where it comes from, in words for a log line

	env []string
}

// FindOptions are where Find looks.
type FindOptions struct {
	Environ    []string          // the process's environment, "NAME=value"
	Dir        string            // the working directory, in the repository that has tools/inngest; "" is the current one
	Cache      string            // keeps the server built from source; "" is the user's cache directory
	PinnedOnly bool              // INNGEST_CLI's or the pinned one, nothing from PATH or npx
	Progress   func(line string) // is told what takes long, never by two goroutines at once; may be nil
}

// Find returns the server that INNGEST_CLI names or else the first that works of: inngest and inngest-cli on PATH, npx
// inngest-cli@latest, and the one that tools/inngest pins, which it builds if the cache does not have it. It returns an error if
// INNGEST_CLI names something that does not work, if there is nothing else either, or if ctx ends.
func Find(ctx context.Context, o FindOptions) (Command, error) {
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	var err error
	if o.Dir, err = filepath.Abs(o.Dir); err != nil {
		return Command{}, fmt.Errorf("find an Inngest dev server: %w", err)
	}
	if path := value(o.Environ, "INNGEST_CLI"); path != "" {
		if !filepath.IsAbs(path) {
			path = filepath.Join(o.Dir, path) // it will run in another directory
		}
		c, err := o.try(ctx, path, "INNGEST_CLI="+path)
		if err != nil {
			return Command{}, fmt.Errorf("the server that INNGEST_CLI names does not work: %w", err)
		}
		return c, nil
	}
	if !o.PinnedOnly {
		if c, ok := o.installed(ctx); ok {
			return c, nil
		}
		if c, ok := o.npx(ctx); ok {
			return c, nil
		}
	}
	c, err := o.pinned(ctx)
	switch {
	case ctx.Err() != nil:
		return Command{}, context.Cause(ctx)
	case err != nil:
		return Command{}, fmt.Errorf("no Inngest dev server: %w; %s", err, advice)
	}
	return c, nil
}

// try returns the command if the server at path can tell its version.
func (o FindOptions) try(ctx context.Context, path, source string) (Command, error) {
	ctx, cancel := context.WithTimeout(ctx, tryLimit)
	defer cancel()
	c := Command{Path: path, Source: source, env: cleanEnv(o.Environ)}
	_, err := run(ctx, os.TempDir(), c.env, path, "version")
	return c, err
}

// installed looks on PATH.
func (o FindOptions) installed(ctx context.Context) (Command, bool) {
	for _, name := range []string{"inngest", "inngest-cli"} {
		path := lookPath(name, value(o.Environ, "PATH"))
		if path == "" {
			continue
		}
		c, err := o.try(ctx, path, path)
		if err == nil {
			return c, true
		}
		o.Progress(fmt.Sprintf("passing over %s, which does not work: %v", path, err))
	}
	return Command{}, false
}

// npx lets npx install inngest-cli in its cache, and asks it only for the path: a server started through npx and a shell would
// outlive them. It says nothing of failures, which are usual where npm's registry can be reached and the server's downloads cannot.
func (o FindOptions) npx(ctx context.Context) (Command, bool) {
	npx := lookPath("npx", value(o.Environ, "PATH"))
	if npx == "" {
		return Command{}, false
	}
	o.Progress("looking for inngest-cli through npx…")
	limited, cancel := context.WithTimeout(ctx, tryLimit)
	defer cancel()
	// Without a network, retries would take 70 s. From version 12 on npm runs only the install scripts that it was told to.
	path, err := run(limited, os.TempDir(), cleanEnv(o.Environ), npx, "--yes", "--loglevel=error", "--fetch-retries=0",
		"--allow-scripts=inngest-cli", "--package=inngest-cli@latest", "--", "node", "-p", "process.env.PATH")
	if err != nil {
		return Command{}, false
	}
	c, err := o.try(ctx, lookPath("inngest-cli", path), "npx inngest-cli@latest")
	return c, err == nil
}

// cleanEnv leaves of the environment what npx, and programs in general, need. An Inngest server takes settings from any INNGEST_*
// and from LOG_LEVEL.
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

// value returns the variable's value in the environment, or "".
func value(environ []string, name string) string {
	for _, kv := range environ {
		k, v, _ := strings.Cut(kv, "=")
		if k == name || runtime.GOOS == "windows" && strings.EqualFold(k, name) {
			return v
		}
	}
	return ""
}

// lookPath returns the program's path in one of the directories of path, or "". exec.LookPath knows only this process's PATH.
func lookPath(name, path string) string {
	for _, dir := range filepath.SplitList(path) {
		if !filepath.IsAbs(dir) {
			continue
		}
		if p, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return p
		}
	}
	return ""
}

// run runs a program that asks nothing and returns what it printed, trimmed. When ctx ends, the program's children end too. The error
// has the last line that it wrote to its standard error.
func run(ctx context.Context, dir string, env []string, path string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, path, args...) //nolint:gosec // the user's own programs
	cmd.Dir, cmd.Env = dir, env
	ownGroup(cmd)
	cmd.Cancel = func() error { return killGroup(cmd.Process.Pid) }
	cmd.WaitDelay = time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if err == nil {
		return strings.TrimSpace(stdout.String()), nil
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	text := strings.TrimSpace(stderr.String())
	if last := text[strings.LastIndexByte(text, '\n')+1:]; last != "" {
		err = fmt.Errorf("%w: %s", err, last)
	}
	return "", fmt.Errorf("%s %s: %w", path, args[0], err)
}
