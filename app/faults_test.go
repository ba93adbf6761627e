package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"clerksync/clerk"
	"clerksync/config"
	"clerksync/freshness"
	"clerksync/functions"
	"clerksync/inbox"
	"clerksync/internal/testenv"
	"clerksync/internal/testenv/program"
	"clerksync/reconcile"
	"clerksync/store"
	"clerksync/store/database"
	"clerksync/store/mapping"
	"clerksync/webhook"

	"github.com/prometheus/client_golang/prometheus"
	"go.yaml.in/yaml/v3"
)

// world is a service with all around it: a model of Clerk, of Inngest, and a database in memory. All faults can be
// switched on and off. Its clock is that of testing/synctest.
type world struct {
	t      *testing.T
	rng    *rand.Rand
	luck   *rand.Rand // of what is flaky; mu guards it, because the service draws it too
	memory *testenv.Memory
	db     *database.DB
	clerk  *testenv.ClerkAPI
	load   int    // one of so many ticks has a change at Clerk
	mapID  string // of the map that the service has; "" for the one that is used without a file
	faults

	app   *App
	hook  http.Handler
	fns   *testenv.Executor
	stop  func()
	newer func() // ends the process that upgrade has started

	mu      sync.Mutex
	queue   []testenv.Event // at Inngest
	late    []change        // that Clerk could not deliver
	users   map[string]*life
	n       int // changes, runs and users so far
	start   time.Time
	drifted time.Time
	seen    []map[string]float64 // what the scrapes have seen, a minute apart
}

// faults are what is broken now.
type faults struct {
	endpointDead bool // Clerk sends nothing
	inngestAway  bool
	paused       bool // Inngest takes events and runs nothing
	databaseAway bool
	flaky        bool   // some commands of the database fail, and some sendings
	secret       string // that Clerk signs with, if it is not the service's
}

// life is what happened to a user at Clerk.
type life struct {
	user    testenv.ClerkUser
	changes map[string]time.Time // when each full name was given
	deleted time.Time
}

type change struct {
	typ  string
	user string
	at   time.Time
	body string
}

const tick = 10 * time.Second

// newWorld starts a service whose users were backfilled, at 01:50 in a year in which there is Clerk.
func newWorld(t *testing.T, seed uint64) *world {
	t.Helper()
	time.Sleep(time.Until(time.Date(2027, 3, 1, 1, 50, 0, 0, time.UTC)))
	w := &world{
		t: t, rng: rand.New(rand.NewPCG(seed, 0)), luck: rand.New(rand.NewPCG(seed, 1)), load: 3,
		memory: testenv.NewMemory(), clerk: testenv.NewClerkHandler(), users: map[string]*life{},
	}
	w.db = w.memory.ConnectFaulty(t, "test", &testenv.CommandFaults{Verdict: func(command string) testenv.Verdict {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.databaseAway || w.flaky && w.luck.IntN(50) == 0 {
			return testenv.Refuse
		}
		return testenv.Apply
	}})
	users := store.NewUsers(w.db, mapping.Default())
	h := History(w.config(), w.db, users, slog.New(slog.DiscardHandler))
	if err := Prepare(t.Context(), w.db, users, h); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		w.signUp(time.Now().Add(-24 * time.Hour))
	}
	w.begin()
	r := w.reconciler()
	if _, err := r.Run(t.Context(), reconcile.Start(reconcile.Backfill, ""), nil); err != nil {
		t.Fatal(err)
	}
	w.cron(reconcile.Full) // what an operator does who does not wait for the night
	w.start = time.Now()
	return w
}

// RoundTrip is Clerk's API.
func (w *world) RoundTrip(r *http.Request) (*http.Response, error) {
	rec := httptest.NewRecorder()
	rec.Header().Set("Date", time.Now().UTC().Format(http.TimeFormat))
	w.clerk.ServeHTTP(rec, r)
	return rec.Result(), nil
}

func (w *world) config() config.Config {
	c, mistakes := config.Read([]string{
		"CLERK_SECRET_KEY=" + testenv.ClerkKey, "CLERK_WEBHOOK_SIGNING_SECRET=" + testenv.Secret,
		"MONGODB_URI=mongodb://memory", "INNGEST_DEV=1",
	}, nil)
	if err := mistakes.Err(); err != nil {
		w.t.Fatal(err)
	}
	return c
}

func (w *world) reconciler() *reconcile.Reconcile {
	api, err := clerk.NewAPI(clerk.APIOptions{SecretKey: testenv.ClerkKey, Share: 1, Transport: w})
	if err != nil {
		w.t.Fatal(err)
	}
	return Reconciler(w.config(), api, w.db, w.app.users, w.app.log)
}

// begin starts the parts of the service, as New and Run do, without what needs a socket.
func (w *world) begin() {
	t := w.t
	t.Helper()
	a := &App{cfg: w.config(), log: slog.New(slog.DiscardHandler), metrics: newMetrics(), db: w.db}
	w.app, a.users = a, store.NewUsers(w.db, mapping.Default())
	a.openHistory()
	a.inbox = inbox.New(inbox.Options{
		DB: w.db, Send: w.send, ResendAfter: a.cfg.InboxResendAfter, Handled: functions.Handles, Log: a.log,
		Registerer: a.metrics,
	})
	a.counts = newCounts(a.users, a.inbox.Table, a.metrics)
	a.watch = reconcile.NewWatch(database.NewCheckpoints(w.db), a.log, a.metrics)
	a.freshness = a.newFreshness(a.metrics)
	a.freshness.MapID = cmp.Or(w.mapID, a.freshness.MapID)
	fns, err := allFunctions(
		a.cfg, nil, a.users, a.history, store.NewWelcomes(w.db), store.NewRuns(w.db), a.inbox.Table, w.reconciler())
	if err != nil {
		t.Fatal(err)
	}
	fns.Inbox, fns.Log, fns.Seen = a.inbox, a.log, a.watch.Webhook
	client, executor := testenv.NewExecutor(t, nil)
	w.fns = executor
	if err := fns.Register(client, false); err != nil {
		t.Fatal(err)
	}
	w.hook, err = webhook.New(webhook.Options{
		Secrets: a.cfg.Secrets(), Forward: a.cfg.Forward(), Seen: a.watch.Verified, Put: a.inbox.Put, Log: a.log,
		Registerer: a.metrics,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var parts sync.WaitGroup
	parts.Go(func() { a.inbox.Run(ctx, time.Second) })
	parts.Go(func() { a.watch.Run(ctx) })
	parts.Go(func() { a.freshness.Run(ctx) })
	parts.Go(func() { a.counts.Run(ctx) })
	parts.Go(func() { a.beat(ctx, "old", a.metrics) })
	w.stop = func() { cancel(); parts.Wait() }
}

// beat has a process with these functions take its turns, as it does before each registration.
func (a *App) beat(ctx context.Context, functions string, reg prometheus.Registerer) {
	for r := a.newReplica(InngestServer(a.cfg.Inngest), reg); ctx.Err() == nil; {
		_, _ = r.Beat(ctx, functions) // the database may be away
		select {
		case <-time.After(30 * time.Second):
		case <-ctx.Done():
		}
	}
}

// send is Inngest's API of events.
func (w *world) send(_ context.Context, events []inbox.Event) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.inngestAway || w.flaky && w.luck.IntN(10) == 0 {
		return errors.New("connection refused")
	}
	for _, e := range events {
		w.queue = append(w.queue, testenv.Event{ID: e.ID, Name: e.Name, Data: e.Data, TS: e.TS, V: e.V})
	}
	return nil
}

// runQueue runs the functions of the events at Inngest. What fails stays there.
func (w *world) runQueue() {
	if w.paused || w.inngestAway {
		return
	}
	w.mu.Lock()
	queue := w.queue
	w.queue = nil
	w.mu.Unlock()
	for _, e := range queue {
		fn := map[string]string{
			"clerk/user.created": "sync-user-from-clerk", "clerk/user.updated": "update-user-from-clerk",
			"clerk/user.deleted": "delete-user-with-clerk",
		}[e.Name]
		if err := w.fns.Attempt(w.t.Context(), w.t, fn, e); err != nil {
			w.mu.Lock()
			w.queue = append(w.queue, e)
			w.mu.Unlock()
		}
	}
}

// cron runs a tier as Inngest does: a step that fails is tried again, here at once, and so often that a run fails by
// what lasts alone. Which commands fail is chance, for it depends on the order in which the goroutines come to them.
func (w *world) cron(tier reconcile.Tier) {
	if w.paused || w.inngestAway {
		return
	}
	w.n++
	w.fns.RunID = fmt.Sprint("run-", w.n)
	id := map[reconcile.Tier]string{
		reconcile.Recent: "reconcile-users-with-clerk-recent", reconcile.Absent: "reconcile-users-with-clerk-absent",
		reconcile.Full: "reconcile-users-with-clerk",
	}[tier]
	w.fns.Run(w.t, id, testenv.Event{ID: w.fns.RunID, Name: "inngest/scheduled.timer", Data: []byte(`{"cron":"x"}`)})
}

// signUp adds a user at Clerk.
func (w *world) signUp(at time.Time) *life {
	w.n++
	u := testenv.ClerkUser{
		ID: testenv.UserID(at, int64(w.n)), FirstName: "Ada", Email: fmt.Sprintf("person-%d@mail.example", w.n),
		Created: at.UnixMilli(),
	}
	l := &life{user: u, changes: map[string]time.Time{}}
	w.users[u.ID] = l
	w.rename(l, at)
	return l
}

// rename changes a user at Clerk.
func (w *world) rename(l *life, at time.Time) {
	w.n++
	l.user.LastName, l.user.Updated = fmt.Sprint("Lovelace ", w.n), at.UnixMilli()
	l.changes["Ada "+l.user.LastName] = at
	w.clerk.Put(l.user)
}

// happen changes something at Clerk, which sends a webhook.
func (w *world) happen() {
	now := time.Now()
	var there []string
	for _, id := range slices.Sorted(maps.Keys(w.users)) {
		if w.users[id].deleted.IsZero() {
			there = append(there, id)
		}
	}
	c := change{typ: "user.updated", at: now}
	l := w.users[there[w.rng.IntN(len(there))]]
	switch n := w.rng.IntN(10); {
	case n < 2:
		c.typ, l = "user.created", w.signUp(now)
	case n < 3 && w.rng.IntN(4) == 0: // the brake lets an absent run remove five rows
		c.typ, l.deleted = "user.deleted", now
		w.clerk.Remove(l.user.ID)
	default:
		w.rename(l, now)
	}
	data := string(l.user.JSON())
	if c.typ == "user.deleted" {
		data = fmt.Sprintf(`{"id":%q,"object":"user","deleted":true}`, l.user.ID)
	}
	c.user = l.user.ID
	c.body = fmt.Sprintf(`{"type":%q,"object":"event","timestamp":%d,"instance_id":%q,"data":%s}`,
		c.typ, now.UnixMilli(), testenv.ClerkInstance, data)
	w.late = append(w.late, c)
}

// deliver sends Clerk's webhooks. What is not answered 2xx comes again.
func (w *world) deliver() {
	if w.endpointDead {
		w.late = nil // for longer than any test lasts
	}
	w.late = slices.DeleteFunc(w.late, func(c change) bool {
		secret := cmp.Or(w.secret, testenv.Secret)
		id := fmt.Sprintf("msg_%s_%d", c.user, c.at.UnixNano())
		rec := httptest.NewRecorder()
		w.hook.ServeHTTP(rec, testenv.Signed(w.t, "http://clerksync"+webhook.Path, secret, id, time.Now(),
			[]byte(c.body)))
		return rec.Code/100 == 2
	})
}

// pass lets minutes pass, and scrapes at the end of each.
func (w *world) pass(minutes int) {
	w.t.Helper()
	for range minutes {
		for range time.Minute / tick {
			if w.rng.IntN(w.load) == 0 {
				w.happen()
			}
			w.deliver()
			synctest.Wait()
			w.runQueue()
			time.Sleep(tick)
		}
		switch now := time.Now(); {
		case now.Hour() == 3 && now.Minute() == 7:
			w.cron(reconcile.Full)
		case now.Minute() == 41:
			w.cron(reconcile.Absent)
		case now.Minute()%5 == 0:
			w.cron(reconcile.Recent)
		}
		synctest.Wait()
		w.scrape()
	}
}

// restart ends the service and starts it again.
func (w *world) restart() {
	w.stop()
	w.begin()
}

// upgrade starts a process with newer functions beside the service.
func (w *world) upgrade() {
	ctx, end := context.WithCancel(w.t.Context())
	var running sync.WaitGroup
	running.Go(func() { w.app.beat(ctx, "new", prometheus.NewRegistry()) })
	w.newer = func() { end(); running.Wait() }
}

// drift changes rows behind the back of Clerk and of clerksync: of users who have not changed for long, so that the
// recent tier does not look at them.
func (w *world) drift() {
	var there []testenv.ClerkUser
	for _, l := range w.users {
		if l.deleted.IsZero() {
			there = append(there, l.user)
		}
	}
	slices.SortFunc(there, func(a, b testenv.ClerkUser) int { return cmp.Compare(a.Updated, b.Updated) })
	w.drifted = time.Now()
	for _, u := range there[:5] {
		set := map[string]any{"$set": map[string]any{"full_name": drifted}}
		_, err := w.db.Collection("users").UpdateOne(w.t.Context(), database.ByID(u.ID), set)
		if err != nil {
			w.t.Fatal(err)
		}
	}
}

// drifted is a name that others have written into a row.
const drifted = "Somebody"

// deadLetter makes a dead letter of a change that nobody else brings.
func (w *world) deadLetter() {
	e := inbox.Event{ID: "msg_dead", Name: "clerk/user.updated", Data: []byte("{}"), V: inbox.ClerkTime}
	if err := w.app.inbox.Fail(w.t.Context(), e, inbox.Failure{Error: "the data is not a user"}); err != nil {
		w.t.Fatal(err)
	}
}

// drop drops it.
func (w *world) drop() {
	if err := w.app.inbox.Drop(w.t.Context(), "msg_dead"); err != nil {
		w.t.Fatal(err)
	}
}

// scrape notes all metrics, and compares the bounds with the truth.
func (w *world) scrape() {
	w.t.Helper()
	families, err := w.app.metrics.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	now := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if !strings.HasPrefix(f.GetName(), "clerksync_") || m.GetHistogram() != nil {
				continue
			}
			labels := []string{`instance="a"`, `job="clerksync"`}
			for _, l := range m.GetLabel() {
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			slices.Sort(labels)
			v := m.GetGauge().GetValue() + m.GetCounter().GetValue()
			if strings.HasSuffix(f.GetName(), "_timestamp_seconds") { // promtool's clock begins with 0
				v -= float64(w.start.Unix())
			}
			now[f.GetName()+"{"+strings.Join(labels, ",")+"}"] = v
		}
	}
	w.seen = append(w.seen, now)
	w.check(now)
}

// check fails the test if a bound is less than what is missing.
func (w *world) check(metrics map[string]float64) {
	w.t.Helper()
	names := map[string]string{}
	for _, d := range w.memory.Docs("test", "users") {
		doc := testenv.Doc(d)
		names[doc.Text("_id")] = doc.Text("full_name")
	}
	missing := map[string]time.Duration{"changes": 0, "deletions": 0}
	note := func(scope string, since time.Time) { missing[scope] = max(missing[scope], time.Since(since)) }
	for id, l := range w.users {
		name, there := names[id]
		if !l.deleted.IsZero() {
			if there {
				note("deletions", l.deleted)
			}
			continue
		}
		for _, at := range l.changes {
			if name != drifted && (!there || at.After(l.changes[name])) {
				note("changes", at)
			}
		}
	}
	missing["all"] = max(missing["changes"], missing["deletions"])
	if !w.drifted.IsZero() && slices.Contains(slices.Collect(maps.Values(names)), drifted) {
		note("all", w.drifted)
	}
	for scope, age := range missing {
		bound := metrics[`clerksync_staleness_bound_seconds{instance="a",job="clerksync",scope="`+scope+`"}`]
		if age.Seconds() > bound {
			w.t.Errorf("%s: what is missing is %s old, and the bound is %.0f s", time.Now().Format(time.TimeOnly), age,
				bound)
		}
	}
}

// ruleTest is a test for promtool: https://prometheus.io/docs/prometheus/latest/configuration/unit_testing_rules/
type ruleTest struct {
	Name     string       `yaml:"name"`
	Interval string       `yaml:"interval"`
	Series   []ruleSeries `yaml:"input_series"`
	Queries  []ruleQuery  `yaml:"promql_expr_test"`
}

type ruleSeries struct {
	Series string `yaml:"series"`
	Values string `yaml:"values"`
}

type ruleQuery struct {
	Expr    string       `yaml:"expr"`
	At      string       `yaml:"eval_time"`
	Samples []ruleSample `yaml:"exp_samples"`
}

type ruleSample struct {
	Labels string  `yaml:"labels"`
	Value  float64 `yaml:"value"`
}

// silent asks that no alert fired until a minute, other than those named.
func silent(until int, but ...string) ruleQuery {
	return ruleQuery{
		Expr: fmt.Sprintf(`count by (alertname) (count_over_time(ALERTS{alertstate="firing", alertname!~"%s"}[%dm]))`,
			strings.Join(append(but, "-"), "|"), until+1),
		At: fmt.Sprint(until, "m"),
	}
}

// fires asks that an alert fires at a minute.
func fires(alert string, at int) ruleQuery {
	return ruleQuery{
		Expr: fmt.Sprintf(`count(count by (alertname) (ALERTS{alertstate="firing", alertname=%q}))`, alert),
		At:   fmt.Sprint(at, "m"), Samples: []ruleSample{{"{}", 1}},
	}
}

// test returns what promtool is to check of what the scrapes have seen.
func (w *world) test(name string, queries ...ruleQuery) ruleTest {
	all := map[string]bool{}
	for _, scrape := range w.seen {
		for series := range scrape {
			all[series] = true
		}
	}
	test := ruleTest{Name: name, Interval: "1m", Queries: queries}
	for _, series := range slices.Sorted(maps.Keys(all)) {
		values, was := make([]string, len(w.seen)), false
		for i, scrape := range w.seen {
			v, is := scrape[series]
			switch {
			case is:
				values[i] = strconv.FormatFloat(v, 'f', -1, 64)
			case was:
				values[i] = "stale"
			default:
				values[i] = "_"
			}
			was = is
		}
		test.Series = append(test.Series, ruleSeries{series, strings.Join(values, " ")})
	}
	return test
}

// promtool has promtool evaluate the alert rules over what the scrapes have seen.
func promtool(t *testing.T, tests []ruleTest) {
	t.Helper()
	rules, err := filepath.Abs(filepath.Join("..", "deploy", "prometheus", "alerts.yml"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := yaml.Marshal(map[string]any{
		"rule_files": []string{rules}, "evaluation_interval": "1m", "tests": tests,
	})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "test.yml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program.Find(t, program.Promtool()), "test", "rules", file)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestFaultsAreAlarmed: each fault has its alert fire within the time that docs/operations.md says, no alert but those
// that the fault explains does, and each goes when the fault is over. At every minute the bounds hold (see check).
func TestFaultsAreAlarmed(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it lets ten hours pass")
	}
	program.Find(t, program.Promtool())
	const before = 15 // minutes
	var mu sync.Mutex
	var tests []ruleTest
	t.Run("faults", func(t *testing.T) {
		for name, tc := range map[string]struct {
			fault   func(w *world)
			over    func(w *world)
			alerts  map[string]int // which have to fire, and how many minutes after the fault at most
			also    []string       // which may fire too
			minutes int            // from the fault until it is over
			after   int            // minutes until no alert is left
		}{
			"the endpoint is dead": {
				fault:  func(w *world) { w.endpointDead = true },
				alerts: map[string]int{"ClerksyncNoWebhooks": 25}, minutes: 30, after: 10,
			},
			"Inngest is away": {
				fault: func(w *world) { w.inngestAway = true },
				alerts: map[string]int{
					"ClerksyncInngestAway": 10, "ClerksyncEventsWait": 15, "ClerksyncChangesLate": 20,
				},
				minutes: 30, after: 15,
			},
			"the functions are paused": {
				fault:   func(w *world) { w.paused = true },
				alerts:  map[string]int{"ClerksyncEventsWait": 15, "ClerksyncChangesLate": 20},
				minutes: 30, after: 15,
			},
			"the database is away": {
				fault:   func(w *world) { w.databaseAway = true },
				alerts:  map[string]int{"ClerksyncDatabaseAway": 5, "ClerksyncChangesLate": 20},
				also:    []string{"ClerksyncEventsWait"}, // as they were last seen
				minutes: 30, after: 15,
			},
			"Clerk's key is revoked": {
				fault:   func(w *world) { w.clerk.SetKey("sk_live_another") },
				over:    func(w *world) { w.clerk.SetKey(testenv.ClerkKey) },
				alerts:  map[string]int{"ClerksyncTierFails": 25, "ClerksyncChangesLate": 20},
				minutes: 40, after: 65, // the absent tier runs again within the hour
			},
			"rows drift": {
				fault: func(w *world) {
					w.drift()
					w.load = 10_000 // a webhook of these users would mend their rows
				},
				// The full tier finds it at 03:07.
				alerts: map[string]int{"ClerksyncDrift": 65}, minutes: 70, after: 0,
			},
			"the signing secret is wrong": {
				fault:  func(w *world) { w.secret = "whsec_" + strings.Repeat("b", 32) },
				over:   func(w *world) { w.secret = testenv.Secret },
				alerts: map[string]int{"ClerksyncSecretWrong": 40, "ClerksyncNoWebhooks": 25}, minutes: 45, after: 35,
			},
			"an event fails for good": {
				fault:  func(w *world) { w.deadLetter() },
				alerts: map[string]int{"ClerksyncDeadLetters": 2, "ClerksyncChangesLate": 16}, minutes: 20,
				over: func(w *world) { w.drop() }, after: 3,
			},
			"an upgrade is not finished": {
				fault:  func(w *world) { w.upgrade() },
				alerts: map[string]int{"ClerksyncFunctionsOutdated": 33}, minutes: 40,
				over: func(w *world) { w.newer() }, after: 4,
			},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, 1)
					w.pass(before)
					tc.fault(w)
					w.pass(tc.minutes)
					queries := []ruleQuery{silent(before - 1)}
					var may []string
					for alert, within := range tc.alerts {
						queries = append(queries, fires(alert, before+within))
						may = append(may, alert)
					}
					last := before + tc.minutes + tc.after - 1
					queries = append(queries, silent(last, append(may, tc.also...)...))
					if tc.after > 0 {
						w.faults = faults{}
						if tc.over != nil {
							tc.over(w)
						}
						w.pass(tc.after)
						queries = append(queries, ruleQuery{
							Expr: `count(ALERTS{alertstate="firing"})`, At: fmt.Sprint(last, "m"),
						})
					}
					w.stop()
					mu.Lock()
					defer mu.Unlock()
					tests = append(tests, w.test(name, queries...))
				})
			})
		}
	})
	promtool(t, tests)
}

// TestNoFalseAlarm: ten runs with load, restarts, and commands and sendings that fail now and then, have no alert.
func TestNoFalseAlarm(t *testing.T) {
	t.Parallel()
	program.Find(t, program.Promtool())
	var mu sync.Mutex
	var tests []ruleTest
	t.Run("runs", func(t *testing.T) {
		runs := 10
		if testing.Short() {
			runs = 1
		}
		for seed := range runs {
			t.Run(fmt.Sprint(seed), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, uint64(seed))
					w.load = 1 + seed%3
					w.flaky = true
					for range cmp.Or(map[bool]int{true: 2}[testing.Short()], 9) {
						w.pass(5 + w.rng.IntN(10))
						if w.rng.IntN(2) == 0 {
							w.restart()
						}
					}
					w.stop()
					mu.Lock()
					defer mu.Unlock()
					tests = append(tests, w.test(fmt.Sprint("clean run ", seed), silent(len(w.seen)-1)))
				})
			})
		}
	})
	promtool(t, tests)
}

// TestRestoredBackup: when a backup of the database is restored, the bounds are right at once, and the collection is
// not trusted until the tiers have caught up. Nor is it after the map was switched.
func TestRestoredBackup(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		trusted := func() float64 {
			return w.seen[len(w.seen)-1][`clerksync_collection_trusted{instance="a",job="clerksync"}`]
		}
		w.pass(8)
		if trusted() != 1 {
			t.Errorf("before the backup: got %+v", w.app.freshness.Report())
		}
		backup := map[string][]any{}
		for _, name := range []string{"users", "clerksync_deleted_users", "clerksync_inbox", "clerksync_state"} {
			for _, doc := range w.memory.Docs("test", name) {
				backup[name] = append(backup[name], doc)
			}
		}
		w.pass(55)
		w.stop()
		w.memory.Clear()
		for name, docs := range backup {
			if len(docs) == 0 {
				continue
			}
			if _, err := w.db.Collection(name).InsertMany(t.Context(), docs); err != nil {
				t.Fatal(err)
			}
		}
		w.begin()
		w.pass(1)
		if trusted() != 0 {
			t.Errorf("after the restore: got %+v", w.app.freshness.Report())
		}
		w.pass(7)
		if trusted() != 1 {
			t.Errorf("after the next recent run: got %+v", w.app.freshness.Report())
		}
		w.pass(60)
		if err := SwitchMap(t.Context(), w.db, mapping.Default()); err != nil {
			t.Fatal(err)
		}
		w.stop()
		w.mapID = "another"
		w.begin()
		time.Sleep(time.Minute)
		w.stop()
		if r := w.app.freshness.Report(); r.Trusted || r.Changes.State != freshness.Unproven {
			t.Errorf("after the map was switched: got %+v", r)
		}
	})
}
