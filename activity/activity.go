// Package activity knows what happens just now: which webhooks come, and what becomes of their events.
package activity

import (
	"sync"
	"time"

	"clerksync/functions"
)

// maxWaiting is how many events a viewer may be behind before it misses some.
const maxWaiting = 1000

// Event is what became of an event about a user.
type Event struct {
	functions.Wrote
	Now time.Time // when it became that
}

// Activity tells its viewers what happens. It is safe for concurrent use.
type Activity struct {
	mu      sync.Mutex
	viewers map[chan Event]bool
}

// New returns an Activity without viewers.
func New() *Activity { return &Activity{viewers: map[chan Event]bool{}} }

// Wrote notes what became of an event. It does not block: a viewer that is too far behind misses it.
func (a *Activity) Wrote(w functions.Wrote) {
	e := Event{Wrote: w, Now: time.Now()}
	a.mu.Lock()
	defer a.mu.Unlock()
	for v := range a.viewers {
		select {
		case v <- e:
		default:
		}
	}
}

// Subscribe returns a channel that gets every event from now on, until end is called.
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
