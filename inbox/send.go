package inbox

import (
	"context"
	"errors"
	"sync"
	"time"

	"clerksync/store"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"golang.org/x/sync/errgroup"
)

// sending is an event and how often Inngest has accepted it before.
type sending struct {
	Event
	before   int
	replayed bool
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

// sweep sends what is due in the collection, again and again until ctx ends: what other processes left, what came while Inngest
// was away, what no function has cleared in time.
func (b *Inbox) sweep(ctx, hard context.Context) {
	every := min(max(b.ResendAfter/4, 50*time.Millisecond), 5*time.Second)
	timer := time.NewTimer(0)
	defer timer.Stop()
	var backoff time.Duration
	for {
		select {
		case <-timer.C:
		case <-b.left:
		case <-ctx.Done():
			return
		}
		n, scan, err := b.sendDue(hard)
		wait := every
		switch {
		case err != nil:
			b.Log.WarnContext(ctx, "the inbox cannot be read; trying again", "error", err)
		case b.away.Load():
			backoff = min(max(2*backoff, 100*time.Millisecond), 2*time.Second)
			wait = backoff
		case n > 0: // there may be more
			wait, backoff = 0, 0
		default:
			backoff = 0
		}
		// The embedded database reads the whole collection for it: a tenth of its time at the most.
		timer.Reset(max(wait, 9*scan))
	}
}

// sendDue claims events that are due and sends them. It returns how many there were, and how long it took to find them where
// that is slow.
func (b *Inbox) sendDue(ctx context.Context) (n int, scan time.Duration, err error) {
	limit := int64(maxSend)
	if b.away.Load() {
		limit = 1 // to see whether Inngest is back
	}
	find := options.Find().SetLimit(limit)
	if !b.db.OneProcess {
		find.SetSort(bson.D{{Key: "due_at", Value: 1}})
	}
	start := time.Now()
	cur, err := b.rows.Find(ctx, bson.D{{Key: "due_at", Value: bson.D{{Key: "$lte", Value: time.Now()}}}}, find)
	if err != nil {
		return 0, 0, store.Redact(err)
	}
	var found []row
	if err := cur.All(ctx, &found); err != nil {
		return 0, 0, store.Redact(err)
	}
	if b.db.OneProcess {
		scan = time.Since(start)
	}
	var mu sync.Mutex
	var batch []sending
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(8) // round trips at once: a row at a time would drain a backlog slowly
	for _, r := range found {
		g.Go(func() error {
			claimed, err := b.claim(gctx, r)
			if claimed {
				mu.Lock()
				defer mu.Unlock()
				batch = append(batch, sending{r.event(), r.Sends, r.Replayed})
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
	// One that Inngest never took has not been tried yet: it waits for as long as Inngest is away.
	if r.Sends > 0 && now.After(r.GiveUpAt) {
		return false, b.Fail(ctx, r.event(), Failure{Error: errGaveUp.Error()})
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

// dispatch sends a batch. What Inngest does not take goes back to the collection; a batch that it refuses is split until only
// the refused event is left, which fails for good.
func (b *Inbox) dispatch(ctx context.Context, batch []sending) {
	for len(batch) > 0 {
		n, size := 0, 0
		for n < min(len(batch), maxSend) && (n == 0 || size+len(batch[n].Data) <= maxSendBytes) {
			size += len(batch[n].Data)
			n++
		}
		b.dispatchOne(ctx, batch[:n])
		batch = batch[n:]
	}
}

// dispatchOne sends a batch that fits into one request.
func (b *Inbox) dispatchOne(ctx context.Context, batch []sending) {
	err := b.send(ctx, batch)
	switch {
	case err == nil:
		b.setAway(ctx, false, nil)
		b.accepted(ctx, batch)
	case errors.Is(err, ErrRefused) && len(batch) > 1:
		b.setAway(ctx, false, nil)
		b.dispatchOne(ctx, batch[:len(batch)/2])
		b.dispatchOne(ctx, batch[len(batch)/2:])
	case errors.Is(err, ErrRefused):
		b.setAway(ctx, false, nil)
		if err := b.Fail(ctx, batch[0].Event, Failure{Error: "Inngest refused the event: " + err.Error()}); err != nil {
			b.Log.WarnContext(ctx, "a refused event could not be marked failed; it will be sent again", "svix_id", batch[0].ID, "error", err)
		}
	default:
		b.setAway(ctx, true, err)
		b.release(ctx, batch)
	}
}

// accepted follows up what Inngest has taken.
func (b *Inbox) accepted(ctx context.Context, batch []sending) {
	for _, s := range batch {
		if s.before > 0 {
			b.metrics.resent.Inc()
			b.Log.WarnContext(ctx, "no function cleared the event in time; sent again", "svix_id", s.ID, "sends", s.before+1)
		}
		if b.Handled(s.Name) {
			continue
		}
		if err := b.Done(ctx, s.ID); err != nil {
			b.Log.WarnContext(ctx, "an accepted event stays in the inbox and will be sent again", "svix_id", s.ID, "error", err)
		}
	}
}

func (b *Inbox) setAway(ctx context.Context, away bool, err error) {
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
		events[i].ID = sendID(s.ID, s.before, s.replayed)
	}
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	return b.Sender.Send(ctx, events)
}

// due is when an event may be sent, and after how many sendings.
func due(at time.Time, sends int) bson.D {
	return bson.D{{Key: "due_at", Value: at}, {Key: "sends", Value: sends}}
}
