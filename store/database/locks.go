package database

import (
	"hash/maphash"
	"maps"
	"slices"
	"sync"
)

// locks are the locks of a collection's rows within this process. They keep rows correct if the database's updates are
// not atomic; on other databases they avoid lost races. All rows share 256 locks.
type locks struct {
	seed  maphash.Seed
	locks [256]sync.Mutex
}

func newLocks() *locks { return &locks{seed: maphash.MakeSeed()} }

// LockAll locks all these rows and returns the function that unlocks them. It always takes the locks in the same order,
// so that two calls never wait for each other. The caller must hold no lock of a row.
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

// Lock locks a row and returns the function that unlocks it.
func (c *Collection) Lock(id string) (unlock func()) { return c.LockAll([]string{id}) }
