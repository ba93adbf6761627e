package inbox

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"clerksync/inngest"

	"github.com/cenkalti/backoff/v5"
	"go.mongodb.org/mongo-driver/v2/bson"
	"golang.org/x/sync/errgroup"
)

const (
	// senders is how many sends from memory are in flight.
	senders = 4
	// maxSend and maxSendBytes bound one request to Inngest, which takes 5,000 events; its cloud 512 KB.
	maxSend      = 100
	maxSendBytes = 500_000
	// sendTimeout is when a send is given up.
	sendTimeout = 10 * time.Second
	// roundTrips is how many rows are changed at once: one after the other would drain a backlog slowly.
	roundTrips = 8
)

// sendNew sends what has just been written, from memory, until out is closed and empty.
func (b *Inbox) sendNew(ctx context.Context) {
	for batch := range b.out {
		for len(batch) < maxSend {
			more, ok := waiting(b.out)
			if !ok {
				break
			}
			batch = append(batch, more...)
		}
		b.queued.Add(-int64(len(batch)))
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

// dispatch sends events, in requests of a size that Inngest takes. The Sends of a row is how often Inngest may have
// accepted it before. What it does not take now goes back to the collection.
func (b *Inbox) dispatch(ctx context.Context, batch []row) {
	for first := true; len(batch) > 0; first = false {
		if !first && b.away.Load() {
			b.release(ctx, batch)
			return
		}
		n, size := 0, 0
		for n < min(len(batch), maxSend) && (n == 0 || size+len(batch[n].Data) <= maxSendBytes) {
			size += len(batch[n].Data)
			n++
		}
		b.dispatchOne(ctx, batch[:n])
		batch = batch[n:]
	}
}

// dispatchOne sends a batch that fits into one request. An event that is not let through has to wait alone if others
// were let through, or if it had to before. Otherwise that says nothing of the events: Inngest is away.
func (b *Inbox) dispatchOne(ctx context.Context, batch []row) {
	d := b.deliver(ctx, batch)
	known := !slices.ContainsFunc(d.blocked, func(r row) bool { return r.Blocked == 0 })
	if len(d.unsent) > 0 || !d.heard && !known {
		// In this order: no sweep may find them before it is known for how long Inngest wants to be left alone.
		b.setAway(ctx, true, d.why)
		b.release(ctx, append(d.unsent, d.blocked...))
		return
	}
	if d.heard {
		b.setAway(ctx, false, nil)
	}
	for _, r := range d.blocked {
		b.postpone(ctx, r, d.why)
	}
}

// delivery is what became of a batch.
type delivery struct {
	heard   bool  // Inngest itself has answered
	blocked []row // what was not let through, each sent alone
	unsent  []row // what was not sent, or in vain, because Inngest is away
	why     error // Inngest is away, or the last event was not let through
}

// deliver sends a batch. While the answer may be because of one of its events, it is split in halves, until such an
// event is alone; one that Inngest refuses then fails for good. It ends when Inngest is away.
func (b *Inbox) deliver(ctx context.Context, batch []row) delivery {
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
		id, why := batch[0].ID, Failure{Error: "Inngest refused the event: " + err.Error()}
		if _, err := b.FailPending(ctx, id, why); err != nil {
			b.Log.WarnContext(ctx, "a refused event could not be marked failed; it will be sent again",
				"svix_id", id, "error", err)
		}
		return delivery{heard: true}
	case blocked:
		return delivery{blocked: slices.Clone(batch), why: err}
	}
	return delivery{unsent: slices.Clone(batch), why: err}
}

// send returns nil when Inngest says that it has accepted every event.
func (b *Inbox) send(ctx context.Context, batch []row) error {
	events := make([]Event, len(batch))
	for i, r := range batch {
		events[i] = r.event()
		events[i].ID = EventID{r.ID, r.Sends, r.Replayed}.String()
	}
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	return b.Send(ctx, events)
}

// release gives events back that Inngest did not take: they are due at once, under the same id.
func (b *Inbox) release(ctx context.Context, batch []row) {
	for _, r := range batch {
		if !b.giveBack(ctx, r, 0) {
			return // the leases end by themselves
		}
	}
}

// postpone lets an event wait that is not let through though others are, for longer each time, up to maxInterval. It is
// never given up for that: a rule of a proxy or of a firewall may be why, and Inngest has never seen it.
func (b *Inbox) postpone(ctx context.Context, r row, why error) {
	// The first wait is short: Inngest may have come back just then, and let it through.
	wait := min(time.Second<<min(r.Blocked, 16), maxInterval)
	b.Log.WarnContext(ctx, "an event is not let through to Inngest, while others are; it waits, and will be sent again",
		"svix_id", r.ID, "wait", wait.String(), "error", why)
	r.Blocked++
	b.giveBack(ctx, r, wait)
}

// giveBack makes an event due again that was sent in vain. It tells whether the database could be asked.
func (b *Inbox) giveBack(ctx context.Context, r row, wait time.Duration) bool {
	fields := due(time.Now().Add(wait), r.Sends)
	if r.Blocked > 0 {
		fields = append(fields, bson.E{Key: "blocked", Value: r.Blocked})
	}
	return b.setPending(ctx, r.ID, func(row) bson.D { return fields }) == nil
}

// due says when an event may be sent, and after how many sendings.
func due(at time.Time, sends int) bson.D {
	return bson.D{{Key: "due_at", Value: at}, {Key: "sends", Value: sends}}
}

// setPending sets fields of an event, unless it has failed meanwhile.
func (b *Inbox) setPending(ctx context.Context, id string, fields func(row) bson.D) error {
	_, err := b.change(ctx, id, func(r row) bson.D {
		if r.Failure != nil {
			return nil
		}
		return bson.D{{Key: "$set", Value: fields(r)}}
	})
	return err
}

// accepted follows up what Inngest has taken: what was sent again is counted, and what no function will clear leaves
// the inbox. If that fails an event is sent once more than it must be.
func (b *Inbox) accepted(ctx context.Context, batch []row) {
	var g errgroup.Group
	g.SetLimit(roundTrips)
	for _, r := range batch {
		if r.Sends > 0 {
			b.metrics.resent.Inc()
			b.resent.add(r)
			b.Log.DebugContext(ctx, "sent again", "svix_id", r.ID, "sends", r.Sends+1)
		}
		if r.Sends == 0 && b.Handled(r.Name) {
			continue
		}
		g.Go(func() (err error) {
			if !b.Handled(r.Name) {
				err = b.Done(ctx, r.ID)
			} else {
				err = b.setPending(ctx, r.ID, func(now row) bson.D {
					return bson.D{{Key: "accepted", Value: now.Accepted + 1}}
				})
			}
			if err != nil {
				b.Log.WarnContext(ctx, "could not note that Inngest has accepted an event; it may be sent again",
					"svix_id", r.ID, "error", err)
			}
			return nil
		})
	}
	_ = g.Wait() // none fails
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
	if !away {
		b.metrics.away.Set(0)
		b.Log.InfoContext(ctx, "Inngest takes events again")
		return
	}
	b.metrics.away.Set(1)
	select {
	case b.left <- struct{}{}:
	default: // the sweep knows already
	}
	b.Log.WarnContext(ctx, "Inngest takes no events; they wait in the inbox", "error", err)
}
