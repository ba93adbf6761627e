package store

import (
	"hash/maphash"
	"sync"
)

// Locks serialises within this process what is done to one row. Where the database is not atomic that is what keeps rows right;
// elsewhere it saves lost races. The rows share 256 locks.
type Locks struct {
	seed  maphash.Seed
	locks [256]sync.Mutex
}

// NewLocks returns locks that nobody holds.
func NewLocks() *Locks { return &Locks{seed: maphash.MakeSeed()} }

// Lock waits for the lock of the row with the given id, and returns what frees it.
func (l *Locks) Lock(id string) (unlock func()) {
	m := &l.locks[maphash.String(l.seed, id)%uint64(len(l.locks))]
	m.Lock()
	return m.Unlock
}
