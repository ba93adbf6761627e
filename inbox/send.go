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

// sendNew sends events that have just been written, from memory, until out is closed and empty.
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
		case ctx.Err() != nil: // another process, or the next start, finds them in the collection
			return
		case b.away.Load():
			b.release(ctx, batch)
		default:
			b.dispatch(ctx, batch)
		}
	}
}

// dispatch sends events in requests of a size that Inngest takes. Their rows are as they were before this sending:
// Sends is how often Inngest may have accepted the event before. Events that it does not take now go back to the
// collection.
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
// were let through, or if it had to wait alone before. Otherwise the answer says nothing about the events: Inngest is
// away.
func (b *Inbox) dispatchOne(ctx context.Context, batch []row) {
	d := b.deliver(ctx, batch)
	known := !slices.ContainsFunc(d.blocked, func(r row) bool { return r.Blocked == 0 })
	if len(d.unsent) > 0 || !d.heard && !known {
		// In this order, so that no sweep finds the events before it knows for how long Inngest wants no requests.
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
	blocked []row // events that were not let through, even when each was sent alone
	unsent  []row // events that Inngest does not have, because it is away
	why     error // why Inngest is away, or why the last event was not let through
}

// deliver sends a batch. If the answer may be about one of its events, the batch is split in halves, until such an
// event is alone. If Inngest refuses it then, it fails for good. deliver ends early if Inngest is away.
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

// release gives back events that Inngest did not take: they are due at once, under the same id.
func (b *Inbox) release(ctx context.Context, batch []row) {
	for _, r := range batch {
		if !b.giveBack(ctx, r, 0) {
			return // the leases end by themselves
		}
	}
}

// postpone makes an event wait that is not let through although others are, longer each time, up to maxInterval. Such
// an event is never given up, because Inngest has not seen it: a rule of a proxy or of a firewall may be the reason.
func (b *Inbox) postpone(ctx context.Context, r row, why error) {
	// The first wait is short, because Inngest may just have come back, and take it now.
	wait := min(time.Second<<min(r.Blocked, 16), maxInterval)
	b.Log.WarnContext(ctx, "an event is not let through to Inngest, while others are; it waits, and will be sent again",
		"svix_id", r.ID, "wait", wait.String(), "error", why)
	r.Blocked++
	b.giveBack(ctx, r, wait)
}

// giveBack makes an event due again that Inngest did not take. It tells whether the database could be asked; if not,
// the lease of the event ends by itself.
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

// accepted is called for events that Inngest has taken. It counts those that were sent again, and removes those that no
// function will clear. If that fails, an event is sent once more than necessary.
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
