// Package activity knows what happens just now: which webhooks come, what becomes of their events, and how long that
// takes. What this process does it knows at once, and what the others do through the database, half a minute later.
package activity

import (
	"crypto/rand"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"clerksync/clerk"
	"clerksync/functions"
	"clerksync/store"
	"clerksync/store/database"
	"clerksync/webhook"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

const (
	// maxWaiting is how many events a viewer may be behind before it misses some.
	maxWaiting = 1000
	// maxNewest is how many events of this process are kept in memory.
	maxNewest = 1000
	// maxText bounds the texts of an event, in bytes. An id of Clerk's has 32.
	maxText = 300
)

// Event is what became of an event about a user.
type Event struct {
	functions.Wrote
	Now time.Time // when it became that
}

// Activity keeps what happens, counts it, and tells it its viewers. It is safe for concurrent use.
type Activity struct {
	state    database.Checkpoints
	log      *slog.Logger
	name     string // of this process's document in state
	now      func() time.Time
	outcomes *prometheus.CounterVec
	toRow    *prometheus.HistogramVec

	mu      sync.Mutex
	viewers map[chan Event]bool
	newest  []Event // the oldest first
	minutes minutes
	last    time.Time        // when the last webhook came that Clerk had signed
	others  map[string]saved // what the other processes had saved when it was last read
}

// New returns an Activity of this process, of which other processes do not know until Run.
func New(state database.Checkpoints, log *slog.Logger, reg prometheus.Registerer) *Activity {
	f := promauto.With(reg)
	a := &Activity{
		state: state, log: log, name: savedPrefix + rand.Text(), now: time.Now, viewers: map[chan Event]bool{},
		outcomes: f.NewCounterVec(prometheus.CounterOpts{
			Name: "clerksync_outcomes_total", Help: "Events that a function got, by what became of them.",
		}, []string{"type", "outcome"}),
		toRow: f.NewHistogramVec(prometheus.HistogramOpts{
			Name: "clerksync_webhook_to_row_seconds", Help: "From the webhook to the end of the work for its event.",
			// From a function that runs at once to a day of retries.
			Buckets: []float64{.05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 6 * 3600, 24 * 3600},
		}, []string{"type"}),
	}
	for _, typ := range types() { // 0 is to be seen before the first one
		for _, outcome := range outcomes() {
			a.outcomes.WithLabelValues(typ, outcome)
		}
		a.toRow.WithLabelValues(typ)
	}
	return a
}

// types and outcomes are all values of these labels but "other".
func types() []string { return []string{clerk.UserCreated, clerk.UserUpdated, clerk.UserDeleted} }

func outcomes() []string {
	return []string{
		string(store.Created), string(store.Updated), string(store.Unchanged), string(store.Stale),
		string(store.Deleted), functions.Retried, functions.Failed,
	}
}

// label returns a value of a label: value if it is known, so that there are never more labels than these.
func label(value string, known []string) string {
	if slices.Contains(known, value) {
		return value
	}
	return "other"
}

// Webhook notes what a webhook was answered.
func (a *Activity) Webhook(w webhook.Answer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	m := a.minutes.at(a.now())
	if w.Code/100 == 2 {
		m.Taken++
	} else {
		m.Refused[w.Reason]++
	}
	if w.ID != "" {
		a.last = w.At
	}
}

// Wrote notes what became of an event. It does not block: a viewer that is too far behind misses it.
func (a *Activity) Wrote(w functions.Wrote) {
	w.UserID, w.Source.ID = cut(w.UserID), cut(w.Source.ID)
	e := Event{Wrote: w, Now: a.now()}
	typ := label(w.Type, types())
	a.outcomes.WithLabelValues(typ, label(w.Result(), outcomes())).Inc()
	if w.Err == nil && !w.Received.IsZero() {
		a.toRow.WithLabelValues(typ).Observe(max(0, e.Now.Sub(w.Received)).Seconds()) // another process's clock
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if changed(w) {
		a.minutes.at(e.Now).lag(e.Now.Sub(w.At))
	}
	a.newest = append(a.newest[max(0, len(a.newest)+1-maxNewest):], e)
	for v := range a.viewers {
		select {
		case v <- e:
		default:
		}
	}
}

// cut returns a text of at most maxText bytes that any database takes.
func cut(s string) string { return strings.ToValidUTF8(s[:min(len(s), maxText)], "") }

// changed tells whether a change at Clerk has just reached the row. Any other event came once more, or after a newer
// one.
func changed(w functions.Wrote) bool {
	news := []store.Outcome{store.Created, store.Updated, store.Deleted}
	return w.Err == nil && slices.Contains(news, w.Outcome) && !w.OfDeleted()
}

// Newest returns what this process did last, the newest first, at most 1,000 events.
func (a *Activity) Newest() []Event {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := slices.Clone(a.newest)
	slices.Reverse(all)
	return all
}

// Subscribe returns a channel that gets every event of this process from now on, until end is called.
func (a *Activity) Subscribe() (events <-chan Event, end func()) {
	v := make(chan Event, maxWaiting)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.viewers[v] = true
	return v, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.viewers, v)
	}
}
