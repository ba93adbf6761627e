package database

import (
	"hash/maphash"
	"maps"
	"slices"
	"sync"
)

// locks are those of the rows of a collection, for what this process does to them. Where the database is not atomic
// they keep rows right; elsewhere they save lost races. The rows share 256 locks.
type locks struct {
	seed  maphash.Seed
	locks [256]sync.Mutex
}

func newLocks() *locks { return &locks{seed: maphash.MakeSeed()} }

// LockAll waits for the locks of all these rows, and returns what frees them. It takes them in one order, so that two
// calls never wait for each other; the caller must hold none.
func (c *Collection) LockAll(ids []string) (unlock func()) {
	wanted := map[*sync.Mutex]int{}
	for _, id := range ids {
		i := int(maphash.String(c.locks.seed, id) % uint64(len(c.locks.locks)))
		wanted[&c.locks.locks[i]] = i
	}
	inOrder := slices.SortedFunc(maps.Keys(wanted), func(a, b *sync.Mutex) int { return wanted[a] - wanted[b] })
	for _, m := range inOrder {
		m.Lock()
	}
	return func() {
		for _, m := range inOrder {
			m.Unlock()
		}
	}
}

// Lock waits for the lock of a row, and returns what frees it.
func (c *Collection) Lock(id string) (unlock func()) { return c.LockAll([]string{id}) }
