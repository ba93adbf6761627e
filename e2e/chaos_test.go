package e2e_test

import (
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"clerksync/history"
	"clerksync/inbox"
	"clerksync/internal/child"
	"clerksync/internal/testenv"

	"golang.org/x/sync/errgroup"
)

var (
	seedFlag = flag.Uint64("seed", 0, "seed of TestChaos; 0 takes a new one, which it prints")
	longFlag = flag.Int("long", 1, "how many times as long TestChaos is")
)

// TestChaos: webhooks come late, twice and by both sources, while the service, the database and Inngest are killed, cut
// off and hang. In the end all rows are equal to Clerk, every webhook is accepted, and no event is left or has failed.
func TestChaos(t *testing.T) {
	testenv.EachApp(t, func(t *testing.T, app testenv.App) {
		if app.Extra {
			t.Parallel() // with the others
		}
		chaos(t, app)
	})
}

func chaos(t *testing.T, app testenv.App) {
	t.Helper()
	o := ordeal{users: 300, span: 25 * time.Second, rounds: *longFlag, pause: 50 * time.Millisecond}
	if app.Extra {
		o.users, o.span = 80, 8*time.Second
	}
	rng := seeded(t, fmt.Sprintf("%s=all go test ./e2e -run Chaos/%s", testenv.MapsEnv, app.Collection))
	w := newWorld(t, options{app: app, proxies: true, env: []string{manyEvents}})
	kill(w.service)
	s := supervise(t, w.newService)
	o.service = []*supervisor{s}
	o.faults = w.faults(s)
	if app.Extra {
		rng.Shuffle(len(o.faults), func(i, j int) { o.faults[i], o.faults[j] = o.faults[j], o.faults[i] })
		o.faults = o.faults[:6]
	}
	w.undergo(rng, o)
}

// seeded returns the random numbers of the seed that -seed names, or of a new one. It prints the command that repeats
// them.
func seeded(t *testing.T, command string) *rand.Rand {
	t.Helper()
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("reproduce with: %s -seed %d", command, seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// ordeal is what a world has to stand.
type ordeal struct {
	users   int           // at Clerk, in each round
	span    time.Duration // over which their webhooks are spread, in each round
	faults  []fault       // each once in each round, in a random order
	rounds  int
	pause   time.Duration // after which a webhook that is refused is sent again the first time
	service []*supervisor // the processes of the service
}

// undergo sends webhooks while the faults happen. In the end all rows are equal to Clerk, every webhook is accepted, no
// event is left or has failed, and the histories explain the rows. It returns what was sent.
func (w *world) undergo(rng *rand.Rand, o ordeal) *clerkSide {
	t := w.t
	t.Helper()
	histories := w.app.Histories(t, rng, o.users*o.rounds)
	start := time.Now()
	failures := w.failures()
	c := &clerkSide{world: w, codes: map[int]int{}, start: start, pause: o.pause}
	span := o.span * time.Duration(o.rounds)
	within := func(limit time.Duration) time.Duration { return time.Duration(rng.Int64N(int64(limit))) }
	var hooks []testenv.Webhook
	for _, h := range histories {
		for _, hook := range h.Webhooks {
			hooks = append(hooks, hook)
			at := within(span)
			c.deliver(hook, at)
			if rng.IntN(5) == 0 {
				c.deliver(hook, at+within(5*time.Second))
			}
			if rng.IntN(5) == 0 {
				c.integrate(hook, within(span))
			}
		}
	}
	if n := 3 * len(histories); len(hooks) < n {
		t.Fatalf("got %d webhooks, want more than %d", len(hooks), n)
	}

	for range o.rounds {
		rng.Shuffle(len(o.faults), func(i, j int) { o.faults[i], o.faults[j] = o.faults[j], o.faults[i] })
		for _, f := range o.faults {
			<-time.After(200*time.Millisecond + within(time.Second))
			heal := f.begin()
			<-time.After(200*time.Millisecond + within(f.last))
			heal()
			t.Logf("%5.1f s: %s", time.Since(start).Seconds(), f.name)
		}
	}
	c.wait()
	w.drained()
	w.compare(histories)

	for range len(hooks) / 10 { // replays of old messages, much later
		c.deliver(hooks[rng.IntN(len(hooks))], 0)
	}
	c.wait()
	w.drained()
	w.compare(histories)

	starts, kills := 0, 0
	for _, s := range o.service {
		starts, kills = starts+int(s.starts.Load()), kills+int(s.kills.Load())
	}
	w.explained(histories, kills)
	if got, want := w.command("deadletters", "list"), "no dead letters\n"; got != want {
		t.Errorf("dead letters: %s", got)
	}
	if n := w.log.count("event failed for good"); n > 0 {
		t.Errorf("%d events failed for good on the way: %v", n, failures())
	}
	t.Logf("%d users, %d webhooks; %d attempts: %v, at most %d refused of one webhook, besides %d in outages; "+
		"%d copies by the integration; %d lines of the inbox about what it sent again; %d starts of the service; "+
		"%.0f s",
		len(histories), len(hooks), c.attempts.Load(), c.answers(), c.refused, c.excused, c.copies.Load(),
		w.log.count("in time; sent again"), starts, time.Since(start).Seconds())
	return c
}

// failures looks for dead letters from now on, because another sending may clear one before the test ends. It returns a
// function that says why they failed, for each svix-id.
func (w *world) failures() func() map[string]string {
	all := map[string]string{}
	var mu sync.Mutex
	table := inbox.NewTable(w.store)
	ctx, done := w.t.Context(), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			dead, _ := table.DeadLetters(ctx, true) // the database may be away
			mu.Lock()
			for _, d := range dead {
				all[d.ID] = fmt.Sprintf("%s, run %s: %s", d.Function, d.RunID, d.Error)
			}
			mu.Unlock()
			<-tick.C
		}
	}()
	w.t.Cleanup(func() { <-done })
	return func() map[string]string {
		mu.Lock()
		defer mu.Unlock()
		return maps.Clone(all)
	}
}

// explained checks that each user's history explains the row: the last entry that was applied has the row's version, or
// 'users why' names the gap. Only a service that was killed between a row and its entry leaves one, and that only if
// the event that came again was overtaken, so there are few.
func (w *world) explained(histories []testenv.History, kills int) {
	w.t.Helper()
	const inFlight = 8 // the service's connections to the embedded database: so many rows may be written at a kill
	past := history.New(w.store, 720*time.Hour, slog.New(slog.DiscardHandler))
	gaps, entries := 0, 0
	for _, h := range histories {
		why, err := past.Why(w.t.Context(), w.users, h.UserID)
		if err != nil {
			w.t.Errorf("why %s: %v", h.UserID, err)
			continue
		}
		entries += len(why.Applied) + len(why.Skipped)
		gap := false
		for _, r := range why.Remarks {
			switch r.Kind {
			case history.Gone:
			case history.Gap:
				gap = true
				gaps++
			default:
				w.t.Errorf("why %s: %s", h.UserID, r.Text)
			}
		}
		if why.Row != nil && !gap && (len(why.Applied) == 0 || why.Applied[0].Version != why.Row.Version) {
			w.t.Errorf("%s: the row is of another version than the last entry: %+v", h.UserID, why)
		}
		if deleted := !why.DeletedAt.IsZero(); deleted && why.Empty() {
			gaps++ // what comes after a deletion makes no history
		}
	}
	if gaps > kills*inFlight {
		w.t.Errorf("%d gaps in the histories, and %d kills of the service", gaps, kills)
	}
	w.t.Logf("%d entries in the histories, %d gaps, %d kills of the service", entries, gaps, kills)
}

// fault is something that goes wrong until it is healed, for at most the time last.
type fault struct {
	name  string
	last  time.Duration
	begin func() (heal func())
}

// faults returns everything that goes wrong during TestChaos.
func (w *world) faults(s *supervisor) []fault {
	database := []fault{
		{"database reset", 2 * time.Second, func() func() { return w.dbProxy.Poison(w.t, "reset_peer", nil) }},
		{"database hung", 3 * time.Second, func() func() { return w.dbProxy.Poison(w.t, "timeout", nil) }},
		{"database slow", 3 * time.Second, func() func() {
			return w.dbProxy.Poison(w.t, "latency", map[string]any{"latency": 150, "jitter": 150})
		}},
		{"database refused", 2 * time.Second, func() func() { return w.dbProxy.Refuse(w.t) }},
	}
	if w.db != nil {
		database = append(database, fault{
			"database killed", time.Second, func() func() { kill(w.db); return w.startDatabase },
		})
	} else {
		database = append(database, database[0])
	}
	all := append(database,
		fault{"Inngest hung", 4 * time.Second, func() func() { return w.inngestProxy.Poison(w.t, "timeout", nil) }},
		fault{"Inngest refused", 3 * time.Second, func() func() { return w.inngestProxy.Refuse(w.t) }},
	)
	for range 3 {
		all = append(all, fault{"Inngest killed", time.Second, func() func() {
			if err := w.inngest.Kill(); err != nil {
				w.t.Error(err)
			}
			return w.startInngest
		}})
	}
	for range 5 {
		all = append(all, fault{"service killed", time.Millisecond, func() func() { s.kill(); return func() {} }})
	}
	return all
}

// clerkSide sends webhooks as Svix does, and events as Inngest's integration does.
type clerkSide struct {
	*world
	g                errgroup.Group
	attempts, copies atomic.Int64
	mu               sync.Mutex
	codes            map[int]int
	refused          int      // how often one webhook was refused at the most, not counting excused
	excused          int      // how often webhooks were refused in outages
	refusals         []string // when a webhook was refused, how, and by whom, not counting excused
	start            time.Time
	pause            time.Duration // see ordeal
}

// deliver posts a webhook after a time, and again with growing pauses until it is accepted. Each time it is signed
// anew.
func (c *clerkSide) deliver(hook testenv.Webhook, at time.Duration) {
	due := time.After(at)
	c.g.Go(func() error {
		<-due
		pause, deadline := c.pause, time.Now().Add(patience)
		for refused := 0; ; {
			outages := c.outages.Load()
			code, header := c.post(hook)
			c.attempts.Add(1)
			c.mu.Lock()
			c.codes[code]++
			switch {
			case code == http.StatusAccepted:
			case outages%2 == 1 || c.outages.Load() != outages:
				c.excused++
			default:
				refused++
				c.refused = max(c.refused, refused)
				c.refusals = append(c.refusals, fmt.Sprintf("%.1f s: %d by %q", time.Since(c.start).Seconds(), code,
					header["Server"]))
			}
			c.mu.Unlock()
			if code == http.StatusAccepted {
				return nil
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("webhook %s was never accepted; the last answer is %d", hook.ID, code)
			}
			<-time.After(pause)
			pause = min(2*pause, max(c.pause, time.Second))
		}
	})
}

// integrate sends the event as Inngest's own integration does, after a time, and again until Inngest accepts it.
func (c *clerkSide) integrate(hook testenv.Webhook, at time.Duration) {
	due := time.After(at)
	c.g.Go(func() error {
		<-due
		for deadline := time.Now().Add(patience); ; <-time.After(100 * time.Millisecond) {
			if err := c.send("clerk/"+hook.Type, hook.Data); err == nil {
				c.copies.Add(1)
				return nil
			} else if time.Now().After(deadline) {
				return fmt.Errorf("the integration: %w", err)
			}
		}
	})
}

// wait returns when everything has been accepted.
func (c *clerkSide) wait() {
	c.t.Helper()
	if err := c.g.Wait(); err != nil {
		c.t.Error(err)
	}
	c.g = errgroup.Group{}
}

// answers says how often the service answered what.
func (c *clerkSide) answers() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Replace(fmt.Sprint(c.codes), "map[0:", "[no answer:", 1)
}

// supervisor starts a program again whenever it ends, as systemd does.
type supervisor struct {
	t       *testing.T
	command func() *exec.Cmd
	mu      sync.Mutex
	process *child.Process // the last one
	held    bool           // it is not started again
	done    chan struct{}  // closed when nothing runs, and nothing is started again

	starts, kills atomic.Int64
}

// supervise starts the program of a command, which is made anew for each start, and keeps it running until the test
// ends.
func supervise(t *testing.T, command func() *exec.Cmd) *supervisor {
	s := &supervisor{t: t, command: command}
	s.release()
	t.Cleanup(func() { s.hold((*child.Process).Kill) })
	return s
}

// hold ends the program, as end does it, until it is released.
func (s *supervisor) hold(end func(*child.Process) error) {
	s.mu.Lock()
	s.held = true
	if s.process != nil {
		_ = end(s.process) // it may have ended
	}
	s.mu.Unlock()
	<-s.done
}

// release starts the program again after hold.
func (s *supervisor) release() {
	s.mu.Lock()
	s.held = false
	s.mu.Unlock()
	done := make(chan struct{})
	s.done = done
	p := s.start()
	go func() {
		defer close(done)
		for ; p != nil; p = s.start() {
			_ = p.Wait() // killed
			<-time.After(100 * time.Millisecond)
		}
	}()
}

// start returns nil if the program is held, or cannot be started.
func (s *supervisor) start() *child.Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held {
		return nil
	}
	p, err := child.Start(s.command())
	if err != nil {
		s.t.Error(err)
		return nil
	}
	s.process = p
	s.starts.Add(1)
	return p
}

// crash ends the program as a crash would, until it is released.
func (s *supervisor) crash() {
	s.hold((*child.Process).Kill)
	s.kills.Add(1)
}

// kill ends the program as a crash would.
func (s *supervisor) kill() {
	s.crash()
	s.release()
}
