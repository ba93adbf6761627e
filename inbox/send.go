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
	// senders is how many requests with events from memory are in flight.
	senders = 4
	// maxSend and maxSendBytes bound one request to Inngest, which accepts 5,000 events. Inngest Cloud accepts 512 KB.
	maxSend      = 100
	maxSendBytes = 500_000
	// sendTimeout bounds one send, with its retries.
	sendTimeout = 10 * time.Second
	// roundTrips is how many rows are changed at the same time. One after the other, a backlog would drain slowly.
	roundTrips = 8
)

// sendNew sends from memory the events that have just been written, until out is closed and empty.
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
		case ctx.Err() != nil: // the events are in the collection, for another process or the next start
			return
		case b.away.Load():
			b.release(ctx, batch)
		default:
			b.dispatch(ctx, batch)
		}
	}
}

// dispatch sends events in requests of a size that Inngest accepts. The rows in batch are as they were before this
// sending: Sends is how often Inngest may have accepted the event before. Events that Inngest does not accept now
// become due again in the collection.
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

// dispatchOne sends a batch that fits into one request. An event that is not let through waits alone if other events
// were let through, or if it has waited alone before. Otherwise the answer says nothing about the events, and Inngest
// counts as away.
func (b *Inbox) dispatchOne(ctx context.Context, batch []row) {
	d := b.deliver(ctx, batch)
	known := !slices.ContainsFunc(d.blocked, func(r row) bool { return r.Blocked == 0 })
	if len(d.unsent) > 0 || !d.heard && !known {
		// The flag is set before the events become due, so that the sweep knows of a pause that Inngest asked for
		// before it finds the events.
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

// delivery is the result of deliver.
type delivery struct {
	heard   bool  // Inngest itself has answered
	blocked []row // events that were not let through, each sent alone
	unsent  []row // events that were not sent, because Inngest is away
	why     error // why Inngest counts as away, or why the last event was not let through
}

// deliver sends a batch. If the answer may be about one of its events, deliver splits the batch in halves until that
// event is alone. If Inngest refuses it then, it becomes a dead letter. deliver ends early if Inngest is away.
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

// send sends the events of a batch. It returns nil if Inngest says that it has accepted all of them.
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

// release makes events that Inngest did not accept due again at once, under the same ids.
func (b *Inbox) release(ctx context.Context, batch []row) {
	for _, r := range batch {
		if !b.giveBack(ctx, r, 0) {
			return // the leases of the others end by themselves
		}
	}
}

// postpone makes an event wait that was not let through although others were. Each wait is longer, up to maxInterval.
// Such an event never becomes a dead letter, because Inngest has not seen it: a proxy or a firewall may have blocked
// it.
func (b *Inbox) postpone(ctx context.Context, r row, why error) {
	// The first wait is short: Inngest may just have come back and may accept the event now.
	wait := min(time.Second<<min(r.Blocked, 16), maxInterval)
	b.Log.WarnContext(ctx, "an event is not let through to Inngest, while others are; it waits, and will be sent again",
		"svix_id", r.ID, "wait", wait.String(), "error", why)
	r.Blocked++
	b.giveBack(ctx, r, wait)
}

// giveBack makes an event that Inngest did not accept due again after wait. It returns false if the database failed;
// then the event's lease ends by itself.
func (b *Inbox) giveBack(ctx context.Context, r row, wait time.Duration) bool {
	fields := due(time.Now().Add(wait), r.Sends)
	if r.Blocked > 0 {
		fields = append(fields, bson.E{Key: "blocked", Value: r.Blocked})
	}
	return b.setPending(ctx, r.ID, func(row) bson.D { return fields }) == nil
}

// due returns the fields that say when an event may be sent, and how often it was sent before.
func due(at time.Time, sends int) bson.D {
	return bson.D{{Key: "due_at", Value: at}, {Key: "sends", Value: sends}}
}

// setPending sets fields of an event, unless it is a dead letter by now.
func (b *Inbox) setPending(ctx context.Context, id string, fields func(row) bson.D) error {
	_, err := b.change(ctx, id, func(r row) bson.D {
		if r.Failure != nil {
			return nil
		}
		return bson.D{{Key: "$set", Value: fields(r)}}
	})
	return err
}

// accepted notes that Inngest has accepted events. It counts those that were sent again, and removes those that no
// function will clear. If that fails, it logs it, and an event may be sent once more than necessary.
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
				_, err = b.Done(ctx, r.ID)
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
	_ = g.Wait() // always nil
}

// setAway notes whether Inngest is away. If it is, err says why, and may ask for a pause.
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
