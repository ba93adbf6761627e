package database

import (
	"hash/maphash"
	"maps"
	"slices"
	"sync"
)

// Locks serialises within this process what is done to one row. Where the database is not atomic that is what keeps
// rows right; elsewhere it saves lost races. The rows share 256 locks.
type Locks struct {
	seed  maphash.Seed
	locks [256]sync.Mutex
}

// Locks returns the locks of the rows of a collection, the same for all who ask: two that each had their own would not
// keep apart.
func (db *DB) Locks(collection string) *Locks {
	l, _ := db.locks.LoadOrStore(collection, &Locks{seed: maphash.MakeSeed()})
	return l.(*Locks)
}

// LockAll waits for the locks of all these rows, and returns what frees them. It takes them in one order, so that two
// calls never wait for each other; who calls it must hold none.
func (l *Locks) LockAll(ids []string) (unlock func()) {
	wanted := map[int]bool{}
	for _, id := range ids {
		wanted[l.place(id)] = true
	}
	order := slices.Sorted(maps.Keys(wanted))
	for _, i := range order {
		l.locks[i].Lock()
	}
	return func() {
		for _, i := range order {
			l.locks[i].Unlock()
		}
	}
}

// Lock waits for the lock of the row with the given id, and returns what frees it.
func (l *Locks) Lock(id string) (unlock func()) {
	m := &l.locks[l.place(id)]
	m.Lock()
	return m.Unlock
}

func (l *Locks) place(id string) int {
	return int(maphash.String(l.seed, id) % uint64(len(l.locks)))
}
