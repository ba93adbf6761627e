package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"clerksync/clerk"
	"clerksync/inbox"
	"clerksync/mail"
	"clerksync/store"
	"clerksync/store/database"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics are the service's metrics: the registry of all of them, and those that belong to no package alone. Whatever
// the values come from, every label has few values, which are all written down here.
type metrics struct {
	*prometheus.Registry
	database, clerk *prometheus.HistogramVec
	mails           *prometheus.CounterVec
}

func newMetrics() *metrics {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	f := promauto.With(reg)
	m := &metrics{
		Registry: reg,
		database: f.NewHistogramVec(prometheus.HistogramOpts{
			Name: "clerksync_database_command_duration_seconds", Help: "How long the database took for a command.",
			// From an indexed read on the same host to database's time-out for one operation.
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"command", "result"}),
		clerk: f.NewHistogramVec(prometheus.HistogramOpts{
			Name: "clerksync_clerk_request_duration_seconds", Help: "How long Clerk's API took for a request.",
			// A list of 500 users takes seconds. A request is given up after 30.
			Buckets: []float64{.025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"endpoint", "status"}),
		mails: f.NewCounterVec(prometheus.CounterOpts{
			Name: "clerksync_mails_total", Help: "Attempts to send a welcome mail, by what came of them.",
		}, []string{"result"}),
	}
	for _, result := range []string{"sent", "perhaps_sent", "refused", "failed"} {
		m.mails.WithLabelValues(result) // 0 is to be seen before the first one
	}
	return m
}

// command observes a command of the database.
func (m *metrics) command(_ context.Context, c database.Command) {
	name, result := c.Name, "ok"
	known := []string{"find", "getMore", "insert", "update", "delete", "findAndModify", "aggregate", "count"}
	if !slices.Contains(known, name) {
		name = "other"
	}
	if c.Err != nil {
		result = "failed"
	}
	m.database.WithLabelValues(name, result).Observe(c.Took.Seconds())
}

// request observes a request to Clerk's API.
func (m *metrics) request(_ context.Context, r clerk.Request) {
	status := "none"
	if class := r.Status / 100; class >= 1 && class <= 5 {
		status = fmt.Sprint(class, "xx")
	}
	m.clerk.WithLabelValues(r.Endpoint, status).Observe(r.Took.Seconds())
}

// mailed counts an attempt to send a mail.
func (m *metrics) mailed(err error) {
	result := "failed"
	switch {
	case err == nil:
		result = "sent"
	case errors.Is(err, mail.ErrPerhapsSent):
		result = "perhaps_sent"
	case errors.Is(err, mail.ErrRefused):
		result = "refused"
	}
	m.mails.WithLabelValues(result).Inc()
}

func (m *metrics) handler() http.Handler { return promhttp.HandlerFor(m, promhttp.HandlerOpts{}) }

// listenMetrics listens on METRICS_ADDR, if it is set.
func (a *App) listenMetrics(ctx context.Context) (err error) {
	if a.cfg.MetricsAddr == "" {
		return nil
	}
	a.metricsListener, err = a.listenOn(ctx, "metrics listener", a.cfg.MetricsAddr, "METRICS_ADDR")
	return err
}

// serveMetrics serves the metrics on METRICS_ADDR, if it is set, until ctx ends.
func (a *App) serveMetrics(ctx context.Context) {
	if a.metricsListener == nil {
		return
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", a.metrics.handler())
	server := &http.Server{Handler: mux, ReadTimeout: 5 * time.Second, WriteTimeout: 30 * time.Second}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })() // a scrape that is cut off is repeated
	a.log.InfoContext(ctx, "serving the metrics", "address", a.metricsListener.Addr().String())
	if err := server.Serve(a.metricsListener); !errors.Is(err, http.ErrServerClosed) && ctx.Err() == nil {
		a.log.ErrorContext(ctx, "the metrics are not served any more", "error", err)
	}
}

// listenOn listens on an address, which a setting names, until Close.
func (a *App) listenOn(ctx context.Context, part, address, setting string) (net.Listener, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s: set %s to an address that is free: %w", address, setting, err)
	}
	a.onClose(part, func(context.Context) error {
		if err := l.Close(); !errors.Is(err, net.ErrClosed) { // the server closes it too
			return err
		}
		return nil
	})
	return l, nil
}

// countEvery is how often a counts asks the database, unless that takes long: then it asks less often, so that it takes
// at most a twentieth of the time.
const countEvery = 30 * time.Second

// counts are metrics about what is in the database. A scrape does not ask the database: it gets what Run has read.
// Until then there is none of them.
type counts struct {
	users *store.Users
	table inbox.Table
	last  atomic.Pointer[counted]
	descs map[string]*prometheus.Desc
}

type counted struct {
	users, tombstones, dead int
	pending                 inbox.Pending
}

func newCounts(users *store.Users, table inbox.Table, reg prometheus.Registerer) *counts {
	c := &counts{users: users, table: table, descs: map[string]*prometheus.Desc{}}
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
		waits = max(0, time.Since(n.pending.Oldest).Seconds()) // the other process's clock may be ahead
	}
	for name, v := range map[string]float64{
		"users": float64(n.users), "tombstones": float64(n.tombstones), "dead_letters": float64(n.dead),
		"inbox_waiting": float64(n.pending.Events), "inbox_oldest_waiting_seconds": waits,
	} {
		to <- prometheus.MustNewConstMetric(c.descs[name], prometheus.GaugeValue, v)
	}
}

// Run reads the numbers again and again until ctx ends. If the database does not answer, those that it read last stay.
func (c *counts) Run(ctx context.Context) {
	for ctx.Err() == nil {
		start := time.Now()
		if n, err := c.count(ctx); err == nil {
			c.last.Store(&n)
		}
		select {
		case <-time.After(max(countEvery, 19*time.Since(start))):
		case <-ctx.Done():
		}
	}
}

func (c *counts) count(ctx context.Context) (n counted, err error) {
	if n.users, n.tombstones, err = c.users.Estimate(ctx); err != nil {
		return n, err
	}
	if n.pending, err = c.table.Pending(ctx); err != nil {
		return n, err
	}
	dead, err := c.table.DeadLetters(ctx, false)
	n.dead = len(dead)
	return n, err
}
