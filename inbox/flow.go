package inbox

import (
	"sync"
	"time"
)

const (
	// minFlight and maxFlight bound how many inserts are in flight. There are at least two, so that one that hangs does
	// not hold up all others.
	minFlight = 2
	maxFlight = 16
	// crowded is how much longer an insert takes than it does alone if too many are in flight.
	crowded = 2
)

// flow decides how many inserts may be in flight. Where the database does one after the other, more at once only make
// each smaller and later; where it is far away, more at once keep the line full. So there may be one more while an
// insert takes about as long as it does alone, and fewer when it takes longer, as TCP Vegas does it (Brakmo, O'Malley
// and Peterson, SIGCOMM 1994). No constant does as well with both: docs/adr/0007-inserts-in-flight.md.
type flow struct {
	mu     sync.Mutex
	freed  sync.Cond
	flying int
	limit  float64
	alone  time.Duration // the shortest time that an insert has taken of late
}

func newFlow() *flow {
	f := &flow{limit: minFlight}
	f.freed.L = &f.mu
	return f
}

// begin waits until one more insert may be in flight. It waits no longer than an insert lasts.
func (f *flow) begin() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.flying >= int(f.limit) {
		f.freed.Wait()
	}
	f.flying++
}

// end says how long an insert took.
func (f *flow) end(took time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.flying--
	f.alone += f.alone / 64 // so that an old record does not count for ever
	if f.alone == 0 || took < f.alone {
		f.alone = took
	}
	if step := 1 / f.limit; took < crowded*f.alone {
		f.limit = min(maxFlight, f.limit+step)
	} else {
		f.limit = max(minFlight, f.limit-step)
	}
	f.freed.Signal()
}
