// Package inbox keeps the events that are not written to a user's row yet. It makes an event durable before Clerk gets
// its 2xx, sends it to Inngest, sends it again if no function has cleared it in time, and keeps it as a dead letter if
// it fails for good.
package inbox

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"clerksync/inngest"
	"clerksync/store/database"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Event is one webhook on its way to a user's row. Its ID is the svix-id, which is the same in every delivery of a
// message. Its Data is the data of the webhook. Its TS is when it happened at Clerk or when it arrived, see ClerkTime.
type Event = inngest.Event

// ClerkTime is the V of an event whose TS is Clerk's own time of the event. Without this V, TS may be the time of
// arrival, which Inngest sets if the sender gives no time.
const ClerkTime = "clerk-time"

// Options is what New needs.
type Options struct {
	DB *database.DB
	// Send sends events to Inngest. It returns nil if Inngest says that it has accepted all of them. Its errors are
	// those of inngest.EventAPI.Send.
	Send func(context.Context, []Event) error
	// ResendAfter is how long after the first sending an event that no function has cleared is sent again. Each further
	// interval is twice as long, up to maxInterval.
	ResendAfter time.Duration
	// Handled tells whether one of our functions clears the events of this name. Other events leave the inbox as soon
	// as Inngest has accepted them, because no function would clear them.
	Handled    func(name string) bool
	Log        *slog.Logger
	Registerer prometheus.Registerer
}

// Inbox writes events to the collection clerksync_inbox and sends them to Inngest. It is safe for concurrent use.
type Inbox struct {
	Options
	Table
	ingress *database.Collection // the table, with the connections that are reserved for webhooks
	puts    chan *put
	out     chan []row   // events that one insert wrote and that are sent at once, from memory
	queued  atomic.Int64 // how many events are in out
	flow    *flow
	away    atomic.Bool   // Inngest takes no events, so they only wait in the collection
	pause   atomic.Int64  // Inngest wants no requests until then, in milliseconds since 1970
	left    chan struct{} // tells the sweep that Inngest is away, so the sweep has to send all events
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

// Run writes and sends events until ctx ends. Then it sends the events that are in memory, for which it takes at most
// drain, and returns. Nothing is lost if it is cut off, because unsent events are in the collection.
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

// EventName returns the name that Clerk's event of a type, such as user.created, has at Inngest.
func EventName(clerkType string) string { return "clerk/" + clerkType }

// Done removes an event from the inbox after its user's row was written, and returns when the event was received. That
// is the zero time if the event was not in the inbox, which is no error. eventID is the id under which Inngest ran the
// event.
func (b *Inbox) Done(ctx context.Context, eventID string) (received time.Time, _ error) {
	r, _, err := database.Take[row](ctx, b.rows, ParseEventID(eventID).Row, "received_at")
	return r.ReceivedAt, err
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
