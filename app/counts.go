package app

import (
	"context"
	"sync/atomic"
	"time"

	"clerksync/inbox"
	"clerksync/store"

	"github.com/prometheus/client_golang/prometheus"
)

// countEvery is how often the database is counted. If that takes long, it is done less often, so that it takes at most
// a twentieth of the time.
const countEvery = 30 * time.Second

// counts are metrics about what is in the database. A scrape gets what Run has read last, so however many there are,
// they cost the database nothing. Until Run has read something, there are none of these metrics.
type counts struct {
	read  func(context.Context) (counted, error)
	last  atomic.Pointer[counted]
	descs map[string]*prometheus.Desc
}

type counted struct {
	users, tombstones, dead int
	pending                 inbox.Pending
}

func newCounts(users *store.Users, table inbox.Table, reg prometheus.Registerer) *counts {
	c := &counts{descs: map[string]*prometheus.Desc{}}
	c.read = func(ctx context.Context) (counted, error) { return count(ctx, users, table) }
	for name, help := range map[string]string{
		"users":                        "About how many rows there are in the collection of users.",
		"tombstones":                   "About how many deleted users are remembered.",
		"dead_letters":                 "Events that failed for good and were neither replayed nor dropped.",
		"inbox_waiting":                "Events that no function has cleared yet.",
		"inbox_oldest_waiting_seconds": "How long the oldest of them has been waiting; 0 if there is none.",
	} {
		c.descs[name] = prometheus.NewDesc("clerksync_"+name, help, nil, nil)
	}
	reg.MustRegister(c)
	return c
}

// count reads how many there are of everything.
func count(ctx context.Context, users *store.Users, table inbox.Table) (n counted, err error) {
	if n.users, n.tombstones, err = users.Estimate(ctx); err != nil {
		return n, err
	}
	if n.pending, err = table.Pending(ctx); err != nil {
		return n, err
	}
	n.dead, err = table.CountDeadLetters(ctx)
	return n, err
}

// Describe sends what the metrics are called.
func (c *counts) Describe(descs chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		descs <- d
	}
}

// Collect sends the metrics.
func (c *counts) Collect(to chan<- prometheus.Metric) {
	n := c.last.Load()
	if n == nil {
		return
	}
	waits := 0.0
	if n.pending.Events > 0 {
		waits = max(0, time.Since(n.pending.Oldest).Seconds()) // another process's clock may be ahead
	}
	for name, v := range map[string]float64{
		"users": float64(n.users), "tombstones": float64(n.tombstones), "dead_letters": float64(n.dead),
		"inbox_waiting": float64(n.pending.Events), "inbox_oldest_waiting_seconds": waits,
	} {
		to <- prometheus.MustNewConstMetric(c.descs[name], prometheus.GaugeValue, v)
	}
}

// Run reads the numbers again and again until ctx ends. If the database does not answer, those that it read last stay:
// then the oldest event goes on getting older.
func (c *counts) Run(ctx context.Context) {
	for ctx.Err() == nil {
		start := time.Now()
		if n, err := c.read(ctx); err == nil {
			c.last.Store(&n)
		}
		select {
		case <-time.After(max(countEvery, 19*time.Since(start))):
		case <-ctx.Done():
		}
	}
}
