package activity

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"clerksync/clerk"
	"clerksync/functions"
	"clerksync/internal/testenv"
	"clerksync/store"
	"clerksync/store/database"
	"clerksync/webhook"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

// clock is the clock of a process.
type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

// noon is in the middle of a minute.
func noon() time.Time { return time.Date(2026, 11, 26, 12, 0, 30, 0, time.UTC) }

// process returns an Activity as a process with this clock has it.
func process(db *database.DB, c *clock) *Activity {
	a := New(database.NewCheckpoints(db), slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	a.now = c.now
	return a
}

// write notes a change that took that long.
func write(a *Activity, id string, took time.Duration) {
	now := a.now()
	a.Wrote(functions.Wrote{
		Type: clerk.UserUpdated, UserID: id, Source: store.Source{Kind: "webhook", ID: "msg_" + id},
		Outcome: store.Updated, At: now.Add(-took), Received: now.Add(-took / 2),
	})
}

func taken(a *Activity, n int) {
	for range n {
		a.Webhook(webhook.Answer{ID: "msg_1", Code: 202, Reason: "durable", At: a.now()})
	}
}

// counts returns how many webhooks each minute had in which some came, by how many minutes ago that is.
func counts(s Summary) map[int]int {
	got := map[int]int{}
	for i, m := range s.Minutes {
		if n := m.Taken + m.Refused; n > 0 {
			got[len(s.Minutes)-1-i] = n
		}
	}
	return got
}

func users(s Summary) (ids []string) {
	for _, e := range s.Newest {
		ids = append(ids, e.UserID)
	}
	return ids
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestReplicas: a summary has what all processes did, each once, however often they save. What a process did that has
// died counts until it is an hour old, and then its document is removed.
func TestReplicas(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		ctx := t.Context()
		c := &clock{noon()}
		state := database.NewCheckpoints(db)
		must(t, state.Save(ctx, savedPrefix+"OFANOTHERKIND", map[string]string{"at": "noon"}))
		must(t, state.Save(ctx, "activityless", map[string]string{"of": "somebody else"}))
		a, b := process(db, c), process(testenv.AnotherProcess(db), c)
		died := process(testenv.AnotherProcess(db), c)

		taken(died, 5)
		write(died, "user_died", 2*time.Second)
		must(t, died.save(ctx))
		c.t = c.t.Add(2 * time.Minute)
		taken(a, 2)
		write(a, "user_a", 100*time.Millisecond)
		for range 2 {
			must(t, a.save(ctx))
		}
		taken(a, 1) // not saved yet
		c.t = c.t.Add(time.Second)
		b.Webhook(webhook.Answer{Code: 400, Reason: "not_verified", At: c.t})
		write(b, "user_b", 100*time.Millisecond)
		must(t, b.save(ctx))
		for name, of := range map[string]*Activity{"a": a, "b": b} {
			want := map[int]int{2: 5, 0: 4}
			if name == "b" {
				want[0] = 3 // of what a has not saved, b cannot know
			}
			s, err := of.Summary(ctx)
			must(t, err)
			if d := cmp.Diff(want, counts(s)); d != "" {
				t.Errorf("%s: webhooks by minutes ago (-want +got):\n%s", name, d)
			}
			if d := cmp.Diff([]string{"user_b", "user_a", "user_died"}, users(s)); d != "" {
				t.Errorf("%s: the newest (-want +got):\n%s", name, d)
			}
			if d := cmp.Diff(map[string]int{"not_verified": 1}, s.Refused); d != "" {
				t.Errorf("%s: refused (-want +got):\n%s", name, d)
			}
			if s.Measured != 3 || s.P50 < 100*time.Millisecond || s.P50 > 119*time.Millisecond ||
				s.P99 < 2*time.Second || s.P99 > 2400*time.Millisecond {
				t.Errorf("%s: got p50 %v, p99 %v of %d", name, s.P50, s.P99, s.Measured)
			}
			if s.Processes != 2 || !s.LastWebhook.Equal(noon().Add(2*time.Minute)) {
				t.Errorf("%s: got %d processes, last webhook %v", name, s.Processes, s.LastWebhook)
			}
		}

		c.t = noon().Add(59 * time.Minute)
		must(t, a.save(ctx))
		if s, err := a.Summary(ctx); err != nil || counts(s)[59] != 5 {
			t.Errorf("in the last minute of its hour: got %v, %v", counts(s), err)
		}
		c.t = noon().Add(time.Hour)
		must(t, a.clean(ctx)) // exactly an hour old: its document stays
		if s, err := a.Summary(ctx); err != nil || counts(s)[60] != 0 || len(users(s)) != 3 {
			t.Errorf("after its hour: got %v, %v, %v", counts(s), users(s), err)
		}
		c.t = c.t.Add(time.Second)
		must(t, a.save(ctx))
		must(t, a.clean(ctx))
		if s, err := b.Summary(ctx); err != nil || slices.Contains(users(s), "user_died") {
			t.Errorf("its document is still there: %v, %v", users(s), err)
		}
		var kept map[string]string
		there, err := state.Load(ctx, "activityless", &kept)
		if !there || err != nil {
			t.Errorf("another document: %v, %v", there, err)
		}
	})
}

// gate is the way to a database that can be closed.
type gate struct{ closed atomic.Bool }

func (g *gate) connect(t *testing.T, m *testenv.Memory) *database.DB {
	t.Helper()
	return m.ConnectFaulty(t, "test", &testenv.CommandFaults{Verdict: func(string) testenv.Verdict {
		if g.closed.Load() {
			return testenv.Refuse
		}
		return testenv.Apply
	}})
}

// TestDeadDatabase: without the database a summary has all of this process, and what was last read of the others. The
// end does not wait for the database, and what was not saved is saved when it is back.
func TestDeadDatabase(t *testing.T) {
	t.Parallel()
	memory, g, c := testenv.NewMemory(), &gate{}, &clock{noon()}
	a := process(g.connect(t, memory), c)
	b := process(memory.Connect(t, "test", nil, nil), c)
	taken(b, 3)
	write(b, "user_b", time.Second)
	must(t, b.save(t.Context()))
	if _, err := a.Summary(t.Context()); err != nil {
		t.Fatal(err)
	}
	g.closed.Store(true)
	taken(a, 1)
	write(a, "user_a", time.Second)
	for range 2 { // it must not add what it has read twice
		s, err := a.Summary(t.Context())
		if err == nil || counts(s)[0] != 4 || len(users(s)) != 2 || s.Measured != 2 {
			t.Errorf("got %v, %v, %d, %v, want an error and both processes", counts(s), users(s), s.Measured, err)
		}
	}
	if err := a.save(t.Context()); err == nil {
		t.Error("a save without a database: no error")
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	a.Run(ctx) // returns
	g.closed.Store(false)
	a.Run(ctx)
	if s, err := b.Summary(t.Context()); err != nil || counts(s)[0] != 4 {
		t.Errorf("after the end of the other process: got %v, %v", counts(s), err)
	}
}

// TestRun: what happens is saved at each tick and at the end, and the first tick and every twentieth after it remove
// what is old. A database that fails is logged once.
func TestRun(t *testing.T) {
	t.Parallel()
	memory, g, c := testenv.NewMemory(), &gate{}, &clock{noon()}
	old := process(memory.Connect(t, "test", nil, nil), &clock{noon().Add(-61 * time.Minute)})
	a, b := process(g.connect(t, memory), c), process(memory.Connect(t, "test", nil, nil), c)
	var log strings.Builder
	a.log = slog.New(slog.NewTextHandler(&log, nil))
	documents := func() int {
		t.Helper()
		all, err := database.LoadAll[saved](t.Context(), b.state, savedPrefix)
		must(t, err)
		return len(all)
	}
	ctx, stop := context.WithCancel(t.Context())
	tick, ended := make(chan time.Time), make(chan struct{})
	go func() { a.run(ctx, tick); close(ended) }()
	ticks := func(n int) { // when one is taken, all before it have been dealt with
		for range n {
			tick <- c.t
		}
	}
	check := func(when string, want int) {
		t.Helper()
		if got := documents(); got != want {
			t.Errorf("%s: got %d documents, want %d", when, got, want)
		}
	}
	must(t, old.save(t.Context()))
	ticks(2)
	check("after the first clean-up", 1)
	must(t, old.save(t.Context()))
	ticks(cleanEvery - 2)
	check("before the next", 2)
	ticks(2)
	check("after it", 1)
	g.closed.Store(true)
	taken(a, 1)
	ticks(3)
	g.closed.Store(false)
	stop()
	<-ended
	if s, err := b.Summary(t.Context()); err != nil || counts(s)[0] != 1 {
		t.Errorf("after the end: got %v, %v", counts(s), err)
	}
	if n := strings.Count(log.String(), "level=WARN"); n != 1 || !strings.Contains(log.String(), "trying again") {
		t.Errorf("got %d warnings, want 1:\n%s", n, &log)
	}
}

// TestClockJumps: a clock that was wrong for a while neither counts a webhook twice nor leaves it in the future.
func TestClockJumps(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		steps []time.Duration // of the clock; after each, one webhook comes
		want  map[int]int     // at the end, by minutes ago
	}{
		"none": {[]time.Duration{0, 0, time.Minute, time.Minute}, map[int]int{2: 2, 1: 1, 0: 1}},
		"a second back": {
			[]time.Duration{0, 30 * time.Second, -time.Second, time.Second}, map[int]int{1: 2, 0: 2},
		},
		"ten minutes back":        {[]time.Duration{0, time.Minute, -10 * time.Minute}, map[int]int{0: 1}},
		"a day ahead, and back":   {[]time.Duration{0, 24 * time.Hour, -24 * time.Hour}, map[int]int{0: 1}},
		"an hour ahead, and back": {[]time.Duration{0, time.Hour, -time.Hour, time.Hour}, map[int]int{0: 1}},
		"half an hour ahead, back, and there again": {
			[]time.Duration{0, 30 * time.Minute, -30 * time.Minute, 30 * time.Minute}, map[int]int{30: 2, 0: 1},
		},
		"before 1970": {[]time.Duration{0, -100 * 365 * 24 * time.Hour, time.Minute}, map[int]int{1: 1, 0: 1}},
	} {
		c := &clock{noon()}
		a := process(testenv.NewMemory().Connect(t, "test", nil, nil), c)
		for _, step := range tc.steps {
			c.t = c.t.Add(step)
			taken(a, 1)
			write(a, "user_1", -step) // it may have happened in the future
		}
		s, err := a.Summary(t.Context())
		must(t, err)
		if d := cmp.Diff(tc.want, counts(s)); d != "" {
			t.Errorf("%s: webhooks by minutes ago (-want +got):\n%s", name, d)
		}
		n := 0
		for _, of := range tc.want {
			n += of
		}
		if s.Measured != n || len(a.minutes) > kept+1 {
			t.Errorf("%s: got %d lags in %d minutes, want %d", name, s.Measured, len(a.minutes), n)
		}
	}
	// The clock of another process is a day ahead: it removes and hides what is not its own, and nobody else does.
	db := testenv.NewMemory().Connect(t, "test", nil, nil)
	here, ahead := &clock{noon()}, &clock{noon().Add(24 * time.Hour)}
	a, b := process(db, here), process(testenv.AnotherProcess(db), ahead)
	for _, of := range []*Activity{a, b, a} {
		taken(of, 1)
		must(t, of.save(t.Context()))
		must(t, of.clean(t.Context()))
	}
	for name, of := range map[string]*Activity{"right": a, "ahead": b} {
		want := map[string]int{"right": 2, "ahead": 1}[name]
		if s, err := of.Summary(t.Context()); err != nil || counts(s)[0] != want || len(counts(s)) != 1 {
			t.Errorf("%s: got %v, %v, want %d", name, counts(s), err, want)
		}
	}
}

// TestMinutes: whatever the steps of the clock are, no more than an hour is kept.
func TestMinutes(t *testing.T) {
	t.Parallel()
	c := &clock{noon()}
	a := process(testenv.NewMemory().Connect(t, "test", nil, nil), c)
	for range 10_000 {
		c.t = c.t.Add(time.Duration(rand.Int64N(int64(10*time.Minute))) - 4*time.Minute)
		taken(a, 1)
		if len(a.minutes) > kept+1 {
			t.Fatalf("%d minutes are kept", len(a.minutes))
		}
	}
	seen := map[int64]bool{}
	for _, m := range a.minutes {
		if seen[m.Start] {
			t.Errorf("minute %d is there twice", m.Start)
		}
		seen[m.Start] = true
	}
}

// TestPercentile: a percentile is that of the sorted lags, and at most 19 % higher.
func TestPercentile(t *testing.T) {
	t.Parallel()
	for _, longest := range []time.Duration{firstBucket, time.Second, time.Hour, 7 * 24 * time.Hour} {
		for range 100 {
			var m minute
			lags := make([]time.Duration, 1+rand.IntN(200))
			for i := range lags {
				lags[i] = time.Duration(rand.Int64N(int64(longest)))
				m.lag(lags[i])
			}
			slices.Sort(lags)
			for _, q := range []float64{.01, .5, .99, 1} {
				want := lags[int(q*float64(len(lags))+.999999)-1]
				got := percentile(m.Lags, q)
				if got < want-time.Microsecond || float64(got) > max(1.19*float64(want), float64(firstBucket)) {
					t.Fatalf("%v of %d lags up to %v: got %v, want %v", q, len(lags), longest, got, want)
				}
			}
		}
	}
	if got := percentile(nil, .5); got != 0 {
		t.Errorf("of nothing: got %v", got)
	}
	var m minute
	m.lag(-time.Hour)
	m.lag(1000 * 24 * time.Hour)
	if len(m.Lags) != lastBucket+1 || m.Lags[0] != 1 || m.Lags[lastBucket] != 1 {
		t.Errorf("the first and the last bucket: got %v", m.Lags)
	}
}

// TestLag: only a change that has just reached the row is measured: what came twice, or too late, may be of any age.
func TestLag(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		wrote functions.Wrote
		want  int
	}{
		"created":        {functions.Wrote{Type: clerk.UserCreated, Outcome: store.Created}, 1},
		"updated":        {functions.Wrote{Type: clerk.UserUpdated, Outcome: store.Updated}, 1},
		"deleted":        {functions.Wrote{Type: clerk.UserDeleted, Outcome: store.Deleted}, 1},
		"deleted before": {functions.Wrote{Type: clerk.UserUpdated, Outcome: store.Deleted}, 0},
		"stale":          {functions.Wrote{Type: clerk.UserUpdated, Outcome: store.Stale}, 0},
		"unchanged":      {functions.Wrote{Type: clerk.UserUpdated, Outcome: store.Unchanged}, 0},
		"not written":    {functions.Wrote{Type: clerk.UserUpdated, Err: errors.New("down")}, 0},
		"not cleared":    {functions.Wrote{Type: clerk.UserUpdated, Outcome: store.Updated, Err: errors.New("x")}, 0},
	} {
		a := process(testenv.NewMemory().Connect(t, "test", nil, nil), &clock{noon()})
		tc.wrote.At = noon().Add(-time.Second)
		a.Wrote(tc.wrote)
		s, err := a.Summary(t.Context())
		if must(t, err); s.Measured != tc.want {
			t.Errorf("%s: measured %d, want %d", name, s.Measured, tc.want)
		}
	}
}

// TestSavedEvent: an event is the same after it was saved, errors and zero times too.
func TestSavedEvent(t *testing.T) {
	t.Parallel()
	db := testenv.NewMemory().Connect(t, "test", nil, nil)
	a, b := process(db, &clock{noon()}), process(testenv.AnotherProcess(db), &clock{noon()})
	a.Wrote(functions.Wrote{
		Type: clerk.UserCreated, UserID: "user_1", Source: store.Source{Kind: "webhook", ID: "msg_1"},
		Outcome: store.Created, At: noon(), Received: noon(),
	})
	a.Wrote(functions.Wrote{Type: clerk.UserUpdated, Err: errors.New("the data is not a user"), Final: true})
	must(t, a.save(t.Context()))
	got, err := b.Summary(t.Context())
	must(t, err)
	same := cmp.Comparer(func(a, b error) bool { return fmt.Sprint(a) == fmt.Sprint(b) })
	if d := cmp.Diff(a.Newest(), got.Newest, same); d != "" {
		t.Errorf("(-here +there):\n%s", d)
	}
}

// TestLongTexts: an event with an id of any length and bytes neither fills the memory nor keeps the others from being
// saved.
func TestLongTexts(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		a, b := process(db, &clock{noon()}), process(testenv.AnotherProcess(db), &clock{noon()})
		for _, text := range []string{
			strings.Repeat("x", 200_000), strings.Repeat("é", 150) + "é", "a\xffb", "\x00", "$where.{}",
		} {
			a.Wrote(functions.Wrote{
				UserID: text, Source: store.Source{Kind: "webhook", ID: text}, Err: errors.New(text), Final: true,
			})
		}
		must(t, a.save(t.Context()))
		s, err := b.Summary(t.Context())
		must(t, err)
		want := []string{"$where.{}", "\x00", "ab", strings.Repeat("é", 150), strings.Repeat("x", maxText)}
		if d := cmp.Diff(want, users(s)); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
		if first := a.Newest()[4]; len(first.UserID) != maxText || len(first.Source.ID) != maxText {
			t.Errorf("in memory: %d and %d bytes", len(first.UserID), len(first.Source.ID))
		}
	})
}

// TestViewers: a viewer who does not look misses events, and neither the writer nor another viewer waits for it.
func TestViewers(t *testing.T) {
	t.Parallel()
	a := process(testenv.NewMemory().Connect(t, "test", nil, nil), &clock{noon()})
	slow, endSlow := a.Subscribe()
	quick, endQuick := a.Subscribe()
	start := time.Now()
	for i := range maxWaiting + 500 {
		write(a, fmt.Sprint("user_", i), time.Second)
		if e := <-quick; e.UserID != fmt.Sprint("user_", i) || !e.Now.Equal(noon()) {
			t.Fatalf("the quick viewer: got %v, want event %d", e, i)
		}
	}
	if took := time.Since(start); took > time.Minute { // it takes milliseconds
		t.Errorf("the writer has waited for %v", took)
	}
	if len(slow) != maxWaiting {
		t.Errorf("the slow viewer has %d events, want %d", len(slow), maxWaiting)
	}
	endSlow()
	endSlow() // again
	endQuick()
	write(a, "user_last", time.Second)
	if len(quick) != 0 || len(a.viewers) != 0 {
		t.Errorf("a viewer who has gone gets events still")
	}
	newest := a.Newest()
	if len(newest) != maxNewest || newest[0].UserID != "user_last" || newest[1].UserID != "user_1499" {
		t.Errorf("got %d events, the newest %s and %s", len(newest), newest[0].UserID, newest[1].UserID)
	}
	if s, err := a.Summary(t.Context()); err != nil || len(s.Newest) != maxSaved || s.Newest[0].UserID != "user_last" {
		t.Errorf("the summary has %d events, %v", len(s.Newest), err)
	}
}

// TestLabels: whatever types and outcomes come, there are no other labels than those in docs/metrics.md.
func TestLabels(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	db := testenv.NewMemory().Connect(t, "test", nil, nil)
	a := New(database.NewCheckpoints(db), slog.New(slog.DiscardHandler), reg)
	for i := range 1000 {
		for _, typ := range []string{fmt.Sprint("session.created", i), "\xff", "user.created\n", ""} {
			a.Wrote(functions.Wrote{Type: typ, Outcome: store.Outcome(fmt.Sprint("x", i)), Received: time.Now()})
			a.Wrote(functions.Wrote{Type: typ, Err: errors.New(typ), Received: time.Now()})
			a.Webhook(webhook.Answer{Type: typ, Code: 204, Reason: "not_forwarded"})
		}
	}
	a.Wrote(functions.Wrote{Type: clerk.UserCreated, Err: errors.New("x"), Final: true})
	// The clock of the process that took the webhook was ahead.
	a.Wrote(functions.Wrote{Type: clerk.UserDeleted, Outcome: store.Deleted, Received: time.Now().Add(time.Hour)})
	// It came through Inngest's own integration, so nobody knows when.
	a.Wrote(functions.Wrote{Type: clerk.UserUpdated, Outcome: store.Updated})
	families, err := reg.Gather()
	must(t, err)
	values := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			values[name] = m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
			if m.GetHistogram().GetSampleSum() < 0 {
				t.Errorf("%s has taken less than no time", name)
			}
		}
	}
	if len(values) != 3*7+2+4 {
		t.Errorf("got %d series: %v", len(values), values)
	}
	for name, want := range map[string]float64{
		"clerksync_outcomes_total other other": 4000, "clerksync_outcomes_total retried other": 4000,
		"clerksync_outcomes_total failed user.created": 1, "clerksync_outcomes_total stale user.deleted": 0,
		"clerksync_webhook_to_row_seconds other": 4000, "clerksync_webhook_to_row_seconds user.updated": 0,
	} {
		if got, there := values[name]; !there || got != want {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
}
