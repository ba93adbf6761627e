package inbox

import (
	"sync"
	"time"
)

const (
	// minFlight and maxFlight bound how many inserts may be in flight. Two are always allowed, so that one insert that
	// hangs does not hold up all others.
	minFlight = 2
	maxFlight = 16
	// crowded is how many times as long as alone an insert takes if too many are in flight.
	crowded = 2
)

// flow decides how many inserts may be in flight. If the database does one insert after the other, more in flight only
// makes each one smaller and later. If the database is far away, more in flight uses the waiting time. So flow allows
// one more while an insert takes about as long as it does alone, and one less when it takes longer, as TCP Vegas does
// (Brakmo, O'Malley and Peterson, SIGCOMM 1994). No constant suits both kinds of database:
// docs/adr/0007-inserts-in-flight.md.
type flow struct {
	mu     sync.Mutex
	freed  sync.Cond
	flying int
	limit  float64
	alone  time.Duration // the shortest time that an insert has taken recently
}

func newFlow() *flow {
	f := &flow{limit: minFlight}
	f.freed.L = &f.mu
	return f
}

// begin waits until one more insert may be in flight, at most until a running insert ends.
func (f *flow) begin() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.flying >= int(f.limit) {
		f.freed.Wait()
	}
	f.flying++
}

// end notes that an insert has ended and how long it took, and adjusts the limit.
func (f *flow) end(took time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.flying--
	f.alone += f.alone / 64 // so that an old minimum does not count forever
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
