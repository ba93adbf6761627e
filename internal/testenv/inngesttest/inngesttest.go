// Package inngesttest finds the Inngest server that the tests run against.
package inngesttest

import (
	"context"
	"errors"
	"fmt"
	"os"

	"clerksync/internal/inngestserver"
)

// Env is the environment variable by which the tests run against the old server, if it is "old".
const Env = "CLERKSYNC_TEST_INNGEST"

// Version returns the version of the server that the tests run against.
func Version() (string, error) {
	switch v := os.Getenv(Env); v {
	case "":
		return inngestserver.Version, nil
	case "old":
		return inngestserver.OldVersion, nil
	default:
		return "", fmt.Errorf("%s=%s: want \"old\" or nothing", Env, v)
	}
}

// Find returns the server that the tests run against: the one that INNGEST_CLI names, or one in the cache, which is the
// user's if it is "". It builds none, for a test waits for no build, and its error is one line that says what to do.
func Find(ctx context.Context, cache string) (inngestserver.Command, error) {
	o := inngestserver.Options{Environ: os.Environ(), Cache: cache}
	if c, ok, err := inngestserver.Named(ctx, o); ok {
		return c, err
	}
	version, err := Version()
	if err != nil {
		return inngestserver.Command{}, err
	}
	c, err := inngestserver.Built(version, o)
	if errors.Is(err, inngestserver.ErrNotBuilt) {
		err = fmt.Errorf("%w: run 'make test', which builds it first, or 'go test -short ./...', which does without",
			err)
	}
	return c, err
}
