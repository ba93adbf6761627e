package reconcile

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// watchEvery is how often a Watch writes and reads.
const watchEvery = 30 * time.Second

// Watch keeps the time of the last webhook in the database, and the metrics that tell of all processes. Its methods are
// safe for concurrent use.
type Watch struct {
	// InstanceID is what CLERK_INSTANCE_ID says, or "". Set it before Run.
	InstanceID string

	state Checkpoints
	log   *slog.Logger
	last  atomic.Int64 // the last webhook of this process, in milliseconds since 1970
	// instance is the Clerk instance that the first webhook of this process named; nil before. It is kept once.
	instance atomic.Pointer[string]
	named    chan struct{} // it has been
	kept     bool          // for sync alone
	alarm    atomic.Value  // a string
	metrics  metrics
}

// NewWatch returns a Watch that does nothing until Run.
func NewWatch(state Checkpoints, log *slog.Logger, reg prometheus.Registerer) *Watch {
	w := &Watch{state: state, log: log, metrics: newMetrics(reg), named: make(chan struct{}, 1)}
	w.alarm.Store("")
	return w
}

// Webhook says that Clerk has reached us with something that happened at that time. It costs nothing.
func (w *Watch) Webhook(at time.Time) {
	for ms := min(at.UnixMilli(), time.Now().UnixMilli()); ; { // Clerk's specimens are from the future
		last := w.last.Load()
		if ms <= last || w.last.CompareAndSwap(last, ms) {
			return
		}
	}
}

// Verified says that a webhook with a good signature came, and of which Clerk instance; "" if it did not say. The first
// instance is kept in the database at once, as the one whose users are there: see Instance.
func (w *Watch) Verified(at time.Time, instanceID string) {
	w.Webhook(at)
	if instanceID != "" && w.instance.CompareAndSwap(nil, &instanceID) {
		w.named <- struct{}{}
	}
}

// Alarm returns what Silence.Alarm said half a minute ago at the most.
func (w *Watch) Alarm() string { return w.alarm.Load().(string) } //nolint:forcetypeassert // nothing else is stored

// Run keeps the state until ctx ends, and once more then.
func (w *Watch) Run(ctx context.Context) {
	t := time.NewTicker(watchEvery)
	defer t.Stop()
	failing := false
	for end := false; !end; {
		err := w.sync(context.WithoutCancel(ctx))
		if err != nil && !failing {
			w.log.WarnContext(ctx, "the state of the sync cannot be kept; trying again", "error", err)
		}
		failing = err != nil
		select {
		case <-t.C:
		case <-w.named:
		case <-ctx.Done():
			end = true
			_ = w.sync(context.WithoutCancel(ctx)) // the database may have gone first
		}
	}
}

func (w *Watch) sync(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := w.keepInstance(ctx); err != nil {
		return err
	}
	s, err := ReadStatus(ctx, w.state)
	if err != nil {
		return err
	}
	if last := time.UnixMilli(w.last.Load()); last.After(s.LastWebhook) && w.last.Load() > 0 {
		if err := w.state.Save(ctx, webhookName, savedWebhook{last}); err != nil {
			return err
		}
		s.LastWebhook = last
	}
	if s.LastWebhook.After(s.Silence.Since) {
		s.Silence = Silence{} // is written by the next run of the recent tier
	}
	alarm := s.Silence.Alarm(time.Now())
	if alarm != "" && w.Alarm() == "" {
		w.log.ErrorContext(ctx, "webhooks do not arrive", "alarm", alarm)
	}
	w.alarm.Store(alarm)
	w.metrics.show(s, alarm != "")
	return nil
}

func (w *Watch) keepInstance(ctx context.Context) error {
	id := w.instance.Load()
	if id == nil || w.kept {
		return nil
	}
	other, err := keepInstance(ctx, w.state, *id, w.InstanceID)
	if w.kept = err == nil; other != "" {
		w.log.WarnContext(ctx, "webhooks are of another Clerk instance than the users here: set CLERK_INSTANCE_ID to the one whose events are to be taken",
			"webhooks", *id, "users", other)
	}
	return err
}

// metrics tell of all processes, and are as old as the last sync.
type metrics struct {
	lastWebhook, unbrought prometheus.Gauge
	ended, took, failing   *prometheus.GaugeVec // by tier
	found                  *prometheus.GaugeVec // by tier and kind
}

func newMetrics(reg prometheus.Registerer) metrics {
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
		reg.MustRegister(g)
		return g
	}
	vec := func(name, help string, labels ...string) *prometheus.GaugeVec {
		g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
		reg.MustRegister(g)
		return g
	}
	return metrics{
		lastWebhook: gauge("clerksync_last_webhook_timestamp_seconds", "When Clerk's last webhook came; 0 if none has."),
		unbrought:   gauge("clerksync_changes_without_webhook", "Users whom Clerk changed and of whom no webhook came; 0 unless that is an alarm."),
		failing:     vec("clerksync_reconcile_failing", "1 if the last run of the tier failed.", "tier"),
		ended:       vec("clerksync_reconcile_last_timestamp_seconds", "When the last run that succeeded ended.", "tier"),
		took:        vec("clerksync_reconcile_last_duration_seconds", "How long it took.", "tier"),
		found:       vec("clerksync_reconcile_last_users", "What it compared, and the drift that it repaired.", "tier", "kind"),
	}
}

func (m metrics) show(s Status, alarm bool) {
	if !s.LastWebhook.IsZero() {
		m.lastWebhook.Set(float64(s.LastWebhook.Unix()))
	}
	m.unbrought.Set(0)
	if alarm {
		m.unbrought.Set(float64(s.Silence.Changed))
	}
	for t, runs := range s.Runs {
		tier := string(t)
		if len(runs) > 0 {
			m.failing.WithLabelValues(tier).Set(map[bool]float64{true: 1}[runs[0].Error != ""])
		}
		r, ok := lastGood(runs)
		if !ok {
			continue
		}
		m.ended.WithLabelValues(tier).Set(float64(r.EndedAt.Unix()))
		m.took.WithLabelValues(tier).Set(r.EndedAt.Sub(r.StartedAt).Seconds())
		for kind, n := range map[string]int{
			"users": r.Found.Users, "rows": r.Found.Rows, "missing": r.Found.Missing, "stale": r.Found.Stale, "extra": r.Found.Extra,
			"buried": r.Found.Buried, "unknown": r.Found.Unknown, "failed": r.Found.Failed,
		} {
			m.found.WithLabelValues(tier, kind).Set(float64(n))
		}
	}
}
