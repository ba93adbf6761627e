package inbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"clerksync/store/database"

	"go.mongodb.org/mongo-driver/v2/bson"
	"golang.org/x/sync/errgroup"
)

const (
	// maxInterval is the longest time between two sendings of an event.
	maxInterval = time.Hour
	// giveUpAfter is how long an event is sent again. After that it becomes a dead letter, but only if Inngest has
	// accepted these sendings giveUpSends times: this process may have been down for most of the time.
	giveUpAfter = 24 * time.Hour
	giveUpSends = 8
	// probe is how many events are sent to see whether Inngest is back. It is more than one, because one of them may be
	// an event that is not let through.
	probe = 4
	// resentEvery is how often a log line counts the events that were sent again, because after an outage that may be
	// every event.
	resentEvery = time.Minute
)

// resendInterval returns the time between the nth sending, counted from 1, and the next.
func (b *Inbox) resendInterval(n int) time.Duration {
	return min(b.ResendAfter<<min(max(n-1, 0), 16), max(maxInterval, b.ResendAfter))
}

// sweep sends the events in the collection that are due, again and again until ctx ends. These are events that other
// processes left, that came while Inngest was away, or that no function has cleared in time.
func (b *Inbox) sweep(ctx, hard context.Context) {
	every := min(max(b.ResendAfter/4, 50*time.Millisecond), 5*time.Second)
	defer b.resent.tell(ctx, b.Log, time.Time{})
	var wait, away time.Duration // away is the wait between two looks while Inngest is away
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
		// If a look for due events reads the whole collection, it may take at most a tenth of the database's time.
		wait = max(wait, 9*scan)
	}
}

// sendDue claims events that are due and sends them. It returns how many it found, and as scan how long the search took
// if it read the whole collection, otherwise 0.
func (b *Inbox) sendDue(ctx context.Context) (n int, scan time.Duration, err error) {
	limit := maxSend
	if b.away.Load() {
		limit = probe
	}
	// An error may be about one odd row, which must not keep the others from being sent.
	found, scan, unread := database.Oldest[row](ctx, b.rows, "due_at", time.Now().Add(time.Millisecond), limit)
	if time.Now().UnixMilli() < b.pause.Load() { // the pause has begun during the search
		return 0, 0, unread
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
	err = errors.Join(unread, g.Wait())
	var batch []row
	for i, r := range found {
		if claimed[i] {
			batch = append(batch, r)
		}
	}
	b.dispatch(ctx, batch)
	return len(found), scan, err
}

// claim takes the lease of a due event, and tells whether it did. It does not if another process was faster. If the
// event has been sent long enough, claim makes it a dead letter instead.
func (b *Inbox) claim(ctx context.Context, r row) (bool, error) {
	now := time.Now()
	if r.Accepted >= giveUpSends && now.After(r.GiveUpAt) {
		_, err := b.FailPending(ctx, r.ID, Failure{Error: fmt.Sprintf(
			"no function has cleared the event, though Inngest accepted it %d times or more in 24 hours", giveUpSends)})
		return false, err
	}
	return b.change(ctx, r.ID, func(current row) bson.D {
		if !current.DueAt.Equal(r.DueAt) { // another process has the lease, or the event has failed
			return nil
		}
		n := r.Sends + 1
		set := due(now.Add(b.resendInterval(n)), n)
		if r.Sends == 0 { // the 24 hours begin when the event is first sent
			set = append(set, bson.E{Key: "give_up_at", Value: now.Add(giveUpAfter)})
		}
		return bson.D{{Key: "$set", Value: set}}
	})
}

// resent counts the events that were sent again since the last log line about them. Only the sweep uses it.
type resent struct {
	events int
	oldest time.Time // when the oldest of these events was received
	told   time.Time
}

func (r *resent) add(e row) {
	if r.events++; r.events == 1 || e.ReceivedAt.Before(r.oldest) {
		r.oldest = e.ReceivedAt
	}
}

// tell logs a line about the events, unless there are none or the last line was logged after since.
func (r *resent) tell(ctx context.Context, log *slog.Logger, since time.Time) {
	if r.events == 0 || !since.IsZero() && r.told.After(since) {
		return
	}
	log.WarnContext(ctx, "no function had cleared these events in time; sent again",
		"events", r.events, "oldest", r.oldest)
	*r = resent{told: time.Now()}
}
