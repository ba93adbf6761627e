// Package inbox keeps the events that are not in a row yet: it makes them durable before Clerk gets its 2xx, sends them
// to Inngest, sends them again when no function has cleared them in time, and keeps those that failed for good.
package inbox

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"clerksync/inngest"
	"clerksync/store/database"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Event is one webhook on its way to a row. Its ID is the svix-id, the same in every delivery of one message, and its
// Data the webhook's. Its TS is when it happened at Clerk, or when it arrived, see ClerkTime.
type Event = inngest.Event

// ClerkTime is the V of an event whose TS is Clerk's own time of it. Nothing else tells that from the time of arrival,
// which Inngest puts where the sender gives none.
const ClerkTime = "clerk-time"

// Options is what New needs.
type Options struct {
	DB *database.DB
	// Send sends events to Inngest. It returns nil when Inngest says that it has accepted them all; its errors are
	// those of inngest.EventAPI.
	Send func(context.Context, []Event) error
	// ResendAfter is the time until an event that no function has cleared is sent for the second time. Each further
	// time takes twice as long, up to maxInterval.
	ResendAfter time.Duration
	// Handled tells whether one of our functions clears the events of this name. Others leave the inbox when Inngest
	// has accepted them: nobody would ever say that they are done.
	Handled    func(name string) bool
	Log        *slog.Logger
	Registerer prometheus.Registerer
}

// Inbox is the collection clerksync_inbox and the sending of what is in it. It is safe for concurrent use.
type Inbox struct {
	Options
	Table
	ingress *database.Collection // the table, through the connections that are kept for what Clerk waits for
	puts    chan *put
	out     chan []row   // events that were written together and are to be sent at once, from memory
	queued  atomic.Int64 // how many events are in out
	flow    *flow
	away    atomic.Bool   // Inngest takes nothing, so events wait in the collection only
	pause   atomic.Int64  // until when Inngest has asked for no requests, in milliseconds since 1970
	left    chan struct{} // tells the sweep that Inngest is away, and events are left to it
	resent  resent
	metrics metrics
}

// New returns an inbox that does nothing until Run.
func New(o Options) *Inbox {
	table := NewTable(o.DB)
	return &Inbox{
		Options: o,
		Table:   table,
		ingress: table.rows.Ingress(),
		puts:    make(chan *put),
		out:     make(chan []row, maxOut),
		flow:    newFlow(),
		left:    make(chan struct{}, 1),
		metrics: newMetrics(promauto.With(o.Registerer)),
	}
}

// Run writes and sends until ctx ends, then sends what is in memory, for drain at the most, and returns. Nothing is
// lost if it is cut off: what was not sent is in the collection.
func (b *Inbox) Run(ctx context.Context, drain time.Duration) {
	hard, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(drain, cancel) })()

	var sending sync.WaitGroup
	for range senders {
		sending.Go(func() { b.sendNew(hard) })
	}
	sending.Go(func() { b.sweep(ctx, hard) })
	b.commit(ctx, hard)
	close(b.out)
	sending.Wait()
}

// Done removes the event whose row has been written. eventID is the id under which Inngest ran it. It is no error if
// the event never was in the inbox.
func (b *Inbox) Done(ctx context.Context, eventID string) error {
	if _, err := b.rows.DeleteOne(ctx, database.ByID(ParseEventID(eventID).Row)); err != nil {
		return fmt.Errorf("clear the inbox: %w", database.Redact(err))
	}
	return nil
}

type metrics struct {
	written, inserts, resent, failed prometheus.Counter
	away                             prometheus.Gauge
}

func newMetrics(f promauto.Factory) metrics {
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: "clerksync_inbox_" + name + "_total", Help: help})
	}
	return metrics{
		written: counter("events", "Events made durable."),
		inserts: counter("inserts", "Inserts that made them durable; concurrent events share one."),
		resent:  counter("resent", "Events sent again because no function had cleared them."),
		failed:  counter("failed", "Events failed for good and kept."),
		away: f.NewGauge(prometheus.GaugeOpts{
			Name: "clerksync_inngest_away", Help: "1 while Inngest takes no events.",
		}),
	}
}
