package inbox

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"clerksync/store/database"

	"go.mongodb.org/mongo-driver/v2/bson"
	"golang.org/x/sync/errgroup"
)

const (
	// maxInterval is the longest time between two sends of an event.
	maxInterval = time.Hour
	// giveUpAfter is how long an event is sent again. Before it is given up, Inngest must have accepted that
	// giveUpSends times: the process may have been away for most of that time.
	giveUpAfter = 24 * time.Hour
	giveUpSends = 8
	// probe is how many events are sent to see whether Inngest is back. There are several, because one of them may be
	// an event that does not pass.
	probe = 4
	// resentEvery is how often a line tells what was sent again. After an outage that is every event.
	resentEvery = time.Minute
)

// resendInterval is the time between the nth sending (from 1) and the next.
func (b *Inbox) resendInterval(n int) time.Duration {
	return min(b.ResendAfter<<min(max(n-1, 0), 16), max(maxInterval, b.ResendAfter))
}

// sweep sends the events that are due in the collection, again and again until ctx ends: those that other processes
// left, that came while Inngest was away, or that no function has cleared in time.
func (b *Inbox) sweep(ctx, hard context.Context) {
	every := min(max(b.ResendAfter/4, 50*time.Millisecond), 5*time.Second)
	defer b.resent.tell(ctx, b.Log, time.Time{})
	var wait, away time.Duration // away is how long it waits while Inngest is away
	for {
		select {
		case <-time.After(wait):
		case <-b.left:
		case <-ctx.Done():
			return
		}
		if wait = time.Until(time.UnixMilli(b.pause.Load())); wait > 0 {
			continue
		}
		n, scan, err := b.sendDue(hard)
		b.resent.tell(ctx, b.Log, time.Now().Add(-resentEvery))
		wait = every
		switch {
		case err != nil:
			b.Log.WarnContext(ctx, "the inbox cannot be read; trying again", "error", err)
		case b.away.Load():
			away = min(max(2*away, 100*time.Millisecond), 2*time.Second)
			wait = away
		case n > 0: // there may be more
			wait, away = 0, 0
		default:
			away = 0
		}
		// Where a scan reads the whole collection it may take a tenth of the database's time.
		wait = max(wait, 9*scan)
	}
}

// sendDue claims events that are due and sends them. It returns how many there were, and how long it took to find them
// where that is slow.
func (b *Inbox) sendDue(ctx context.Context) (n int, scan time.Duration, err error) {
	limit := maxSend
	if b.away.Load() {
		limit = probe
	}
	found, scan, err := database.Oldest[row](ctx, b.rows, "due_at", time.Now().Add(time.Millisecond), limit)
	if err != nil {
		return 0, 0, err
	}
	if time.Now().UnixMilli() < b.pause.Load() { // the pause has begun during the search
		return 0, 0, nil
	}
	claimed := make([]bool, len(found))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(roundTrips)
	for i, r := range found {
		g.Go(func() (err error) {
			claimed[i], err = b.claim(gctx, r)
			return err
		})
	}
	err = g.Wait()
	var batch []row
	for i, r := range found {
		if claimed[i] {
			batch = append(batch, r)
		}
	}
	b.dispatch(ctx, batch)
	return len(found), scan, err
}

// claim takes the lease of a due event, unless another process was quicker or its time is up.
func (b *Inbox) claim(ctx context.Context, r row) (bool, error) {
	now := time.Now()
	if r.Accepted >= giveUpSends && now.After(r.GiveUpAt) {
		_, err := b.FailPending(ctx, r.ID, Failure{Error: fmt.Sprintf(
			"no function has cleared the event, though Inngest accepted it %d times or more in 24 hours", giveUpSends)})
		return false, err
	}
	return b.change(ctx, r.ID, func(current row) bson.D {
		if !current.DueAt.Equal(r.DueAt) { // another process has it, or it has failed
			return nil
		}
		n := r.Sends + 1
		set := due(now.Add(b.resendInterval(n)), n)
		if r.Sends == 0 { // the 24 hours begin when Inngest can have it
			set = append(set, bson.E{Key: "give_up_at", Value: now.Add(giveUpAfter)})
		}
		return bson.D{{Key: "$set", Value: set}}
	})
}

// resent counts what was sent again since the last line about it. Only the sweep uses it.
type resent struct {
	events int
	oldest time.Time // when the one that has waited longest was received
	told   time.Time
}

func (r *resent) add(e row) {
	if r.events++; r.events == 1 || e.ReceivedAt.Before(r.oldest) {
		r.oldest = e.ReceivedAt
	}
}

// tell logs a line, unless there was one since a time or there is nothing to tell.
func (r *resent) tell(ctx context.Context, log *slog.Logger, since time.Time) {
	if r.events == 0 || !since.IsZero() && r.told.After(since) {
		return
	}
	log.WarnContext(ctx, "no function had cleared these events in time; sent again",
		"events", r.events, "oldest", r.oldest)
	*r = resent{told: time.Now()}
}
