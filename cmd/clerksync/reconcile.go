package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"clerksync/reconcile"
	"clerksync/store/database"
)

type reconcileCmd struct {
	DryRun     bool `help:"Only say what differs."`
	ShowValues bool `help:"Say the values too, which are personal data."`
	// RemoveUnknown is never set by a tier.
	RemoveUnknown bool `help:"Also remove unknown rows: clerksync never wrote them, and Clerk has no such users."`
}

// Run compares all rows and all users, and prints a line for each that differs.
func (c reconcileCmd) Run(ctx context.Context, e env) error {
	return withClerk(ctx, e, c.DryRun, func(_ *database.DB, r *reconcile.Reconcile) error {
		r.DryRun, r.RemoveUnknown = c.DryRun, c.RemoveUnknown
		r.Report = func(d reconcile.Drift) { c.print(e.stdout, d) }
		host, err := os.Hostname()
		if err != nil {
			host = "a host without a name"
		}
		// Another run that meets its lease says whose it is.
		id := fmt.Sprintf("by hand on %s, process %d, %s", host, os.Getpid(), rand.Text()[:8])
		p, err := r.Run(ctx, reconcile.Start(reconcile.Full, id), func(b *reconcile.BusyError) {
			left := max(time.Until(b.Until), 0).Round(time.Second / 10)
			_, _ = fmt.Fprintf(e.stderr, "%v; waiting for %s, in case it was killed\n", b, left)
		})
		return c.sum(ctx, e.stdout, p, err)
	}, "RECONCILE_")
}

// sum prints what a run has found and what to do about it, and returns the error of the command.
func (c reconcileCmd) sum(ctx context.Context, w io.Writer, p reconcile.Progress, err error) error {
	f, what := p.Found, "repaired"
	if c.DryRun {
		what = "nothing was written"
	}
	if err == nil || f.Missing+f.Stale+f.Extra+f.Buried+f.Unknown > 0 {
		_, _ = fmt.Fprintf(w, "%d users at Clerk, %d rows: %d missing, %d stale, %d extra (%s), %d failed, ",
			f.Users, f.Rows, f.Missing, f.Stale, f.Extra, what, f.Failed)
		_, _ = fmt.Fprintf(w, "%d buried, %d unknown; %s\n", f.Buried, f.Unknown, took(p))
		c.advise(w, f)
	}
	switch {
	case errors.Is(err, reconcile.ErrBusy):
		return fmt.Errorf("%w: run this again when it has ended", err)
	case ctx.Err() != nil:
		return errors.New("cut off: run it again, what it has repaired stays so")
	case err == nil && f.Failed > 0:
		return fmt.Errorf("%d users could not be read or written: see the log", f.Failed)
	}
	return err
}

// advise says what to do about what a run has left alone.
func (c reconcileCmd) advise(w io.Writer, f reconcile.Found) {
	if f.Buried > 0 {
		_, _ = fmt.Fprintln(w, "buried: Clerk has the user, and here is a tombstone;",
			"'clerksync users restore ID' brings the user back")
	}
	const why = "these rows, and Clerk does not have the users;"
	switch {
	case f.Unknown == 0 || c.DryRun && c.RemoveUnknown:
	case c.RemoveUnknown:
		_, _ = fmt.Fprintln(w, "unknown: clerksync had never written", why, "they are removed")
	default:
		_, _ = fmt.Fprintln(w, "unknown: clerksync has never written", why, "--remove-unknown removes them")
	}
}

// print writes the kind, the user and which fields differ, and with ShowValues what the row has and what Clerk has.
func (c reconcileCmd) print(w io.Writer, d reconcile.Drift) {
	var fields []string
	for _, f := range d.Fields {
		if c.ShowValues {
			f.Name = fmt.Sprintf("%s %q, at Clerk %q", f.Name, f.Row, f.Clerk)
		}
		fields = append(fields, f.Name)
	}
	sep := ", "
	if c.ShowValues {
		sep = "; "
	}
	line := fmt.Sprintf("%-7s  %s  %s", d.Kind, d.UserID, strings.Join(fields, sep))
	_, _ = fmt.Fprintln(w, strings.TrimRight(line, " ")) // a closed terminal ends nothing
}
