package inbox_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"clerksync/inbox"
	"clerksync/inngest"
	"clerksync/internal/testenv"
	"clerksync/store/database"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.mongodb.org/mongo-driver/v2/bson"
	mongoevent "go.mongodb.org/mongo-driver/v2/event"
)

// sender is an Inngest that keeps the ids of what it accepts.
type sender struct {
	mu      sync.Mutex
	away    bool
	bad     string   // an event that it refuses
	ids     []string // in the order of acceptance
	batches int
}

func (s *sender) Send(_ context.Context, events []inbox.Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.batches++
	if s.away {
		return errors.New("connection refused")
	}
	var ids []string
	for _, e := range events {
		if e.ID == s.bad {
			return inngest.ErrRefused
		}
		ids = append(ids, e.ID)
	}
	s.ids = append(s.ids, ids...)
	return nil
}

func (s *sender) set(f func(*sender)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s)
}

func (s *sender) accepted() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.ids)
}

func distinct(ids []string) []string {
	slices.Sort(ids)
	return slices.Compact(ids)
}

// start runs an inbox until the test ends or stop is called.
func start(
	t *testing.T, db *database.DB, send func(context.Context, []inbox.Event) error, resendAfter time.Duration,
) (b *inbox.Inbox, reg *prometheus.Registry, stop func()) {
	t.Helper()
	reg = prometheus.NewRegistry()
	b = inbox.New(inbox.Options{
		DB: db, Send: send, ResendAfter: resendAfter,
		Handled: func(name string) bool { return name == "clerk/user.created" },
		Log:     slog.New(slog.DiscardHandler), Registerer: reg,
	})
	if err := inbox.NewTable(db).Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.Run(ctx, 5*time.Second)
	}()
	stop = func() {
		cancel()
		<-done
	}
	t.Cleanup(stop)
	return b, reg, stop
}

func event(id string) inbox.Event {
	return inbox.Event{ID: id, Name: "clerk/user.created", Data: json.RawMessage(`{"id":"user_a"}`), TS: 1767603600018}
}

func put(t *testing.T, b *inbox.Inbox, ids ...string) {
	t.Helper()
	var wg sync.WaitGroup
	for _, id := range ids {
		wg.Go(func() {
			if err := b.Put(t.Context(), event(id)); err != nil {
				t.Errorf("Put(%s): %v", id, err)
			}
		})
	}
	wg.Wait()
}

// until waits for cond, for 2 minutes at the most.
func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(2 * time.Minute); !cond(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("timed out: %s", what)
		}
	}
}

// row reads what the collection holds of an event.
func row(t *testing.T, db *database.DB, id string) bson.M {
	t.Helper()
	var m bson.M
	if err := db.Collection("clerksync_inbox").FindOne(t.Context(), database.ByID(id)).Decode(&m); err != nil {
		return nil
	}
	return m
}

func count(t *testing.T, db *database.DB) int64 {
	t.Helper()
	n, err := db.Collection("clerksync_inbox").CountDocuments(t.Context(), bson.D{})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// metric returns what a counter or a gauge stands at.
func metric(t *testing.T, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	all, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		if m.GetName() == name {
			// One of the two is nil, and counts as 0.
			return m.GetMetric()[0].GetCounter().GetValue() + m.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}

func TestPut(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		s := &sender{}
		b, _, _ := start(t, db, s.Send, time.Hour)
		put(t, b, "msg_1")
		if row(t, db, "msg_1") == nil {
			t.Fatal("the event is not in the collection")
		}
		until(t, "it is sent", func() bool { return len(s.accepted()) == 1 })
		put(t, b, "msg_1", "msg_2", "msg_1") // a redelivery is the same event
		until(t, "the second is sent", func() bool { return len(s.accepted()) == 2 })
		if d := cmp.Diff([]string{"msg_1", "msg_2"}, s.accepted()); d != "" {
			t.Errorf("sent (-want +got):\n%s", d)
		}
		for _, id := range []string{"msg_1:r12", "msg_2", "never_there"} {
			if _, err := b.Done(t.Context(), id); err != nil {
				t.Fatal(err)
			}
		}
		if n := count(t, db); n != 0 {
			t.Errorf("got %d rows after Done, want none", n)
		}
	})
}

// TestGroupCommit: concurrent events share inserts and sends, and each is durable when its Put returns.
func TestGroupCommit(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		s := &sender{}
		b, reg, _ := start(t, db, s.Send, time.Hour)
		const n = 400
		var ids []string
		for i := range n {
			ids = append(ids, fmt.Sprint("msg_", i))
		}
		put(t, b, append(ids, ids[:n/5]...)...) // a fifth of them twice
		if got := count(t, db); got != n {
			t.Errorf("got %d rows, want %d", got, n)
		}
		// The embedded database may say of two equal inserts of one millisecond that both wrote the row. Then the event
		// is sent twice, under one id.
		until(t, "all are sent", func() bool { return len(distinct(s.accepted())) == n })
		if inserts := metric(t, reg, "clerksync_inbox_inserts_total"); inserts > n/2 {
			t.Errorf("got %v inserts for %d events, want them to share", inserts, n)
		}
		s.set(func(s *sender) {
			if s.batches > n/2 {
				t.Errorf("got %d sends for %d events, want them to share", s.batches, n)
			}
		})
	})
}

// TestRedeliveriesInOneRoundTrip: events that are there already are looked up together. One by one, a redelivery of
// hundreds took longer than Clerk waits, was answered 503, and came again, for ever.
func TestRedeliveriesInOneRoundTrip(t *testing.T) {
	t.Parallel()
	var lookups atomic.Int64
	monitor := &mongoevent.CommandMonitor{Started: func(_ context.Context, e *mongoevent.CommandStartedEvent) {
		if _, err := e.Command.LookupErr("filter", "_id"); e.CommandName == "find" && err == nil {
			lookups.Add(1)
		}
	}}
	b, reg, _ := start(t, testenv.NewMemory().Connect(t, "test", nil, monitor), (&sender{}).Send, time.Hour)
	var ids []string
	for i := range 200 {
		ids = append(ids, fmt.Sprint("msg_", i))
	}
	put(t, b, ids...)
	before := metric(t, reg, "clerksync_inbox_inserts_total")
	put(t, b, ids...)
	if inserts := metric(t, reg, "clerksync_inbox_inserts_total") - before; float64(lookups.Load()) > inserts {
		t.Errorf("got %d lookups for %v inserts, want one each at the most", lookups.Load(), inserts)
	}
}

// held is a client whose commands wait while it is held, as those that have no free connection do.
type held struct{ hold chan chan struct{} }

func (h held) Command(string) testenv.Verdict {
	select {
	case free := <-h.hold:
		h.hold <- free
		<-free
	default:
	}
	return testenv.Apply
}

func (held) Answered(bson.D) {}

// TestPutWaitsForNoFunction: what Clerk sends is written while functions and sweeps have all connections and get no
// answer.
func TestPutWaitsForNoFunction(t *testing.T) {
	t.Parallel()
	memory, h := testenv.NewMemory(), held{make(chan chan struct{}, 1)}
	db := memory.Connect(t, "test", h, nil)
	db.Ingress = memory.Connect(t, "test", nil, nil).Database
	b, _, _ := start(t, db, (&sender{}).Send, time.Hour)
	free := make(chan struct{})
	defer close(free)
	h.hold <- free
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for _, id := range []string{"msg_new", "msg_new", "msg_another"} { // and again, when it is there already
		if err := b.Put(ctx, event(id)); err != nil {
			t.Fatalf("Put(%s): %v", id, err)
		}
	}
}

// TestSentAgain: what no function clears is sent again, each time under a new id.
func TestSentAgain(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		s := &sender{}
		b, _, _ := start(t, db, s.Send, 200*time.Millisecond)
		put(t, b, "msg_1")
		until(t, "it is sent again", func() bool { return len(s.accepted()) >= 4 })
		if d := cmp.Diff([]string{"msg_1", "msg_1:r1", "msg_1:r2", "msg_1:r3"}, s.accepted()[:4]); d != "" {
			t.Errorf("sent (-want +got):\n%s", d)
		}
		if _, err := b.Done(t.Context(), "msg_1:r3"); err != nil || count(t, db) != 0 {
			t.Errorf("after Done: %v, %d rows", err, count(t, db))
		}
	})
}

// TestInngestAway: while Inngest takes nothing events are accepted all the same, and sent when it is back, under their
// first id.
func TestInngestAway(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		s := &sender{away: true}
		b, _, stop := start(t, db, s.Send, time.Hour)
		var want []string
		for i := range 250 {
			want = append(want, fmt.Sprintf("msg_%03d", i))
		}
		put(t, b, want...)
		stop() // a restart in between loses nothing
		b, _, _ = start(t, db, s.Send, time.Hour)
		put(t, b, "msg_last")
		want = append(want, "msg_last")
		s.set(func(s *sender) { s.away = false })
		until(t, "all are sent", func() bool { return len(s.accepted()) >= len(want) })
		got := s.accepted()
		for i := range got { // one that was in flight when the process ended counts as accepted
			got[i], _ = strings.CutSuffix(got[i], ":r1")
		}
		slices.Sort(got)
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("sent (-want +got):\n%s", d)
		}
	})
}

// TestPoison: an event that Inngest refuses fails alone; those in its batch are sent.
func TestPoison(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		s := &sender{away: true, bad: "msg_07"}
		b, _, _ := start(t, db, s.Send, time.Hour)
		put(t, b, "msg_00") // from now on they wait in the collection, and go in one batch
		until(t, "Inngest is found away", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.batches > 0 })
		var want []string
		for i := range 20 {
			put(t, b, fmt.Sprintf("msg_%02d", i))
			want = append(want, fmt.Sprintf("msg_%02d", i))
		}
		want = slices.DeleteFunc(want, func(id string) bool { return id == s.bad })
		s.set(func(s *sender) { s.away = false })
		until(t, "the others are sent", func() bool { return len(s.accepted()) >= len(want) })
		got := s.accepted()
		slices.Sort(got)
		if d := cmp.Diff(want, slices.Compact(got)); d != "" {
			t.Errorf("sent (-want +got):\n%s", d)
		}
		until(t, "it is marked failed", func() bool { return row(t, db, "msg_07")["failure"] != nil })

		// Delivered once more, it is tried once more.
		s.set(func(s *sender) { s.bad = "" })
		put(t, b, "msg_07")
		until(t, "it is sent", func() bool {
			return slices.ContainsFunc(s.accepted(), func(id string) bool { return strings.HasPrefix(id, "msg_07") })
		})
	})
}

// TestFail: a failed event is kept with the reason, and not sent again.
func TestFail(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		s := &sender{}
		b, _, _ := start(t, db, s.Send, 100*time.Millisecond)
		put(t, b, "msg_1")
		until(t, "it is sent", func() bool { return len(s.accepted()) > 0 })
		if err := b.Fail(t.Context(), event("msg_1:r1"), inbox.Failure{Function: "f", Error: "why"}); err != nil {
			t.Fatal(err)
		}
		put(t, b, "msg_2") // as a clock: it is sent again twice while the first is not
		at := func(id string) int { return slices.Index(s.accepted(), id) }
		until(t, "the clock", func() bool { return at("msg_2:r3") >= 0 })
		// What was about to be sent when it failed has been sent when the next ones are.
		again := func(id string) bool { return strings.HasPrefix(id, "msg_1") }
		if got := s.accepted()[at("msg_2:r1"):]; slices.ContainsFunc(got, again) {
			t.Errorf("the failed event was sent again: %v", got)
		}
		f, _ := row(t, db, "msg_1")["failure"].(bson.D)
		if got := fmt.Sprint(f); !strings.Contains(got, `"error":"why"`) || !strings.Contains(got, `"function":"f"`) {
			t.Errorf("got failure %v", got)
		}
	})
}

// TestFailWhileSending: an event that fails while it is being sent again stays failed. FerretDB lost the mark to a
// claim that had read the row before.
func TestFailWhileSending(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		s := &sender{}
		b, _, stop := start(t, db, s.Send, 10*time.Millisecond)
		var ids []string
		for i := range 60 {
			ids = append(ids, fmt.Sprint("msg_", i))
		}
		put(t, b, ids...)
		until(t, "they are being sent again", func() bool { return len(s.accepted()) > len(ids) })
		var wg sync.WaitGroup
		for _, id := range ids {
			wg.Go(func() {
				if err := b.Fail(t.Context(), event(id), inbox.Failure{Error: "why"}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		stop()
		for _, id := range ids {
			if r := row(t, db, id); r["failure"] == nil || r["due_at"] != nil {
				t.Errorf("%s: got failure %v and due_at %v, want a failed row", id, r["failure"], r["due_at"])
			}
		}
	})
}

// TestNotHandled: an event that none of our functions clears is done when Inngest has accepted it, and not before.
func TestNotHandled(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		s := &sender{away: true}
		b, _, _ := start(t, db, s.Send, time.Hour)
		e := event("msg_1")
		e.Name = "clerk/session.created"
		if err := b.Put(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		until(t, "Inngest is found away", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.batches > 0 })
		if row(t, db, "msg_1") == nil {
			t.Error("it left the inbox before Inngest had it")
		}
		s.set(func(s *sender) { s.away = false })
		until(t, "it is cleared", func() bool { return count(t, db) == 0 })
		if d := cmp.Diff([]string{"msg_1"}, s.accepted()); d != "" {
			t.Errorf("sent (-want +got):\n%s", d)
		}
	})
}

// TestGiveUp: what no function has cleared within 24 hours and 8 sendings that Inngest has accepted is marked failed.
// The clock alone says nothing: the process may have died before it sent the event, and have been away for a day.
func TestGiveUp(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		s := &sender{}
		past := time.Now().Add(-time.Minute)
		for id, n := range map[string][2]int{
			"msg_tried": {9, 8}, "msg_crashed": {1, 0}, "msg_seldom": {20, 7}, "msg_never": {0, 0},
		} {
			if _, err := db.Collection("clerksync_inbox").InsertOne(t.Context(), bson.D{
				{Key: "_id", Value: id},
				{Key: "name", Value: "clerk/user.created"},
				{Key: "data", Value: "{}"},
				{Key: "ts", Value: int64(1)},
				{Key: "sends", Value: n[0]},
				{Key: "accepted", Value: n[1]},
				{Key: "due_at", Value: past},
				{Key: "give_up_at", Value: past},
			}); err != nil {
				t.Fatal(err)
			}
		}
		start(t, db, s.Send, time.Hour)
		until(t, "it is marked failed", func() bool { return row(t, db, "msg_tried")["failure"] != nil })
		want := []string{"msg_crashed:r1", "msg_never", "msg_seldom:r20"}
		until(t, "the others are sent", func() bool { return len(s.accepted()) >= len(want) })
		got := s.accepted()
		slices.Sort(got)
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("sent (-want +got):\n%s", d)
		}
		got24, _ := row(t, db, "msg_never")["give_up_at"].(bson.DateTime)
		if time.Until(got24.Time()) < 23*time.Hour {
			t.Errorf("its 24 hours end at %v, want them to begin with its first sending", got24.Time())
		}
		until(t, "it is counted", func() bool { return fmt.Sprint(row(t, db, "msg_seldom")["accepted"]) == "8" })
		if failed := failures(t, db, []string{"msg_crashed", "msg_never", "msg_seldom"}); len(failed) > 0 {
			t.Errorf("%v are dead letters", failed)
		}
	})
}

// TestSeveralProcesses: they share what is left over without sending it twice. Only where the database is atomic.
func TestSeveralProcesses(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		if db.OneProcess {
			t.Skip("one process only")
		}
		dead := &sender{away: true}
		b, _, stop := start(t, db, dead.Send, time.Hour)
		const n = 300
		for i := range n {
			put(t, b, fmt.Sprint("msg_", i))
		}
		stop()
		s := &sender{}
		for range 3 {
			start(t, testenv.AnotherProcess(db), s.Send, time.Hour)
		}
		until(t, "all are sent", func() bool { return len(s.accepted()) >= n })
		got := s.accepted()
		slices.Sort(got)
		if len(slices.Compact(slices.Clone(got))) != len(got) {
			t.Errorf("%d events were sent %d times", n, len(got))
		}
	})
}

// TestDatabaseDown: Put says so well within the 15 seconds that Clerk waits.
func TestDatabaseDown(t *testing.T) {
	t.Parallel()
	db := testenv.Embedded(t)
	s := &sender{}
	b, _, stop := start(t, db, s.Send, time.Hour)
	stop() // nobody writes any more
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := b.Put(ctx, event("msg_1")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want that the time is up", err)
	}
}
