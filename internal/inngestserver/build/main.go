// Command build builds the Inngest server that the tests use if it is not in the user's cache directory yet. 'make
// test' runs it, because no test may wait for it. CLERKSYNC_TEST_INNGEST=old builds the old one.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"clerksync/internal/inngestserver"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Environ(), os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, environ []string, stderr io.Writer) error {
	o := inngestserver.BuildOptions{Environ: environ, Progress: func(line string) { _, _ = fmt.Fprintln(stderr, line) }}
	version, err := inngestserver.TestVersion(environ)
	if err != nil {
		return err
	}
	_, err = inngestserver.Build(ctx, version, o)
	return err
}
