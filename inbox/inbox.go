// Package inbox keeps the events that are not in a row yet: it makes them durable before Clerk gets its 2xx, sends them
// to Inngest, sends them again when no function has cleared them in time, and keeps those that failed for good.
package inbox

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"clerksync/inngest"
	"clerksync/store/database"

	"github.com/prometheus/client_golang/prometheus"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"golang.org/x/sync/errgroup"
)

// Event is one webhook on its way to a row. Its ID is the svix-id, the same in every delivery of one message, and its
// Data the webhook's. Its TS is when it happened at Clerk, or when it arrived, see ClerkTime.
type Event = inngest.Event

// ClerkTime is the V of an event whose TS is Clerk's own time of it. Nothing else tells that from the time of arrival,
// which Inngest puts where the sender gives none.
const ClerkTime = "clerk-time"

// row is an event in the collection clerksync_inbox. A pending one has a time at which it is due, a failed one has a
// failure instead.
type row struct {
	ID         string    `bson:"_id"`
	Name       string    `bson:"name"`
	TS         int64     `bson:"ts"`
	V          string    `bson:"v,omitempty"`
	ReceivedAt time.Time `bson:"received_at"`
	// Sends counts how often Inngest may have accepted it, and is in the id of the next sending, see EventID.
	Sends int `bson:"sends"`
	// Accepted counts how often Inngest has accepted it, the first sending left out: that would be a write more for
	// every event.
	Accepted int `bson:"accepted,omitempty"`
	// Blocked counts how often it was not let through while its neighbours were, see postpone.
	Blocked int `bson:"blocked,omitempty"`
	// DueAt is when any process may send it; until then the one that wrote or claimed it has the lease.
	DueAt    time.Time `bson:"due_at,omitempty"`
	GiveUpAt time.Time `bson:"give_up_at"`
	Replayed bool      `bson:"replayed,omitempty"` // a run had failed before
	Failure  *Failure  `bson:"failure,omitempty"`
	Data     string    `bson:"data"` // JSON; last, because the driver's buffer grows for it
}

func (r row) event() Event {
	return Event{ID: r.ID, Name: r.Name, Data: json.RawMessage(r.Data), TS: r.TS, V: r.V}
}

// Failure says why an event was given up.
type Failure struct {
	Function string    `bson:"function,omitempty"` // the id that Inngest has for it; "" if no run has failed
	RunID    string    `bson:"run_id,omitempty"`
	Error    string    `bson:"error"`
	At       time.Time `bson:"at"`
	// DroppedAt is when somebody decided not to replay it.
	DroppedAt time.Time `bson:"dropped_at,omitempty"`
}

// Sender sends events to Inngest: an inngest.EventAPI. It returns nil when Inngest says that it has accepted them all.
type Sender interface {
	Send(ctx context.Context, events []Event) error
}

// Options is what New needs.
type Options struct {
	DB     *database.DB
	Sender Sender
	// ResendAfter is the time until an event that no function has cleared is sent for the second time; each further
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
	table
	puts chan *put
	out  chan []Event // written together, and to be sent at once, from memory
	// queued is how many events are in out.
	queued atomic.Int64
	flow   *flow
	// away is set while Inngest takes nothing: then events wait in the collection alone.
	away atomic.Bool
	// pause is until when Inngest has asked to be left alone, in milliseconds since 1970.
	pause   atomic.Int64
	stamped atomic.Int64  // see stamp
	left    chan struct{} // tells the sweep that something has been left to it
	resent  resent
	metrics metrics
}

type put struct {
	event Event
	done  chan error
}

const (
	// maxInsert and maxInsertBytes bound one insert: FerretDB takes 1,000 rows, MongoDB 48 MB.
	maxInsert      = 128
	maxInsertBytes = 8 << 20
	// senders is how many sends from memory are in flight.
	senders = 4
	// maxOut is how many events may wait in memory to be sent; what is more waits in the collection.
	maxOut = 1024
	// maxSend and maxSendBytes bound one request to Inngest, which takes 5,000 events; its cloud 512 KB.
	maxSend      = 100
	maxSendBytes = 500_000
	// roundTrips is how many rows are changed at once: one after the other would drain a backlog slowly.
	roundTrips = 8
	// resentEvery is how often a line says what was sent again: after an outage that is everything.
	resentEvery = time.Minute
	// sendTimeout is when a send is given up.
	sendTimeout = 10 * time.Second
	// insertTimeout bounds one insert; with the wait for a committer it stays well within the 15 s that Clerk waits.
	insertTimeout = 5 * time.Second
	// giveUpAfter is how long an event is sent again, and giveUpSends how often Inngest has accepted that at the least:
	// the clock says nothing of a process that was away.
	giveUpAfter = 24 * time.Hour
	giveUpSends = 8
	// probe is how many events are sent to see whether Inngest is back: more than one, because one may be what does not
	// pass.
	probe = 4
	// maxInterval is the longest time between two sends.
	maxInterval = time.Hour
)

// New returns an inbox that does nothing until Run.
func New(o Options) *Inbox {
	return &Inbox{
		Options: o,
		table:   newTable(o.DB),
		puts:    make(chan *put),
		out:     make(chan []Event, maxOut),
		flow:    newFlow(),
		left:    make(chan struct{}, 1),
		metrics: newMetrics(o.Registerer),
	}
}

// Setup makes the index of the collection. It can be repeated.
func Setup(ctx context.Context, db *database.DB) error {
	return newTable(db).rows.EnsureIndex(ctx, index())
}

// LacksIndex tells whether Setup has something to do.
func LacksIndex(ctx context.Context, db *database.DB) (bool, error) {
	return newTable(db).rows.LacksIndex(ctx, index())
}

func index() database.Index { return database.Index{Field: "due_at"} }

// Put returns nil when the event is durable. An event that is there already, by its ID, is the same event: it is not
// sent again unless it had failed. An error says that the event may be lost and has to be delivered again.
func (b *Inbox) Put(ctx context.Context, e Event) error {
	p := &put{event: e, done: make(chan error, 1)}
	select {
	case b.puts <- p:
	case <-ctx.Done():
		return fmt.Errorf("wait for the inbox: %w", ctx.Err())
	}
	select {
	case err := <-p.done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("write to the inbox: %w", ctx.Err())
	}
}

// Done removes the event whose row has been written. eventID is the id under which Inngest ran it; one that never was
// in the inbox is not an error.
func (b *Inbox) Done(ctx context.Context, eventID string) error {
	if _, err := b.rows.DeleteOne(ctx, database.ByID(ParseEventID(eventID).Row)); err != nil {
		return fmt.Errorf("clear the inbox: %w", database.Redact(err))
	}
	return nil
}

// FailPending makes an event that is in the inbox a dead letter: it is not sent again. eventID is the id under which
// Inngest ran it. It tells whether the event is there; a failed one is too. It may be repeated.
func (b *Inbox) FailPending(ctx context.Context, eventID string, f Failure) (bool, error) {
	id := ParseEventID(eventID).Row
	if id == "" { // of no event in particular
		return false, nil
	}
	f.At = time.Now()
	defer b.rows.Lock(id)()
	known, err := b.markFailed(ctx, id, f)
	if errors.Is(err, mongo.ErrNoDocuments) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("keep a dead letter: %w", database.Redact(err))
	}
	b.tellFailed(ctx, id, f, known)
	return true, nil
}

// Fail keeps the event as a dead letter, also if it is not in the inbox: because it came by Inngest's own integration,
// or has been cleared. It may be repeated. e.ID is the id under which Inngest ran it; an event without one gets an id
// of its content.
func (b *Inbox) Fail(ctx context.Context, e Event, f Failure) error {
	if e.ID == "" || e.ID[0] == ':' { // see EventID.Own
		e.ID = fmt.Sprintf("no-id-%.16x", sha256.Sum256(append([]byte(e.Name), e.Data...))) + e.ID
	}
	there, err := b.FailPending(ctx, e.ID, f)
	if there || err != nil {
		return err
	}
	id := ParseEventID(e.ID).Row
	f.At = time.Now()
	_, err = b.rows.InsertOne(ctx, row{
		ID: id, Name: e.Name, Data: string(e.Data), TS: e.TS, V: e.V, ReceivedAt: f.At, Sends: 1, GiveUpAt: f.At.Add(giveUpAfter), Failure: &f,
	})
	if database.IsDuplicate(err) { // another process was quicker, or it has just been delivered
		_, err = b.FailPending(ctx, e.ID, f)
		return err
	}
	if err != nil {
		return fmt.Errorf("keep a dead letter: %w", database.Redact(err))
	}
	b.tellFailed(ctx, id, f, false)
	return nil
}

func (b *Inbox) tellFailed(ctx context.Context, id string, f Failure, known bool) {
	if known {
		return
	}
	b.metrics.failed.Inc()
	// Not the error: a function of the app's may have put anything into it.
	b.Log.ErrorContext(ctx, "event failed for good; see clerksync deadletters", "svix_id", id, "function", f.Function)
}

// markFailed marks a row as failed. It tells whether it was already, by the same run, and returns mongo.ErrNoDocuments
// if there is no row.
func (b *Inbox) markFailed(ctx context.Context, id string, f Failure) (known bool, _ error) {
	var r row
	if err := b.rows.FindOne(ctx, database.ByID(id)).Decode(&r); err != nil {
		return false, err
	}
	res, err := b.rows.UpdateOne(ctx, database.ByID(id), bson.D{
		{Key: "$set", Value: bson.D{{Key: "failure", Value: f}}},
		{Key: "$unset", Value: bson.D{{Key: "due_at", Value: ""}}},
	})
	if err == nil && res.MatchedCount == 0 { // cleared meanwhile
		return true, nil
	}
	return r.Failure != nil && r.Failure.RunID == f.RunID, err
}

// Run writes and sends until ctx ends, then sends what is in memory, for drain at the most, and returns. Nothing is
// lost if it is cut off: what was not sent is in the collection.
func (b *Inbox) Run(ctx context.Context, drain time.Duration) {
	hard, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		t := time.AfterFunc(drain, cancel)
		context.AfterFunc(hard, func() { t.Stop() })
	})()

	var writing, sending errgroup.Group
	writing.Go(func() error { b.commit(ctx, hard); return nil })
	for range senders {
		sending.Go(func() error { b.sendNew(hard); return nil })
	}
	sending.Go(func() error { b.sweep(ctx, hard); return nil })
	_ = writing.Wait() // none fails
	close(b.out)
	_ = sending.Wait() // none fails
}

// resendInterval is the time between the nth sending (from 1) and the next.
func (b *Inbox) resendInterval(n int) time.Duration {
	return min(b.ResendAfter<<min(max(n-1, 0), 16), max(maxInterval, b.ResendAfter))
}

type metrics struct {
	written, inserts, resent, failed prometheus.Counter
	away                             prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) metrics {
	m := metrics{
		written: prometheus.NewCounter(prometheus.CounterOpts{Name: "clerksync_inbox_events_total", Help: "Events made durable."}),
		inserts: prometheus.NewCounter(prometheus.CounterOpts{Name: "clerksync_inbox_inserts_total", Help: "Inserts that made them durable; concurrent events share one."}),
		resent:  prometheus.NewCounter(prometheus.CounterOpts{Name: "clerksync_inbox_resent_total", Help: "Events sent again because no function had cleared them."}),
		failed:  prometheus.NewCounter(prometheus.CounterOpts{Name: "clerksync_inbox_failed_total", Help: "Events failed for good and kept."}),
		away:    prometheus.NewGauge(prometheus.GaugeOpts{Name: "clerksync_inngest_away", Help: "1 while Inngest takes no events."}),
	}
	r.MustRegister(m.written, m.inserts, m.resent, m.failed, m.away)
	return m
}

var errGaveUp = fmt.Errorf("no function has cleared the event, though Inngest accepted it %d times or more in 24 hours", giveUpSends)
