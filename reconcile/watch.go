package reconcile

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"clerksync/store/database"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// watchEvery is how often a Watch writes and reads the state.
const watchEvery = 30 * time.Second

// Watch saves the time of the last webhook in the database, and shows in metrics what the database says about the sync
// as a whole. Its methods are safe for concurrent use.
type Watch struct {
	// InstanceID is the Clerk instance that the operator has set, or "". Set it before Run.
	InstanceID string

	state database.Checkpoints
	log   *slog.Logger
	last  atomic.Int64 // when this process last got a webhook, in milliseconds since 1970; 0 if never
	// instance is the Clerk instance that the first webhook of this process named; nil before that.
	instance atomic.Pointer[string]
	wake     chan struct{} // gets a value when there is something that Run should save at once
	kept     bool          // instance is in the database; only sync uses this
	alarm    atomic.Value  // a string
	gauges   gauges
}

// NewWatch returns a Watch that does nothing until Run.
func NewWatch(state database.Checkpoints, log *slog.Logger, reg prometheus.Registerer) *Watch {
	w := &Watch{state: state, log: log, gauges: newGauges(reg), wake: make(chan struct{}, 1)}
	w.alarm.Store("")
	return w
}

// Webhook notes that a webhook has come about something that happened at that time. It does not use the database. Run
// saves the first one at once, so that nobody who has just sent it is told that none has come.
func (w *Watch) Webhook(at time.Time) {
	for ms := min(at.UnixMilli(), time.Now().UnixMilli()); ; { // Clerk's sample events may be from the future
		last := w.last.Load()
		if ms <= last {
			return
		}
		if w.last.CompareAndSwap(last, ms) {
			if last == 0 {
				w.saveSoon()
			}
			return
		}
	}
}

// Verified notes that a webhook with a valid signature has come, and its Clerk instance, "" if it names none. Run saves
// the first instance in the database at once, as the one whose users are there, see CheckInstance.
func (w *Watch) Verified(at time.Time, instanceID string) {
	w.Webhook(at)
	if instanceID != "" && w.instance.CompareAndSwap(nil, &instanceID) {
		w.saveSoon()
	}
}

// saveSoon has Run save the state now, or once more if it is just doing that.
func (w *Watch) saveSoon() {
	select {
	case w.wake <- struct{}{}:
	default: // it will
	}
}

// Alarm returns what Silence.Alarm said when Run last read the state, which it does every half minute.
func (w *Watch) Alarm() string { return w.alarm.Load().(string) } //nolint:forcetypeassert // nothing else is stored

// Run saves and reads the state every half minute until ctx ends, and then once more.
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
		case <-w.wake:
		case <-ctx.Done():
			end = true
			_ = w.sync(context.WithoutCancel(ctx)) // the database may already be closed
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
	if ms := w.last.Load(); ms > s.LastWebhook.UnixMilli() && ms > 0 {
		s.heard(time.UnixMilli(ms))
		if err := w.state.Save(ctx, webhookName, savedWebhook{s.LastWebhook}); err != nil {
			return err
		}
	}
	alarm := s.Silence.Alarm(time.Now())
	if alarm != "" && w.Alarm() == "" {
		w.log.ErrorContext(ctx, "webhooks do not arrive", "alarm", alarm)
	}
	w.alarm.Store(alarm)
	w.gauges.show(s, alarm)
	return nil
}

// keepInstance saves the instance that the first webhook named, once. It logs a warning if users of another instance
// are there.
func (w *Watch) keepInstance(ctx context.Context) error {
	id := w.instance.Load()
	if id == nil || w.kept {
		return nil
	}
	other, err := keepInstance(ctx, w.state, *id, w.InstanceID, true)
	if w.kept = err == nil; other != "" {
		w.log.WarnContext(ctx, "webhooks are of another Clerk instance than the users here: "+
			"set CLERK_INSTANCE_ID to the one whose events are to be taken", "webhooks", *id, "users", other)
	}
	return err
}

// gauges are metrics by their names without the prefix. They are about all processes, and as old as the last sync.
type gauges map[string]*prometheus.GaugeVec

func newGauges(reg prometheus.Registerer) gauges {
	all := gauges{}
	const unbrought = "Users whom Clerk changed and of whom no webhook came; 0 unless that is an alarm."
	for _, g := range []struct {
		name, help string
		labels     []string
	}{
		{"last_webhook_timestamp_seconds", "When Clerk's last webhook came; 0 if none has.", nil},
		{"changes_without_webhook", unbrought, nil},
		{"reconcile_failing", "1 if the last run of the tier failed.", []string{"tier"}},
		{"reconcile_last_timestamp_seconds", "When the last run that succeeded ended.", []string{"tier"}},
		{"reconcile_last_duration_seconds", "How long it took.", []string{"tier"}},
		{"reconcile_last_users", "What it compared, and the drift that it repaired.", []string{"tier", "kind"}},
	} {
		opts := prometheus.GaugeOpts{Namespace: "clerksync", Name: g.name, Help: g.help}
		all[g.name] = promauto.With(reg).NewGaugeVec(opts, g.labels)
	}
	all.show(Status{}, "") // gauges without labels are 0 until something is known
	return all
}

func (g gauges) show(s Status, alarm string) {
	set := func(name string, v float64, labels ...string) { g[name].WithLabelValues(labels...).Set(v) }
	isSet := map[bool]float64{true: 1}
	set("last_webhook_timestamp_seconds", float64(max(s.LastWebhook.Unix(), 0)))
	set("changes_without_webhook", float64(s.Silence.Changed)*isSet[alarm != ""])
	for t, runs := range s.Runs {
		tier := string(t)
		if len(runs) > 0 {
			set("reconcile_failing", isSet[runs[0].Error != ""], tier)
		}
		if r, ok := lastGood(runs); ok {
			set("reconcile_last_timestamp_seconds", float64(r.EndedAt.Unix()), tier)
			set("reconcile_last_duration_seconds", r.EndedAt.Sub(r.StartedAt).Seconds(), tier)
			for kind, n := range r.Found.counts() {
				set("reconcile_last_users", float64(*n), tier, kind)
			}
		}
	}
}
