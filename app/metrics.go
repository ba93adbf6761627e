package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"time"

	"clerksync/clerk"
	"clerksync/mail"
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
