// Package freshness says how old the oldest change at Clerk may be that is not in the rows, and whether an app may
// trust the collection. What it says is proven by the runs of package reconcile. It looks every half minute.
package freshness

import (
	"context"
	"log/slog"
	"math"
	"sync/atomic"
	"time"

	"clerksync/inbox"
	"clerksync/reconcile"
	"clerksync/store/database"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// lookEvery is the time between two looks at the database.
	lookEvery = 30 * time.Second
	// lookTime bounds a look. What does not answer does not hold up anything else: the bound only grows.
	lookTime = 10 * time.Second
)

// Targets say how old the oldest change of each kind may be that is not in the rows. 0 means that nobody looks for such
// changes.
type Targets struct{ Changes, Deletions, All time.Duration }

// Options is what New needs.
type Options struct {
	Targets    Targets
	MapID      string // see store.Users.MapID
	State      database.Checkpoints
	Inbox      inbox.Table
	Log        *slog.Logger
	Registerer prometheus.Registerer
}

// Freshness looks at the database, saves a report there and shows metrics. Its methods are safe for concurrent use.
type Freshness struct {
	Options
	latest atomic.Pointer[Report] // nil before the first look
}

// New returns a Freshness that knows nothing until Run.
func New(o Options) *Freshness {
	f := &Freshness{Options: o}
	o.Registerer.MustRegister(collector{f})
	return f
}

// Report returns what the last look found, or nil if there was none. It may be old, if the database does not answer;
// its At says how old.
func (f *Freshness) Report() *Report { return f.latest.Load() }

// Run looks every half minute until ctx ends.
func (f *Freshness) Run(ctx context.Context) {
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	failing, late := false, false
	for {
		err := f.look(ctx)
		if err != nil && !failing && ctx.Err() == nil {
			f.Log.WarnContext(ctx, "how fresh the rows are cannot be found out; trying again", "error", err)
		}
		failing = err != nil
		late = f.tell(ctx, late)
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
}

// look reads what the database says, and saves the report.
func (f *Freshness) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	now := time.Now() // before it reads, so that the report claims no more than what is read
	status, err := reconcile.ReadStatus(ctx, f.State)
	if err != nil {
		return err
	}
	k := known{proof: status.Proof(f.MapID, now)}
	if k.unwritten, err = f.Inbox.Unwritten(ctx, k.proof.Listed, k.proof.Deletions); err != nil {
		return err
	}
	r := f.report(k, now)
	if r.Trusted {
		r.Since = now
		// A gap in which nobody looked is a break, because nobody knows what was then. So is a report that cannot be
		// read, because somebody has changed it.
		if saved, _, err := Read(ctx, f.State); err == nil && saved.Trusted && now.Sub(saved.At) < maxGap {
			r.Since = saved.Since
		}
	}
	f.latest.Store(&r)
	return f.State.Save(ctx, DocumentName, r)
}

// maxGap is the longest time between two reports that are one after the other.
const maxGap = 5 * time.Minute

// tell logs a line when the target for changes is exceeded, and one when it is met again. was tells whether it was
// exceeded before; tell returns whether it is now.
func (f *Freshness) tell(ctx context.Context, was bool) bool {
	r, now := f.Report(), time.Now()
	if r == nil || r.Changes.State != Proven {
		return was
	}
	age, _ := r.Changes.Age(now)
	late := r.Changes.Late(now)
	switch {
	case late && !was:
		f.Log.ErrorContext(ctx, "the rows may lack changes that are older than the target: see 'clerksync doctor'",
			"age", age.Round(time.Second), "target", r.Changes.Target(), "reasons", r.Reasons)
	case !late && was:
		f.Log.InfoContext(ctx, "the rows have all changes that are older than the target again",
			"age", age.Round(time.Second))
	}
	return late
}

// collector shows the metrics. The bounds are computed when they are asked for, from the times of the last look, so
// that they grow while the database does not answer, and no scrape waits for it.
type collector struct{ *Freshness }

func bound() *prometheus.Desc {
	return prometheus.NewDesc("clerksync_staleness_bound_seconds", "How old the oldest change at Clerk may be that is "+
		"not in the rows; +Inf if nothing is proven yet. Absent without a Clerk key, or if the tier is off.",
		[]string{"scope"}, nil)
}

func target() *prometheus.Desc {
	return prometheus.NewDesc("clerksync_freshness_target_seconds", "How old it may become.", []string{"scope"}, nil)
}

func trusted() *prometheus.Desc {
	return prometheus.NewDesc("clerksync_collection_trusted", "1 if an app may trust the collection.", nil, nil)
}

func looked() *prometheus.Desc {
	return prometheus.NewDesc("clerksync_freshness_last_look_timestamp_seconds",
		"When the database last said how fresh the rows are; 0 if it has not.", nil, nil)
}

// Describe is the Collector's.
func (collector) Describe(descs chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{bound(), target(), trusted(), looked()} {
		descs <- d
	}
}

// Collect is the Collector's.
func (c collector) Collect(metrics chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		metrics <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	now := time.Now()
	r := c.Report()
	if r == nil {
		none := c.report(known{}, now)
		r = &none
		gauge(looked(), 0)
	} else {
		gauge(looked(), float64(r.At.UnixMilli())/1000)
	}
	isTrusted := r.Trusted
	for name, s := range map[string]Scope{"changes": r.Changes, "deletions": r.Deletions, "all": r.All} {
		if s.State == Off {
			continue
		}
		gauge(target(), float64(s.TargetSeconds), name)
		age, known := s.Age(now)
		seconds := age.Seconds()
		if !known {
			seconds = math.Inf(1)
		}
		gauge(bound(), seconds, name)
		isTrusted = isTrusted && !s.Late(now)
	}
	gauge(trusted(), map[bool]float64{true: 1}[isTrusted])
}
