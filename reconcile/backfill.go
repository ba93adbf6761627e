// Package reconcile makes the rows equal to what Clerk's API says: all of them at once, or those that webhooks have
// missed.
package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"clerksync/clerk"
	"clerksync/store"

	"github.com/cenkalti/backoff/v5"
	"golang.org/x/sync/errgroup"
)

// API is what Clerk says: a clerk.API.
type API interface {
	counter
	ListCreated(ctx context.Context, after string) (clerk.Page, error)
}

// ErrMissed says that Clerk's list has left users out.
var ErrMissed = errors.New("users were passed over")

// Users are the rows: a store.Users.
type Users interface {
	Write(ctx context.Context, writes []store.Write, mode store.Mode) []store.Result
}

// Checkpoints remember how far a backfill is: a database.Checkpoints.
type Checkpoints interface {
	Load(ctx context.Context, name string, v any) (bool, error)
	Save(ctx context.Context, name string, v any) error
	Remove(ctx context.Context, name string) error
}

// Counts is what became of Clerk's users.
type Counts struct {
	Created   int `bson:"created"`
	Updated   int `bson:"updated"`
	Unchanged int `bson:"unchanged"`
	Stale     int `bson:"stale"`   // the row is newer
	Deleted   int `bson:"deleted"` // while we asked, or Clerk still lists whom it has deleted
	Failed    int `bson:"failed"`  // cannot be read, or not be written
}

// Seen returns how many there were.
func (c Counts) Seen() int {
	return c.Created + c.Updated + c.Unchanged + c.Stale + c.Deleted + c.Failed
}

func (c *Counts) add(o store.Outcome) {
	switch o {
	case store.Created:
		c.Created++
	case store.Updated:
		c.Updated++
	case store.Unchanged:
		c.Unchanged++
	case store.Stale:
		c.Stale++
	case store.Deleted:
		c.Deleted++
	default:
		c.Failed++
	}
}

// Backfill brings all of Clerk's users into the collection. It may run while webhooks arrive: the newer wins, and who
// is deleted stays so.
type Backfill struct {
	API         API
	Users       Users
	Checkpoints Checkpoints
	Log         *slog.Logger
	// DryRun only counts what would be written, and remembers nothing.
	DryRun bool
	// Restart begins with the first user again, though an earlier run was cut off.
	Restart bool
	// Progress, if set, is called after each page with what has been done, earlier runs included, and of how many
	// users; and once before the first.
	Progress func(done Counts, of int)
}

// checkpoint is how far a backfill is.
type checkpoint struct {
	Next   string `bson:"next"` // a clerk.Page's
	Counts Counts `bson:"counts"`
}

const (
	backfillName = "backfill"
	// pagesAhead is how many pages wait for the database at most, beside the one that is being fetched and the one
	// being written.
	pagesAhead = 1
	// writeTries is how often a page is written while the database fails: 1 + 2 + 4 + 8 + 16 s of waiting.
	writeTries = 6
)

// Run fetches and writes until the last user, and goes on where an earlier run was cut off. The counts include that
// run's. The memory it takes is that of three pages. It returns ErrMissed if fewer users were listed than Clerk had all
// the while.
func (b Backfill) Run(ctx context.Context) (Counts, error) {
	begun := time.Now()
	total, err := b.API.Count(ctx)
	if err != nil {
		return Counts{}, err
	}
	var at checkpoint
	if !b.Restart && !b.DryRun {
		if _, err := b.Checkpoints.Load(ctx, backfillName, &at); err != nil {
			return Counts{}, err
		}
	}
	b.progress(at.Counts, total)
	pages := make(chan clerk.Page, pagesAhead)
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { // the network
		defer close(pages)
		for next := at.Next; ; {
			p, err := b.API.ListCreated(gctx, next)
			if err != nil {
				return err
			}
			select {
			case pages <- p:
			case <-gctx.Done():
				return gctx.Err()
			}
			if next = p.Next; next == "" {
				return nil
			}
		}
	})
	g.Go(func() error { // the database
		for p := range pages {
			if err := b.write(gctx, p, &at.Counts); err != nil {
				return err
			}
			if at.Next = p.Next; !b.DryRun && p.Next != "" {
				if err := b.Checkpoints.Save(gctx, backfillName, at); err != nil {
					return err
				}
			}
			b.progress(at.Counts, total)
		}
		return nil
	})
	if err := g.Wait(); err != nil {
		return at.Counts, err
	}
	if !b.DryRun {
		if err := b.Checkpoints.Remove(ctx, backfillName); err != nil {
			return at.Counts, err
		}
	}
	return at.Counts, missed(ctx, b.API, begun, total, at.Counts.Seen())
}

// counter tells how many users there are: a clerk.API.
type counter interface {
	Count(ctx context.Context) (int, error)
	CountCreated(ctx context.Context, after time.Time) (int, error)
}

// clocks is how far our clock and Clerk's may be apart.
const clocks = time.Minute

// missed returns ErrMissed if a list that was begun at a time, when Clerk had so many users, has left some out. Who was
// deleted meanwhile may not have been seen, and neither who signed up, behind the last page.
func missed(ctx context.Context, c counter, begun time.Time, had, seen int) error {
	has, err := c.Count(ctx)
	if err != nil || seen >= min(had, has) {
		return err
	}
	created, err := c.CountCreated(ctx, begun.Add(-clocks))
	if want := min(had, has-created); err == nil && seen < want {
		err = fmt.Errorf("%w: Clerk's list named %d users, and Clerk has had %d all the while: run it again; if that does not help, ask Clerk", ErrMissed, seen, want)
	}
	return err
}

func (b Backfill) progress(done Counts, of int) {
	if b.Progress != nil {
		b.Progress(done, of)
	}
}

// write writes a page, or compares it. A user who cannot be written is counted and logged; if none can be, the database
// is down.
func (b Backfill) write(ctx context.Context, p clerk.Page, counts *Counts) error {
	writes := make([]store.Write, len(p.Users))
	for i, u := range p.Users {
		writes[i] = store.Write{User: u, When: store.When{Clerk: p.At}, AnsweredAt: p.AnsweredAt}
	}
	counts.Failed += len(p.Skipped)
	for _, s := range p.Skipped {
		b.Log.ErrorContext(ctx, "a user of Clerk's cannot be read", "user_id", s.ID, "error", s.Err)
	}
	mode := store.All
	if b.DryRun {
		mode = store.DryRun
	}
	tries := 0
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		tries++
		var left []store.Write
		var errs []error
		for i, w := range b.Users.Write(ctx, writes, mode) {
			switch {
			case w.Err == nil:
				counts.add(w.Outcome)
			case errors.Is(w.Err, store.ErrRefused): // no repetition helps
				b.fail(ctx, counts, writes[i].User.ID, w.Err)
			default:
				left, errs = append(left, writes[i]), append(errs, w.Err)
			}
		}
		if len(left) == 0 {
			return struct{}{}, nil
		}
		if tries == writeTries && len(left) < len(p.Users) { // it is not the database
			for i, w := range left {
				b.fail(ctx, counts, w.User.ID, errs[i])
			}
			return struct{}{}, nil
		}
		writes = left
		return struct{}{}, errs[0]
	}, backoff.WithMaxTries(writeTries), backoff.WithBackOff(&backoff.ExponentialBackOff{
		InitialInterval: time.Second, RandomizationFactor: 0.5, Multiplier: 2, MaxInterval: 16 * time.Second,
	}))
	if err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("write Clerk's users: %w", err)
	}
	return err
}

func (b Backfill) fail(ctx context.Context, counts *Counts, id string, err error) {
	counts.Failed++
	b.Log.ErrorContext(ctx, "a user cannot be written", "user_id", id, "error", err)
}
