package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"clerksync/app"
	"clerksync/reconcile"
	"clerksync/store"
	"clerksync/store/database"

	"github.com/schollz/progressbar/v3"
)

type backfillCmd struct {
	DryRun  bool `help:"Only say what would be written."`
	Restart bool `help:"Begin with the first user again, though an earlier run was cut off."`

	SwitchMap bool `help:"Write by this map from now on, though the users here were written by another."`
}

// Run writes all of Clerk's users. If it is cut off, it says how to go on.
func (c backfillCmd) Run(ctx context.Context, e env) error {
	how := access{onlyLooks: c.DryRun, switchMap: c.SwitchMap}
	return withClerk(ctx, e, how, func(_ *database.DB, r *reconcile.Reconcile) error {
		bar := &progress{w: e.stderr}
		r.DryRun, r.Restart, r.OnPage = c.DryRun, c.Restart || c.SwitchMap, bar.show
		p, err := r.Run(ctx, reconcile.Start(reconcile.Backfill, ""), nil)
		bar.end()
		return c.sum(ctx, e, p, err)
	})
}

// sum prints what a backfill has done, and returns the error of the command.
func (c backfillCmd) sum(ctx context.Context, e env, p reconcile.Progress, err error) error {
	if p.Phase == "" { // the run has not begun
		return err
	}
	what := "users"
	if c.DryRun {
		what = "users (nothing was written)"
	}
	line := fmt.Appendf(nil, "%d %s: ", p.Listed, what)
	for _, o := range []store.Outcome{store.Created, store.Updated, store.Unchanged, store.Stale, store.Deleted} {
		line = fmt.Appendf(line, "%d %s, ", p.Outcomes[o], o)
	}
	failed := p.Found.Failed
	e.say("%s%d failed; %s", line, failed, took(p))
	switch {
	case err == nil && failed > 0:
		return fmt.Errorf("%d users could not be read or written: the log names them; "+
			"run it again with --restart when that is mended", failed)
	case err == nil || c.DryRun || errors.Is(err, reconcile.ErrMissed):
		return err
	case ctx.Err() != nil:
		return errors.New("cut off: run it again to go on from here")
	}
	return fmt.Errorf("%w; run it again to go on from here", err)
}

// took returns how long a run has taken.
func took(p reconcile.Progress) time.Duration { return time.Since(p.StartedAt).Round(time.Second / 10) }

// progress shows how far a run is: as a bar on a terminal, and otherwise as a line every few seconds.
type progress struct {
	w     io.Writer
	bar   *progressbar.ProgressBar // nil if w is not a terminal
	begun time.Time
	first int // how many users were listed when it began
	said  time.Time
}

// lineEvery is how often a line is written if there is no terminal.
const lineEvery = 5 * time.Second

func (p *progress) show(of reconcile.Progress) {
	n, total, now := of.Listed, of.Had, time.Now()
	if p.begun.IsZero() {
		p.begun, p.first, p.said = now, n, now
		if app.IsTerminal(p.w) {
			p.bar = progressbar.NewOptions(total, progressbar.OptionSetWriter(p.w), progressbar.OptionShowCount(),
				progressbar.OptionShowIts(), progressbar.OptionSetItsString("users"),
				progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionSetWidth(30))
		}
		if n > 0 {
			_, _ = fmt.Fprintf(p.w, "going on after %d users\n", n)
		}
		return
	}
	if p.bar != nil {
		_ = p.bar.Set(min(n, total)) // a closed terminal does not end the run
		return
	}
	if now.Sub(p.said) < lineEvery {
		return
	}
	p.said = now
	rate := float64(n-p.first) / now.Sub(p.begun).Seconds()
	left := time.Duration(float64(max(total-n, 0)) / max(rate, 1) * float64(time.Second)).Round(time.Second)
	_, _ = fmt.Fprintf(p.w, "%d of %d users, %.0f a second, %s left\n", n, total, rate, left)
}

func (p *progress) end() {
	if p.bar != nil {
		_, _ = fmt.Fprintln(p.w)
	}
}
