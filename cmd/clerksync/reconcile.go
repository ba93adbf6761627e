package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"clerksync/reconcile"
	"clerksync/store/database"
)

type reconcileCmd struct {
	DryRun     bool `help:"Only say what differs."`
	ShowValues bool `help:"Say the values too, which are personal data."`
	// No tier of the service sets RemoveUnknown.
	RemoveUnknown bool `help:"Also remove unknown rows: clerksync never wrote them, and Clerk has no such users."`
	asJSON
}

// Help returns the text of --help besides the flags.
func (reconcileCmd) Help() string {
	return "It prints a line for each row that differs (missing, stale, extra, buried or unknown; docs/reconcile.md " +
		"says more), and repairs the first three kinds. The exit status is 0 if all is well or was repaired, and 1 " +
		"after an error. With --dry-run it is 2 if any row differs, and 0 if none does."
}

// Run compares all rows with all users, and prints a line for each difference.
func (c reconcileCmd) Run(ctx context.Context, e env) error {
	drift := driftList{w: e.stdout, values: c.ShowValues}
	return withClerk(ctx, e, access{onlyLooks: c.DryRun}, func(_ *database.DB, r *reconcile.Reconcile) error {
		r.DryRun, r.RemoveUnknown = c.DryRun, c.RemoveUnknown
		r.Report = func(d reconcile.Drift) {
			if c.JSON {
				drift.add(d)
				return
			}
			c.print(e, d)
		}
		host, _ := os.Hostname()
		// Another run that finds the lease taken prints this id.
		id := fmt.Sprintf("by hand on %s, process %d, %s",
			cmp.Or(host, "a host without a name"), os.Getpid(), rand.Text()[:8])
		p, err := r.Run(ctx, reconcile.Start(reconcile.Full, id), func(b *reconcile.BusyError) {
			left := max(time.Until(b.Until), 0).Round(time.Second / 10)
			_, _ = fmt.Fprintf(e.stderr, "%v; waiting for %s, in case it was killed\n", b, left)
		})
		if c.JSON && (drift.n > 0 || p.Phase != "") {
			err = errors.Join(err, drift.end(c.DryRun, p, err == nil))
		}
		return c.sum(ctx, e, p, err)
	}, "RECONCILE_")
}

// sum prints what a run has found and what the operator can do about it, and returns the error of the command.
func (c reconcileCmd) sum(ctx context.Context, e env, p reconcile.Progress, err error) error {
	f, what := p.Found, "repaired"
	if c.DryRun {
		what = "nothing was written"
	}
	differ := f.Missing + f.Stale + f.Extra + f.Buried + f.Unknown
	if !c.JSON && (err == nil || differ > 0) {
		e.say("%d users at Clerk, %d rows: %d missing, %d stale, %d extra (%s), %d failed, %d buried, %d unknown; %s",
			f.Users, f.Rows, f.Missing, f.Stale, f.Extra, what, f.Failed, f.Buried, f.Unknown, took(p))
		c.advise(e, f)
	}
	switch {
	case errors.Is(err, reconcile.ErrBusy):
		return fmt.Errorf("%w: run this again when it has ended", err)
	case ctx.Err() != nil:
		return errors.New("cut off: run it again, what it has repaired stays so")
	case err == nil && f.Failed > 0:
		return fmt.Errorf("%d users could not be read or written: see the log", f.Failed)
	case err == nil && c.DryRun && differ > 0:
		return driftError(differ)
	}
	return err
}

// advise says what to do about drift that the run did not repair.
func (c reconcileCmd) advise(e env, f reconcile.Found) {
	if f.Buried > 0 {
		e.say("buried: Clerk has the user, and here is a tombstone; 'clerksync users restore ID' brings the user back")
	}
	const why = "these rows, and Clerk does not have the users;"
	switch {
	case f.Unknown == 0 || c.DryRun && c.RemoveUnknown:
	case c.RemoveUnknown:
		e.say("unknown: clerksync had never written %s they are removed", why)
	default:
		e.say("unknown: clerksync has never written %s --remove-unknown removes them", why)
	}
}

// print writes the kind of a drift, the user and the fields that differ, and with ShowValues the values of the row and
// of Clerk.
func (c reconcileCmd) print(e env, d reconcile.Drift) {
	fields, sep := []string(nil), ", "
	for _, f := range d.Fields {
		if c.ShowValues {
			sep = "; "
			f.Name = fmt.Sprintf("%s %q, at Clerk %q", f.Name, f.Row, f.Clerk)
		}
		fields = append(fields, f.Name)
	}
	line := fmt.Sprintf("%-7s  %s  %s", d.Kind, d.UserID, strings.Join(fields, sep))
	e.say("%s", strings.TrimRight(line, " "))
}
