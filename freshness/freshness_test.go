package freshness_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"clerksync/freshness"
	"clerksync/inbox"
	"clerksync/internal/testenv"
	"clerksync/reconcile"
	"clerksync/store/database"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

const minute, hour = time.Minute, time.Hour

// targets returns those of the default settings.
func targets() freshness.Targets {
	return freshness.Targets{Changes: 10 * minute, Deletions: 3 * hour, All: 49 * hour}
}

// runs are saved runs of tiers: how long ago each one began.
type runs map[reconcile.Tier]time.Duration

// save saves them, as package reconcile does.
func save(t *testing.T, state database.Checkpoints, all runs) {
	t.Helper()
	for tier, ago := range all {
		began := time.Now().Add(-ago)
		run := reconcile.Run{
			ID: "run", StartedAt: began, EndedAt: began.Add(time.Second), Map: "map", SeenSince: began.Add(-6 * hour),
		}
		saved := struct{ Runs []reconcile.Run }{[]reconcile.Run{run}}
		if err := state.Save(t.Context(), "reconcile_"+string(tier), saved); err != nil {
			t.Fatal(err)
		}
	}
}

// event puts an event into the inbox.
func event(t *testing.T, db *database.DB, name string, ago time.Duration, dead, dropped bool) {
	t.Helper()
	row := map[string]any{
		"_id": "msg_" + name, "name": name, "received_at": time.Now().Add(-ago), "due_at": time.Now(), "data": "{}",
	}
	if dead {
		delete(row, "due_at")
		failure := map[string]any{"error": "x", "at": time.Now()}
		if dropped {
			failure["dropped_at"] = time.Now()
		}
		row["failure"] = failure
	}
	if _, err := db.Collection("clerksync_inbox").InsertOne(t.Context(), row); err != nil {
		t.Fatal(err)
	}
}

// with returns what puts an event into the inbox.
func with(name string, ago time.Duration, dead, dropped bool) func(*testing.T, *database.DB) {
	return func(t *testing.T, db *database.DB) { event(t, db, name, ago, dead, dropped) }
}

// TestReport: what the database holds, and what an app is told of it.
func TestReport(t *testing.T) {
	t.Parallel()
	well := runs{reconcile.Recent: 3 * minute, reconcile.Absent: 30 * minute, reconcile.Full: 5 * hour}
	without := func(tier reconcile.Tier) runs {
		some := runs{}
		for t, ago := range well {
			if t != tier {
				some[t] = ago
			}
		}
		return some
	}
	at := func(tier reconcile.Tier, ago time.Duration) runs {
		some := without(tier)
		some[tier] = ago
		return some
	}
	type ages struct{ changes, deletions, all time.Duration } // -1 means unproven, -2 off
	for name, tc := range map[string]struct {
		runs    runs
		targets freshness.Targets
		events  func(t *testing.T, db *database.DB)
		want    ages
		reasons string // the beginnings of all
	}{
		"all is well": {runs: well, targets: targets(), want: ages{4 * minute, 40 * minute, 5*hour + 10*minute}},
		"no key": {
			runs: well, want: ages{-2, -2, -2}, reasons: "nothing is compared with Clerk: set its secret key",
		},
		"a fresh start": {
			targets: targets(), want: ages{-1, -1, -1},
			reasons: "not all users were compared|the absent run has not",
		},
		"after the backfill": {
			runs:    runs{reconcile.Backfill: 7 * minute, reconcile.Recent: 2 * minute},
			targets: targets(), want: ages{3 * minute, -1, -1},
			reasons: "the absent run has not|the full run has not",
		},
		"the recent tier is off": {
			runs: well, targets: freshness.Targets{Deletions: 3 * hour, All: 49 * hour},
			want: ages{-2, 40 * minute, 5*hour + 10*minute}, reasons: "the recent tier is off",
		},
		"the recent tier fails": {
			runs: at(reconcile.Recent, 20*minute), targets: targets(),
			want: ages{21 * minute, 40 * minute, 5*hour + 10*minute}, reasons: "changes since ",
		},
		"the absent tier fails": {
			runs: at(reconcile.Absent, 4*hour), targets: targets(),
			want: ages{4 * minute, 4*hour + 10*minute, 5*hour + 10*minute}, reasons: "deletions since ",
		},
		"the full tier fails": {
			runs: at(reconcile.Full, 60*hour), targets: targets(),
			// The recent runs are no chain back to it.
			want:    ages{60*hour + minute, 40 * minute, 60*hour + 10*minute},
			reasons: "changes since |the full run has not succeeded since",
		},
		"an event waits": {
			runs: well, targets: targets(),
			events:  with("clerk/user.updated", 11*minute, false, false),
			want:    ages{11 * minute, 40 * minute, 5*hour + 10*minute},
			reasons: "an event waits since ",
		},
		"an event waits for a moment": {
			runs: well, targets: targets(),
			events: with("clerk/user.updated", minute, false, false),
			want:   ages{4 * minute, 40 * minute, 5*hour + 10*minute},
		},
		"an event from before the full run": {
			runs: well, targets: targets(),
			events: with("clerk/user.updated", 6*hour, false, false),
			want:   ages{4 * minute, 40 * minute, 5*hour + 10*minute},
		},
		"a deletion waits": {
			runs: well, targets: targets(),
			events:  with("clerk/user.deleted", 30*minute, false, false),
			want:    ages{30 * minute, 40 * minute, 5*hour + 10*minute},
			reasons: "an event waits since ",
		},
		"a deletion from before the absent run": {
			runs: well, targets: targets(),
			events: with("clerk/user.deleted", 50*minute, false, false),
			want:   ages{4 * minute, 40 * minute, 5*hour + 10*minute},
		},
		"a dead letter": {
			runs: well, targets: targets(),
			events:  with("clerk/user.created", 2*hour, true, false),
			want:    ages{2 * hour, 40 * minute, 5*hour + 10*minute},
			reasons: "a dead letter is there since ",
		},
		"a dead letter that was dropped": {
			runs: well, targets: targets(),
			events: with("clerk/user.created", 2*hour, true, true),
			want:   ages{4 * minute, 40 * minute, 5*hour + 10*minute},
		},
		"a dead letter of the welcome mail": {
			runs: well, targets: targets(),
			events: with("clerksync/replay.send-welcome-email", 2*hour, true, false),
			want:   ages{4 * minute, 40 * minute, 5*hour + 10*minute},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
				state := database.NewCheckpoints(db)
				save(t, state, tc.runs)
				if tc.events != nil {
					tc.events(t, db)
				}
				f := freshness.New(freshness.Options{
					Targets: tc.targets, MapID: "map", State: state, Inbox: inbox.NewTable(db),
					Log: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
				})
				ctx, cancel := context.WithCancel(t.Context())
				stopped := make(chan struct{})
				go func() { f.Run(ctx); close(stopped) }()
				var r freshness.Report
				for there := false; !there; {
					var err error
					if r, there, err = freshness.Read(t.Context(), state); err != nil {
						t.Fatal(err)
					}
				}
				cancel()
				<-stopped
				age := func(s freshness.Scope) time.Duration {
					age, known := s.Age(r.At)
					if !known {
						return map[freshness.State]time.Duration{freshness.Unproven: -1, freshness.Off: -2}[s.State]
					}
					return age.Round(minute)
				}
				got := ages{age(r.Changes), age(r.Deletions), age(r.All)}
				if got != tc.want {
					t.Errorf("got %v, want %v", got, tc.want)
				}
				var want []string
				if tc.reasons != "" {
					want = strings.Split(tc.reasons, "|")
				}
				if len(want) != len(r.Reasons) || r.Trusted != (want == nil) || r.Trusted == r.Since.IsZero() {
					t.Fatalf("got %+v, want the reasons %q", r, want)
				}
				for i := range want {
					if !strings.HasPrefix(r.Reasons[i], want[i]) {
						t.Errorf("got %q, want %q…", r.Reasons[i], want[i])
					}
				}
			})
		})
	}
}

// TestBoundGrows: between two looks and while the database is away the metric grows, no scrape waits, an app may not
// trust the rows any more when a target is exceeded, and the log says once that it is, and once that it is not.
func TestBoundGrows(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(30 * 365 * 24 * hour) // to a year in which there is Clerk
		var away atomic.Bool
		db := testenv.NewMemory().ConnectFaulty(t, "test", &testenv.CommandFaults{
			Verdict: func(string) testenv.Verdict {
				if away.Load() {
					return testenv.Refuse
				}
				return testenv.Apply
			},
		})
		var log bytes.Buffer
		reg := prometheus.NewRegistry()
		state := database.NewCheckpoints(db)
		f := freshness.New(freshness.Options{
			Targets: targets(), MapID: "map", State: state, Inbox: inbox.NewTable(db),
			Log: slog.New(slog.NewTextHandler(io.Writer(&log), nil)), Registerer: reg,
		})
		see := func(changes, isTrusted float64) {
			t.Helper()
			got := gather(t, reg)
			if d := cmp.Diff([]float64{changes, isTrusted}, []float64{
				got[`clerksync_staleness_bound_seconds{changes}`], got["clerksync_collection_trusted"],
			}); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		}
		if got := gather(t, reg)["clerksync_staleness_bound_seconds{all}"]; !(got > 1e300) {
			t.Errorf("before the first look the bound is %v, want +Inf", got)
		}
		save(t, state, runs{reconcile.Recent: 3 * minute, reconcile.Absent: 30 * minute, reconcile.Full: 50 * minute})
		if err := state.Save(t.Context(), freshness.DocumentName, "what somebody has put there"); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		go f.Run(ctx)
		synctest.Wait()
		see(240, 1)
		time.Sleep(10 * time.Second) // before the next look
		see(250, 1)
		since := f.Report().Since
		time.Sleep(50 * time.Second)
		if r := f.Report(); !r.Trusted || !r.Since.Equal(since) {
			t.Errorf("got %+v, want trusted since %s", r, since)
		}
		away.Store(true)
		time.Sleep(5 * minute)
		see(600, 1)
		time.Sleep(minute)
		see(660, 0)
		time.Sleep(hour)
		see(4260, 0)
		away.Store(false)
		save(t, state, runs{reconcile.Recent: 0, reconcile.Absent: 0})
		time.Sleep(minute)
		see(120, 1)
		if r := f.Report(); !r.Since.After(since.Add(hour)) {
			t.Errorf("trusted since %s, though nobody knew for an hour", r.Since)
		}
		cancel()
		synctest.Wait()
		for text, want := range map[string]int{
			"the rows may lack changes that are older than the target":       1,
			"the rows have all changes that are older than the target again": 1,
			"how fresh the rows are cannot be found out; trying again":       1,
			"level=": 3,
		} {
			if got := strings.Count(log.String(), text); got != want {
				t.Errorf("%q is logged %d times, want %d:\n%s", text, got, want, log.String())
			}
		}
	})
}

// gather returns the values of all metrics, by name and, in braces, the values of their labels.
func gather(t *testing.T, reg *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += "{" + l.GetValue() + "}"
			}
			all[name] = m.GetGauge().GetValue()
		}
	}
	return all
}
