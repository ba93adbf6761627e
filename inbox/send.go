package inbox

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"clerksync/inngest"
	"clerksync/store/database"

	"github.com/cenkalti/backoff/v5"
	"go.mongodb.org/mongo-driver/v2/bson"
	"golang.org/x/sync/errgroup"
)

// sending is an event and how often Inngest has accepted it before.
type sending struct {
	Event
	before   int
	blocked  int // how often it was not let through alone
	replayed bool
	received time.Time
}

// sendNew sends what has just been written, from memory, until out is closed and empty.
func (b *Inbox) sendNew(ctx context.Context) {
	for events := range b.out {
		for len(events) < maxSend {
			more, ok := waiting(b.out)
			if !ok {
				break
			}
			events = append(events, more...)
		}
		b.queued.Add(-int64(len(events)))
		batch := make([]sending, len(events))
		for i, e := range events {
			batch[i].Event = e
		}
		switch {
		case ctx.Err() != nil: // the rows are there
			return
		case b.away.Load():
			b.release(ctx, batch)
		default:
			b.dispatch(ctx, batch)
		}
	}
}

// sweep sends what is due in the collection, again and again until ctx ends: what other processes left, what came while
// Inngest was away, what no function has cleared in time.
func (b *Inbox) sweep(ctx, hard context.Context) {
	every := min(max(b.ResendAfter/4, 50*time.Millisecond), 5*time.Second)
	timer := time.NewTimer(0)
	defer timer.Stop()
	defer b.resent.tell(ctx, b.Log, time.Time{})
	var away time.Duration // how long it waits while Inngest is away
	for {
		select {
		case <-timer.C:
		case <-b.left:
		case <-ctx.Done():
			return
		}
		if pause := time.Until(time.UnixMilli(b.pause.Load())); pause > 0 {
			timer.Reset(pause)
			continue
		}
		n, scan, err := b.sendDue(hard)
		b.resent.tell(ctx, b.Log, time.Now().Add(-resentEvery))
		wait := every
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
		// The embedded database reads the whole collection for it: a tenth of its time at the most.
		timer.Reset(max(wait, 9*scan))
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
	if time.Now().UnixMilli() < b.pause.Load() { // Inngest has asked for it meanwhile
		return 0, 0, nil
	}
	var mu sync.Mutex
	var batch []sending
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(roundTrips)
	for _, r := range found {
		g.Go(func() error {
			claimed, err := b.claim(gctx, r)
			if claimed {
				mu.Lock()
				defer mu.Unlock()
				batch = append(batch, sending{Event: r.event(), before: r.Sends, blocked: r.Blocked, replayed: r.Replayed, received: r.ReceivedAt})
			}
			return err
		})
	}
	err = g.Wait()
	b.dispatch(ctx, batch)
	return len(found), scan, err
}

// claim takes the lease of a due event, unless another process was quicker or its time is up.
func (b *Inbox) claim(ctx context.Context, r row) (bool, error) {
	now := time.Now()
	if r.Accepted >= giveUpSends && now.After(r.GiveUpAt) {
		_, err := b.FailPending(ctx, r.ID, Failure{Error: errGaveUp.Error()})
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

// release gives events back that Inngest did not take: they are due at once, under the same id.
func (b *Inbox) release(ctx context.Context, batch []sending) {
	for _, s := range batch {
		_, err := b.change(ctx, s.ID, func(r row) bson.D {
			if r.Failure != nil {
				return nil
			}
			return bson.D{{Key: "$set", Value: due(time.Now(), s.before)}}
		})
		if err != nil {
			return // the lease ends by itself
		}
	}
}

// dispatch sends a batch. What Inngest does not take goes back to the collection.
func (b *Inbox) dispatch(ctx context.Context, batch []sending) {
	for first := true; len(batch) > 0; first = false {
		n, size := 0, 0
		for n < min(len(batch), maxSend) && (n == 0 || size+len(batch[n].Data) <= maxSendBytes) {
			size += len(batch[n].Data)
			n++
		}
		if !first && b.away.Load() {
			b.release(ctx, batch)
			return
		}
		b.dispatchOne(ctx, batch[:n])
		batch = batch[n:]
	}
}

// dispatchOne sends a batch that fits into one request. An event that is not let through has to wait alone if others
// were let through, or if it had to before. Otherwise that says nothing of the events: Inngest is away.
func (b *Inbox) dispatchOne(ctx context.Context, batch []sending) {
	d := b.deliver(ctx, batch)
	known := !slices.ContainsFunc(d.blocked, func(s sending) bool { return s.blocked == 0 })
	if len(d.unsent) > 0 || !d.heard && !known {
		// In this order: no sweep may find them before it is known for how long Inngest wants to be left alone.
		b.setAway(ctx, true, d.why)
		b.release(ctx, append(d.unsent, d.blocked...))
		return
	}
	if d.heard {
		b.setAway(ctx, false, nil)
	}
	for _, s := range d.blocked {
		b.postpone(ctx, s, d.why)
	}
}

// delivery is what became of a batch.
type delivery struct {
	heard   bool      // Inngest itself has answered
	blocked []sending // what was not let through, each sent alone
	unsent  []sending // what was not sent, or in vain, because Inngest is away
	why     error     // Inngest is away, or the last event was not let through
}

// deliver sends a batch. While the answer may be because of one of its events, it is split in halves, until such an
// event is alone; one that Inngest refuses then fails for good. It ends when Inngest is away.
func (b *Inbox) deliver(ctx context.Context, batch []sending) delivery {
	err := b.send(ctx, batch)
	refused, blocked := errors.Is(err, inngest.ErrRefused), errors.Is(err, inngest.ErrBlocked)
	switch {
	case err == nil:
		b.accepted(ctx, batch)
		return delivery{heard: true}
	case (refused || blocked) && len(batch) > 1:
		half := len(batch) / 2
		d := b.deliver(ctx, batch[:half])
		if len(d.unsent) > 0 {
			d.unsent = append(d.unsent, batch[half:]...)
			return d
		}
		rest := b.deliver(ctx, batch[half:])
		return delivery{d.heard || rest.heard, append(d.blocked, rest.blocked...), rest.unsent, cmp.Or(rest.why, d.why)}
	case refused:
		if _, err := b.FailPending(ctx, batch[0].ID, Failure{Error: "Inngest refused the event: " + err.Error()}); err != nil {
			b.Log.WarnContext(ctx, "a refused event could not be marked failed; it will be sent again", "svix_id", batch[0].ID, "error", err)
		}
		return delivery{heard: true}
	case blocked:
		return delivery{blocked: slices.Clone(batch), why: err}
	}
	return delivery{unsent: slices.Clone(batch), why: err}
}

// postpone lets an event wait, for longer each time up to maxInterval, that is not let through though others are. It is
// never given up for that: a rule of a proxy or of a firewall may be why, and Inngest has never seen it.
func (b *Inbox) postpone(ctx context.Context, s sending, why error) {
	wait := min(time.Second<<min(s.blocked, 16), maxInterval) // it may be let through at once: Inngest may have come back just then
	b.Log.WarnContext(ctx, "an event is not let through to Inngest, while others are; it waits, and will be sent again", "svix_id", s.ID, "wait", wait.String(), "error", why)
	_, _ = b.change(ctx, s.ID, func(r row) bson.D { // if it fails the lease ends by itself
		if r.Failure != nil {
			return nil
		}
		return bson.D{{Key: "$set", Value: append(due(time.Now().Add(wait), s.before), bson.E{Key: "blocked", Value: s.blocked + 1})}}
	})
}

// accepted follows up what Inngest has taken.
func (b *Inbox) accepted(ctx context.Context, batch []sending) {
	var g errgroup.Group
	g.SetLimit(roundTrips)
	for _, s := range batch {
		if s.before > 0 {
			g.Go(func() error { b.count(ctx, s); return nil })
			b.metrics.resent.Inc()
			b.resent.add(s)
			b.Log.DebugContext(ctx, "sent again", "svix_id", s.ID, "sends", s.before+1)
		}
		if b.Handled(s.Name) {
			continue
		}
		if err := b.Done(ctx, s.ID); err != nil {
			b.Log.WarnContext(ctx, "an accepted event stays in the inbox and will be sent again", "svix_id", s.ID, "error", err)
		}
	}
	_ = g.Wait() // none fails
}

// resent is what was sent again since the last line about it. Only the sweep sends again.
type resent struct {
	events int
	oldest time.Time // when the one that has waited longest was received
	told   time.Time
}

func (r *resent) add(s sending) {
	if r.events++; r.events == 1 || s.received.Before(r.oldest) {
		r.oldest = s.received
	}
}

// tell logs a line, unless there was one since a time or there is nothing to tell.
func (r *resent) tell(ctx context.Context, log *slog.Logger, since time.Time) {
	if r.events == 0 || !since.IsZero() && r.told.After(since) {
		return
	}
	log.WarnContext(ctx, "no function had cleared these events in time; sent again", "events", r.events, "oldest", r.oldest)
	*r = resent{told: time.Now()}
}

// count notes that Inngest has accepted an event once more. If that fails it is sent once more than it must be.
func (b *Inbox) count(ctx context.Context, s sending) {
	_, err := b.change(ctx, s.ID, func(r row) bson.D {
		if r.Failure != nil {
			return nil
		}
		return bson.D{{Key: "$set", Value: bson.D{{Key: "accepted", Value: r.Accepted + 1}}}}
	})
	if err != nil {
		b.Log.WarnContext(ctx, "could not note that an event was sent again", "svix_id", s.ID, "error", err)
	}
}

// setAway says whether Inngest takes events, and if not, why.
func (b *Inbox) setAway(ctx context.Context, away bool, err error) {
	if after, ok := errors.AsType[*backoff.RetryAfterError](err); ok {
		b.pause.Store(time.Now().Add(after.Duration).UnixMilli())
	} else if !away {
		b.pause.Store(0)
	}
	if b.away.Swap(away) == away {
		return
	}
	if away {
		b.metrics.away.Set(1)
		select {
		case b.left <- struct{}{}:
		default: // it knows
		}
		b.Log.WarnContext(ctx, "Inngest takes no events; they wait in the inbox", "error", err)
		return
	}
	b.metrics.away.Set(0)
	b.Log.InfoContext(ctx, "Inngest takes events again")
}

// send returns nil when Inngest says that it has accepted every event.
func (b *Inbox) send(ctx context.Context, batch []sending) error {
	events := make([]Event, len(batch))
	for i, s := range batch {
		events[i] = s.Event
		events[i].ID = EventID{s.ID, s.before, s.replayed}.String()
	}
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	return b.Sender.Send(ctx, events)
}

// due is when an event may be sent, and after how many sendings.
func due(at time.Time, sends int) bson.D {
	return bson.D{{Key: "due_at", Value: at}, {Key: "sends", Value: sends}}
}
