package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"clerksync/app"
	"clerksync/reconcile"
	"clerksync/store"
	"clerksync/store/database"

	"github.com/mattn/go-isatty"
	"github.com/schollz/progressbar/v3"
)

type backfillCmd struct {
	DryRun  bool `help:"Only say what would be written."`
	Restart bool `help:"Begin with the first user again, though an earlier run was cut off."`
}

// Run brings all users in. Cut off, it says how to go on.
func (c backfillCmd) Run(ctx context.Context, e env) error {
	cfg, err := readConfigForCommand(e.environ)
	if err != nil {
		return err
	}
	api, err := app.ClerkAPI(cfg)
	if err != nil {
		return err
	}
	db, err := app.OpenDatabase(ctx, cfg, app.Logger(cfg, e.stderr))
	if err != nil {
		return err
	}
	if err := app.CheckInstance(ctx, cfg, api, db, !c.DryRun); err != nil {
		return errors.Join(err, db.Close(ctx))
	}
	start := time.Now()
	progress := &progress{w: e.stderr}
	counts, err := c.run(ctx, reconcile.Backfill{
		API: api, Users: store.NewUsers(db), Checkpoints: database.NewCheckpoints(db), Log: app.Logger(cfg, e.stderr),
		DryRun: c.DryRun, Restart: c.Restart, Progress: progress.show,
	}, db)
	progress.end()
	err = errors.Join(err, db.Close(ctx))
	what := "users"
	if c.DryRun {
		what = "users (nothing was written)"
	}
	_, _ = fmt.Fprintf(e.stdout, "%d %s: %d created, %d updated, %d unchanged, %d stale, %d deleted, %d failed; %s\n", counts.Seen(), what,
		counts.Created, counts.Updated, counts.Unchanged, counts.Stale, counts.Deleted, counts.Failed, time.Since(start).Round(time.Second/10))
	switch {
	case err == nil && counts.Failed > 0:
		return fmt.Errorf("%d users could not be read or written: the log names them; run it again with --restart when that is mended", counts.Failed)
	case err == nil || c.DryRun || errors.Is(err, reconcile.ErrMissed):
		return err
	case ctx.Err() != nil:
		return errors.New("cut off: run it again to go on from here")
	}
	return fmt.Errorf("%w; run it again to go on from here", err)
}

func (c backfillCmd) run(ctx context.Context, b reconcile.Backfill, db *database.DB) (reconcile.Counts, error) {
	if !c.DryRun {
		if err := app.Prepare(ctx, db); err != nil {
			return reconcile.Counts{}, err
		}
	}
	return b.Run(ctx)
}

// progress shows how far something is: a bar on a terminal, and a line now and then elsewhere.
type progress struct {
	w     io.Writer
	bar   *progressbar.ProgressBar // nil elsewhere
	begun time.Time
	first int // how many there were when it began
	said  time.Time
}

// lineEvery is how often a line is written where there is no terminal.
const lineEvery = 5 * time.Second

func (p *progress) show(c reconcile.Counts, total int) {
	n := c.Seen()
	now := time.Now()
	if p.begun.IsZero() {
		p.begun, p.first, p.said = now, n, now
		if f, ok := p.w.(*os.File); ok && isatty.IsTerminal(f.Fd()) {
			p.bar = progressbar.NewOptions(total, progressbar.OptionSetWriter(p.w), progressbar.OptionShowCount(), progressbar.OptionShowIts(),
				progressbar.OptionSetItsString("users"), progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionSetWidth(30))
		}
		if n > 0 {
			_, _ = fmt.Fprintf(p.w, "going on after %d users\n", n)
		}
		return
	}
	if p.bar != nil {
		_ = p.bar.Set(min(n, total)) // a terminal that has gone ends nothing
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
