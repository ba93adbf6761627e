// Command build builds the Inngest server that the tests use if it is not in the user's cache directory yet. 'make
// test' runs it, because no test may wait for it. CLERKSYNC_TEST_INNGEST=old builds the old one.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"clerksync/internal/inngestserver"
	"clerksync/internal/testenv/inngesttest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	version, err := inngesttest.Version()
	if err == nil {
		_, err = inngestserver.Build(ctx, version, inngestserver.Options{
			Environ: os.Environ(), Progress: func(line string) { fmt.Fprintln(os.Stderr, line) },
		})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		stop()
		os.Exit(1)
	}
}
