// Command clerksync keeps the users collection of an application in MongoDB equal to Clerk.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	err := run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr)
	if err == nil {
		return
	}
	if ctx.Err() == nil || !errors.Is(err, context.Canceled) { // else a signal ended it before it had started
		fmt.Fprintln(os.Stderr, escaped(err.Error(), "\n"))
	}
	os.Exit(exitCode(err))
}

// exitCode returns the exit status of the program after an error. These are all there are: 0 without an error, 2 if
// 'reconcile --dry-run' has found rows that differ, and 1 after every other error.
func exitCode(err error) int {
	if errors.As(err, new(driftError)) {
		return 2
	}
	return 1
}

// driftError says how many rows differ from Clerk.
type driftError int

func (d driftError) Error() string {
	if d == 1 {
		return "1 row differs from Clerk"
	}
	return fmt.Sprintf("%d rows differ from Clerk", int(d))
}

// cli is the command line.
type cli struct {
	Serve       serveCmd       `cmd:"" help:"Run the service. Its --help lists the settings."`
	Dev         devCmd         `cmd:"" help:"Run all of it on this machine, with nothing set."`
	DeadLetters deadLettersCmd `cmd:"" name:"deadletters" help:"See, replay and drop the events that failed for good."`
	Backfill    backfillCmd    `cmd:"" help:"Bring all of Clerk's users into the collection."`
	Reconcile   reconcileCmd   `cmd:"" help:"Compare all rows with Clerk, print what differs and repair it."`
	Adopt       adoptCmd       `cmd:"" help:"Propose a map for the collection of users that your app has already."`
	Mail        mailCmd        `cmd:"" help:"Try the welcome mail."`
	Users       usersCmd       `cmd:"" help:"See to single users."`
	Doctor      doctorCmd      `cmd:"" help:"Check settings, database, Inngest, Clerk and the sync; say what to do."`
	Types       typesCmd       `cmd:"" help:"Print a mongoose model, or TypeScript, of the documents for your app."`
	Health      healthCmd      `cmd:"" help:"Ask the service here and the database whether they answer."`
	Send        sendCmd        `cmd:"" help:"Sign a sample webhook, post it and print the answer."`
	Version     versionCmd     `cmd:"" help:"Print the version."`
}

// env has what a command gets besides its flags.
type env struct {
	environ        []string
	stdout, stderr io.Writer
}

// say prints a line. It ignores errors, so that a closed terminal does not end the command.
func (e env) say(format string, args ...any) { _, _ = fmt.Fprintf(e.stdout, format+"\n", args...) }

// run is the whole program, without the process: the tests call it too.
func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) error {
	exited := false
	parser, err := kong.New(&cli{}, kong.Name("clerksync"),
		kong.Description("Keeps an application's MongoDB users collection equal to Clerk. The exit status is 0, or 1 "+
			"after an error; docs/scripts.md has more for scripts."),
		kong.Writers(stdout, stderr), kong.Exit(func(int) { exited = true }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}))
	if err != nil {
		return fmt.Errorf("command line: %w", err)
	}
	k, err := parser.Parse(args)
	switch {
	case exited: // --help
		return nil
	case err != nil:
		if p, ok := errors.AsType[*fs.PathError](err); ok && p.Op == "write" { // of the text of --help
			return err
		}
		return errors.New(id(err.Error()).String() + ": see clerksync --help")
	}
	k.BindTo(ctx, (*context.Context)(nil))
	return k.Run(env{environ: environ, stdout: stdout, stderr: stderr})
}
