// Package e2e_test runs the built binary, a real Inngest server and a database, each in a process of its own.
package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"clerksync/clerk"
	"clerksync/internal/child"
	"clerksync/internal/testenv"
	"clerksync/store/database"
	"clerksync/store/embedded"

	"golang.org/x/sync/errgroup"
)

// TestHistories: 200 users with histories of one to six webhooks end equal to Clerk, however the webhooks arrive.
func TestHistories(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		shuffled    bool // and a fifth of them doubled
		killInngest bool
	}{
		"once and in order":    {},
		"shuffled and doubled": {shuffled: true},
		"Inngest killed":       {shuffled: true, killInngest: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, options{env: []string{manyEvents}})
			seed := uint64(time.Now().UnixNano())
			t.Logf("seed %d", seed)
			rng := rand.New(rand.NewPCG(seed, 0))
			histories := testenv.Histories(t, rng, 200)
			if tc.shuffled {
				w.deliverAll(shuffled(rng, histories), tc.killInngest)
			} else {
				var g errgroup.Group
				g.SetLimit(16)
				for _, h := range histories {
					g.Go(func() error {
						for _, hook := range h.Webhooks {
							w.deliver(hook)
						}
						return nil
					})
				}
				_ = g.Wait() // deliver fails the test
			}
			w.drained()
			w.compare(histories)
		})
	}
}

// shuffled returns all webhooks in a random order, a fifth of them twice.
func shuffled(rng *rand.Rand, histories []testenv.History) []testenv.Webhook {
	var hooks []testenv.Webhook
	for _, h := range histories {
		for _, hook := range h.Webhooks {
			hooks = append(hooks, hook)
			if rng.IntN(5) == 0 {
				hooks = append(hooks, hook)
			}
		}
	}
	rng.Shuffle(len(hooks), func(i, j int) { hooks[i], hooks[j] = hooks[j], hooks[i] })
	return hooks
}

// deliverAll delivers the webhooks, 16 at a time; halfway it may kill Inngest, which comes back a second later.
func (w *world) deliverAll(hooks []testenv.Webhook, killInngest bool) {
	w.t.Helper()
	var g errgroup.Group
	g.SetLimit(16)
	for i, hook := range hooks {
		if killInngest && i == len(hooks)/2 {
			if err := w.inngest.Kill(); err != nil {
				w.t.Fatal(err)
			}
			g.Go(func() error {
				<-time.After(time.Second)
				w.startInngest()
				return nil
			})
		}
		g.Go(func() error { w.deliver(hook); return nil })
	}
	_ = g.Wait() // deliver fails the test
}

// compare checks the rows against the truth.
func (w *world) compare(histories []testenv.History) {
	w.t.Helper()
	wrong := testenv.CheckAll(histories, w.row)
	for _, d := range wrong[:min(3, len(wrong))] {
		w.t.Error(d)
	}
	if len(wrong) > 0 {
		w.t.Errorf("%d faults in %d rows", len(wrong), len(histories))
	}
}

// life returns a user with two webhooks and a deletion.
func life(t *testing.T, id string) (created, updated, deleted testenv.Webhook) {
	t.Helper()
	hook := func(typ string, at int64, data map[string]any) testenv.Webhook {
		data["id"], data["object"] = id, "user"
		raw, err := json.Marshal(data)
		if err != nil {
			t.Fatal(err)
		}
		body, err := json.Marshal(map[string]any{"type": typ, "object": "event", "timestamp": at + 20, "data": json.RawMessage(raw)})
		if err != nil {
			t.Fatal(err)
		}
		return testenv.Webhook{ID: "msg_" + id + typ, Type: typ, Body: body, Data: raw}
	}
	user := func(last string, at int64) map[string]any {
		return map[string]any{"first_name": "Ada", "last_name": last, "image_url": "", "created_at": 1767603600000, "updated_at": at}
	}
	return hook("user.created", 1767603600000, user("Byron", 1767603600000)),
		hook("user.updated", 1767603700000, user("King", 1767603700000)),
		hook("user.deleted", 1767603800000, map[string]any{"deleted": true})
}

// TestOrder: whatever arrives first, and twice, the row ends as the newest says.
func TestOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{env: []string{"INBOX_RESEND_AFTER=1s"}}) // what comes twice is sent again, after that time
	var created, updated, deleted testenv.Webhook
	for name, tc := range map[string]struct {
		hooks func() []testenv.Webhook
		want  string // full name, or "" for no row
	}{
		"created":              {func() []testenv.Webhook { return []testenv.Webhook{created} }, "Ada Byron"},
		"updated":              {func() []testenv.Webhook { return []testenv.Webhook{created, updated} }, "Ada King"},
		"deleted":              {func() []testenv.Webhook { return []testenv.Webhook{created, updated, deleted} }, ""},
		"the duplicate":        {func() []testenv.Webhook { return []testenv.Webhook{created, created, updated, created, updated} }, "Ada King"},
		"update before create": {func() []testenv.Webhook { return []testenv.Webhook{updated, created} }, "Ada King"},
		"delete before create": {func() []testenv.Webhook { return []testenv.Webhook{deleted, created, updated} }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			id := "user_" + strings.ReplaceAll(name, " ", "")
			created, updated, deleted = life(t, id)
			for _, hook := range tc.hooks() {
				w.deliver(hook)
				w.drained() // so that they are written in this order
			}
			got := ""
			if r := w.row(id); r != nil {
				got = r.FullName
			}
			if got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
	for _, outcome := range []string{"created", "updated", "stale", "deleted"} {
		w.until("a run has the outcome "+outcome+" on Inngest's page", func() bool {
			return strings.Contains(strings.Join(w.outputs(), " "), `"outcome":"`+outcome+`"`)
		})
	}
}

// outputs returns what Inngest's page shows of the runs: what each returned.
func (w *world) outputs() []string {
	w.t.Helper()
	type run struct{ ID, Output string }
	var list struct {
		Runs struct{ Edges []struct{ Node run } }
	}
	w.graphql(`{runs(first:100,orderBy:[{field:QUEUED_AT,direction:DESC}],filter:{from:"2020-01-01T00:00:00Z"}){edges{node{id}}}}`, &list)
	var ask strings.Builder // for each by itself: the list has them without their outputs, from v1.18 on
	for i, e := range list.Runs.Edges {
		fmt.Fprintf(&ask, "r%d:run(runID:%q){id output}", i, e.Node.ID)
	}
	var runs map[string]run
	w.graphql("{"+ask.String()+"}", &runs)
	var outputs []string
	for _, r := range runs {
		outputs = append(outputs, r.Output)
	}
	return outputs
}

// graphql asks Inngest what its page asks.
func (w *world) graphql(query string, data any) {
	w.t.Helper()
	body, err := json.Marshal(map[string]string{"query": query})
	if err != nil {
		w.t.Fatal(err)
	}
	res, err := http.Post(w.inngest.URL()+"/v0/gql", "application/json", bytes.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	answer := struct{ Data any }{data} // its errors name the runs that have not ended
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		w.t.Fatalf("%s: %v", query, err)
	}
}

// integrate sends an event as Inngest's own Clerk integration does: no id, and the time of arrival.
func (w *world) integrate(name string, data any) {
	w.t.Helper()
	if err := w.send(name, data); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) send(name string, data any) error {
	b, err := json.Marshal(map[string]any{"name": name, "data": data})
	if err != nil {
		return err
	}
	w.keepPrivate(b)
	url := fmt.Sprintf("http://127.0.0.1:%d/e/dev", w.port)
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, url, bytes.NewReader(b))
	if err != nil {
		return err
	}
	res, err := (&http.Client{Timeout: 15 * time.Second}).Do(req)
	if err != nil {
		return err
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return errors.New(res.Status)
	}
	return nil
}

// TestBothSources: the same changes through Inngest's integration, through the webhook, and through both, flat, nested
// and enveloped, write the same rows.
func TestBothSources(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	rng := rand.New(rand.NewPCG(1, 2))
	// What differs in the envelope's time alone comes in the order of arrival by the integration alone.
	histories := slices.DeleteFunc(testenv.Histories(t, rng, 60), func(h testenv.History) bool { return h.Tie })
	for i, h := range histories {
		for _, hook := range h.Webhooks {
			if i%4 < 3 {
				data := []any{
					hook.Data, map[string]any{"data": hook.Data, "headers": map[string]string{}}, json.RawMessage(hook.Body),
				}[i%4]
				w.integrate("clerk/"+hook.Type, data)
			}
			if i%2 == 1 {
				w.deliver(hook)
			}
		}
	}
	w.drained()
	w.until("the rows are right", func() bool { // nothing but the rows tells when those without an inbox row are written
		return len(testenv.CheckAll(histories, w.row)) == 0
	})
}

// TestInngestDown: webhooks are accepted while Inngest is down, and written when it is back.
func TestInngestDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	if err := w.inngest.Kill(); err != nil {
		t.Fatal(err)
	}
	created, _, _ := life(t, "user_down")
	if code, _ := w.post(created); code != http.StatusAccepted {
		t.Errorf("got %d, want 202", code)
	}
	if code, body := w.get("/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(body, `"inngest":"cannot be reached"`) {
		t.Errorf("readyz: %d %s, want 503", code, body)
	}
	if code, body := w.get("/healthz"); code != http.StatusOK {
		t.Errorf("healthz: %d %s, want 200", code, body)
	}
	w.startInngest()
	w.drained()
	if r := w.row("user_down"); r == nil || r.FullName != "Ada Byron" {
		t.Errorf("got %+v", r)
	}
}

func (w *world) get(path string) (int, string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 15*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.url+path, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	_, _ = w.log.Write(b) // never fails
	return res.StatusCode, string(b)
}

// TestDatabaseKilled: while the database is down webhooks get 503 within Clerk's patience, so that Clerk comes again;
// when it is back nothing is missing.
func TestDatabaseKilled(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{ownDatabase: true})
	rng := rand.New(rand.NewPCG(3, 4))
	histories := testenv.Histories(t, rng, 30)
	hooks := shuffled(rng, histories)
	var wg sync.WaitGroup
	wg.Go(func() { w.deliverAll(hooks, false) })
	w.until("some rows are there", func() bool {
		return slices.ContainsFunc(histories, func(h testenv.History) bool { return w.row(h.UserID) != nil })
	})
	kill(w.db)
	created, _, _ := life(t, "user_refused")
	start := time.Now()
	code, header := w.post(created)
	if code != http.StatusServiceUnavailable || header.Get("Retry-After") == "" {
		t.Errorf("got %d, Retry-After %q, want 503 with Retry-After", code, header.Get("Retry-After"))
	}
	if took := time.Since(start); took > 12*time.Second {
		t.Errorf("the answer took %v", took)
	}
	w.startDatabase()
	wg.Wait()
	w.drained()
	w.compare(histories)
}

// TestServiceKilled: what was accepted before a SIGKILL is written after the restart.
func TestServiceKilled(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	rng := rand.New(rand.NewPCG(5, 6))
	histories := testenv.Histories(t, rng, 40)
	hooks := shuffled(rng, histories)
	w.deliverAll(hooks, false)
	kill(w.service)
	w.startService()
	w.drained()
	w.compare(histories)
}

// TestPoison: an event that can never be written becomes a dead letter after one try, and holds up nobody in its burst.
func TestPoison(t *testing.T) {
	t.Parallel()
	// Sent again before the first failure is known, it would fail twice.
	w := newWorld(t, options{env: []string{"INBOX_RESEND_AFTER=1h"}})
	histories := testenv.Histories(t, rand.New(rand.NewPCG(9, 10)), 20)
	hooks := shuffled(rand.New(rand.NewPCG(9, 10)), histories)
	poison := testenv.Webhook{ID: "msg_poison", Body: []byte(`{"type":"user.created","data":{"object":"user","first_name":"Ada"}}`)}
	w.deliverAll(slices.Insert(hooks, len(hooks)/2, poison), false)
	w.until("only the bad one is left", func() bool {
		n, err := w.store.Collection("clerksync_inbox").CountDocuments(t.Context(), struct{}{})
		return err == nil && n == 1
	})
	w.compare(histories)
	w.until("it is marked failed", func() bool {
		return w.log.count(`"svix_id":"msg_poison","function":"clerksync-sync-user-from-clerk"`) == 1
	})
	if code, body := w.get("/metrics"); code != 200 || !strings.Contains(body, "clerksync_inbox_failed_total 1") {
		t.Errorf("metrics: %d, want one failed event", code)
	}
	show := w.command("deadletters", "show", "msg_poison")
	for _, want := range []string{"clerk/user.created", "sent      once", "function  clerksync-sync-user-from-clerk", "error     not a Clerk user: it has no id"} {
		if !strings.Contains(show, want) {
			t.Errorf("show has no %q:\n%s", want, show)
		}
	}
	w.command("deadletters", "replay", "msg_poison")
	w.until("it has failed again", func() bool { return strings.Contains(w.command("deadletters", "list"), "msg_poison") })
	if show := w.command("deadletters", "show", "msg_poison"); strings.Contains(show, "sent      once") {
		t.Errorf("want it sent again:\n%s", show)
	}
}

// TestDeadLetterOfIntegration: an event of Inngest's own integration that failed for good is kept too, and replayed
// when its cause is mended.
func TestDeadLetterOfIntegration(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	restart := func(instance string) {
		kill(w.service)
		w.env = append(w.env, "CLERK_INSTANCE_ID="+instance)
		w.startService()
	}
	restart("ins_other")
	h := testenv.Histories(t, rand.New(rand.NewPCG(11, 12)), 1)[0]
	w.integrate("clerk/user.created", json.RawMessage(h.Webhooks[0].Body)) // an envelope, which names its instance
	w.until("it is a dead letter", func() bool { return strings.Contains(w.command("deadletters", "list"), "another Clerk instance") })
	if w.row(h.UserID) != nil {
		t.Error("it was written")
	}
	restart("ins_2e2e")
	if got, want := w.command("deadletters", "replay", "--all"), "1 will be sent again\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	w.until("it is written", func() bool { return w.row(h.UserID) != nil })
	w.drained()
	if got, want := w.command("deadletters", "list"), "no dead letters\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// command runs clerksync beside the service and returns what it prints.
func (w *world) command(args ...string) string {
	w.t.Helper()
	cmd := exec.CommandContext(w.t.Context(), programs.clerksync, args...)
	cmd.Env = w.env
	out, err := cmd.CombinedOutput()
	if err != nil {
		w.t.Fatalf("clerksync %v: %v\n%s", args, err, out)
	}
	_, _ = w.log.Write(out) // never fails
	return string(out)
}

// TestNothingPrivate: whatever goes wrong, no log, metric, answer, help, error or process list holds a secret or a
// user's address. Every world checks its own at its end; this one provokes what the others do not.
func TestNothingPrivate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{ownDatabase: true})
	rng := rand.New(rand.NewPCG(13, 14))
	histories := testenv.Histories(t, rng, 20)
	w.deliverAll(shuffled(rng, histories), false)
	for i, h := range histories {
		body := h.Webhooks[0].Body
		w.post(testenv.Webhook{ID: fmt.Sprint("msg_number_", i), Body: bytes.Replace(body, []byte(`"image_url":`), []byte(`"image_url":4242,"x":`), 1)}) // an error that could quote it
		w.post(testenv.Webhook{ID: fmt.Sprint("msg_cut_", i), Body: body[:len(body)-1]})
		w.integrate("clerk/user.updated", json.RawMessage(bytes.ReplaceAll(h.Webhooks[0].Data, []byte(`"id":"user_`), []byte(`"id":"\u0001user_`))))
	}
	dead := []string{"msg_number_", `no Clerk id`, `"image_url" is a number`}
	w.until("the bad ones are dead letters", func() bool {
		list := w.command("deadletters", "list")
		return !slices.ContainsFunc(dead, func(s string) bool { return !strings.Contains(list, s) })
	})
	for id := range strings.FieldsSeq(w.command("deadletters", "list")) {
		if strings.HasPrefix(id, "msg_") {
			w.command("deadletters", "show", id)
		}
	}
	if err := w.inngest.Kill(); err != nil {
		t.Fatal(err)
	}
	w.deliver(histories[0].Webhooks[0])
	w.get("/readyz")
	kill(w.db)
	w.post(histories[0].Webhooks[0])
	w.get("/readyz")
	w.get("/metrics")
	w.command("--help")
	w.command("serve", "--help")
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", w.service.PID()))
	if err != nil && runtime.GOOS == "linux" {
		t.Error(err)
	}
	_, _ = w.log.Write(bytes.ReplaceAll(b, []byte{0}, []byte{' '})) // never fails
	for _, wrong := range []string{"MONGODB_URI=mongodb://u:e2e-password@h:x/y", "INNGEST_SIGNING_KEY=e2e-password", "CLERK_WEBHOOK_SIGNING_SECRET=e2e-password", "SHUTDOWN_TIMEOUT=e2e-password"} {
		cmd := exec.CommandContext(t.Context(), programs.clerksync, "serve")
		cmd.Env = append(slices.Clone(w.env), wrong)
		out, err := cmd.CombinedOutput()
		if err == nil || bytes.Contains(out, []byte("e2e-password")) {
			t.Errorf("with %s: %v, %s", wrong, err, out)
		}
		_, _ = w.log.Write(out) // never fails
	}
	n := 0
	w.private.Range(func(any, any) bool { n++; return true })
	if n < 10 {
		t.Errorf("looked for %d addresses and numbers, want more", n)
	}
}

// TestShutdown: SIGTERM ends the service with status 0, and what it had accepted is written by the next.
func TestShutdown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	rng := rand.New(rand.NewPCG(7, 8))
	histories := testenv.Histories(t, rng, 20)
	w.deliverAll(shuffled(rng, histories), false)
	if err := w.service.Terminate(); err != nil {
		t.Fatal(err)
	}
	if err := w.service.Wait(); err != nil {
		t.Errorf("got %v, want status 0", err)
	}
	w.startService()
	w.drained()
	w.compare(histories)
}

// TestDemo is the first command of the README.
func TestDemo(t *testing.T) {
	t.Parallel()
	endToEnd(t)
	dir, env := t.TempDir(), []string{"PATH=/usr/bin:/bin", "HOME=" + t.TempDir(), "INNGEST_CLI=" + programs.inngest.Path}
	demo := func() (string, error) {
		var out bytes.Buffer
		cmd := exec.CommandContext(t.Context(), programs.clerksync, "dev", "--demo")
		cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, env, &out, &out
		err := child.Run(cmd)
		return out.String(), err
	}
	out, err := demo()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{`"full_name": "Ada Lovelace"`, `"full_name": "Ada King"`, "(no row)", "Inngest     http://127.0.0.1:", "mongodb://127.0.0.1:"} {
		if !strings.Contains(out, want) {
			t.Errorf("the output has no %s:\n%s", want, out)
		}
	}
	if out, err := demo(); err != nil {
		t.Errorf("the second time: %v\n%s", err, out)
	}
}

// TestBackfillAndReconcile: a backfill that is killed three times ends complete, each time from where it was. Then one
// in 50 users is changed, removed or added behind its back, on either side; a reconcile finds and repairs all of it,
// and a second nothing.
func TestBackfillAndReconcile(t *testing.T) {
	t.Parallel()
	endToEnd(t)
	fake := testenv.NewClerkAPI(t)
	const n = 200 * every
	people := testenv.People(n)
	fake.Put(people...)
	dir := filepath.Join(t.TempDir(), "data")
	env := []string{
		"MONGODB_URI=embedded:" + dir,
		"CLERK_SECRET_KEY=" + testenv.ClerkKey, "CLERK_API_URL=" + fake.URL, "CLERK_RATE_SHARE=1", "RECONCILE_MAX_DELETE=2%", "CLERK_INSTANCE_ID=" + testenv.ClerkInstance,
	}
	var out bytes.Buffer
	command := func(args ...string) *child.Process {
		out.Reset()
		cmd := exec.CommandContext(t.Context(), programs.clerksync, args...)
		cmd.Env, cmd.Stdout, cmd.Stderr = env, &out, &out
		p, err := child.Start(cmd)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	for i := range 3 {
		pages := len(fake.Requests())
		cmd := command("backfill")
		until(t, "it has got on", time.Minute, func() bool { return len(fake.Requests()) > pages+5 })
		kill(cmd)
		if went := strings.Contains(out.String(), "going on after"); went != (i > 0) {
			t.Errorf("run %d: got %s", i, &out)
		}
	}
	if got := len(fake.Requests()); got >= n/500 {
		t.Fatalf("it was complete before it was killed: %d requests", got)
	}
	for _, run := range []struct {
		args []string
		want string
	}{
		{[]string{"backfill"}, "10000 users: "},
		{[]string{"backfill", "--dry-run"}, "10000 users (nothing was written): 0 created, 0 updated, 10000 unchanged, 0 stale, 0 deleted, 0 failed"},
	} {
		if err := command(run.args...).Wait(); err != nil || !strings.Contains(out.String(), run.want) {
			t.Errorf("%v: %v, got %s, want %s", run.args, err, &out, run.want)
		}
	}

	disturb(t, dir, fake, people)
	const drift = "missing, 90 stale, 70 extra"
	for _, run := range []struct {
		args []string
		want string
	}{
		{[]string{"reconcile", "--dry-run"}, "10000 users at Clerk, 10030 rows: 40 " + drift + " (nothing was written), 0 failed"},
		{[]string{"reconcile"}, "10000 users at Clerk, 10030 rows: 40 " + drift + " (repaired), 0 failed"},
		{[]string{"reconcile"}, "10000 users at Clerk, 10000 rows: 0 missing, 0 stale, 0 extra (repaired), 0 failed"},
	} {
		if err := command(run.args...).Wait(); err != nil || !strings.Contains(out.String(), run.want) {
			t.Errorf("%v: %v, got …%s, want %s", run.args, err, out.String()[max(0, out.Len()-300):], run.want)
		}
	}
}

// every is how many users there are to one that is disturbed.
const every = 50

// disturb makes a drift of 200 rows behind the sync's back: 50 users are changed at Clerk and 40 in the database, 10
// rows are removed and 40 added, and 30 users are deleted at Clerk and 30 made.
func disturb(t *testing.T, dir string, fake *testenv.ClerkAPI, people []testenv.ClerkUser) {
	t.Helper()
	engine, err := embedded.Start(t.Context(), dir, "127.0.0.1:0", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	db, err := database.Connect(t.Context(), engine.URI(), "clerksync")
	if err != nil {
		t.Fatal(err)
	}
	rows := db.Collection("users")
	fail := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	type doc map[string]any
	next := 0
	take := func(n int, do func(p testenv.ClerkUser)) {
		for i := range n { // spread over all
			do(people[(next+i)*every])
		}
		next += n
	}
	others := int64(0)
	other := func() string { // an id that nobody has
		others++
		return testenv.UserID(time.Unix(1_767_603_600, 0), others)
	}
	take(50, func(p testenv.ClerkUser) { p.FirstName = "Augusta"; fake.Put(p) })
	take(40, func(p testenv.ClerkUser) {
		_, err := rows.UpdateOne(t.Context(), doc{"_id": p.ID}, doc{"$set": doc{"full_name": "Nobody", "email": "nobody@x.example"}})
		fail(err)
	})
	take(10, func(p testenv.ClerkUser) { _, err := rows.DeleteOne(t.Context(), doc{"_id": p.ID}); fail(err) })
	take(30, func(p testenv.ClerkUser) { fake.Remove(p.ID); p.ID = other(); p.Created++; fake.Put(p) })
	for i := range 40 {
		state := doc{"version": "1767603600000.1767603600000"} // as of a row that clerksync has written
		_, err := rows.InsertOne(t.Context(), doc{"_id": other(), "username": fmt.Sprintf("ghost%d", i), "clerk": state})
		fail(err)
	}
	fail(db.Close(t.Context()))
	fail(engine.Close())
}

// TestReconcileByCron: what no webhook brought is repaired by the recent tier, which Inngest's cron starts, while
// webhooks arrive; a user who was deleted unseen goes by the absent tier. A key that is no longer accepted deletes
// nobody.
func TestReconcileByCron(t *testing.T) {
	t.Parallel()
	fake := testenv.NewClerkAPI(t)
	people := testenv.People(300)
	now := time.Now().Add(-20 * time.Minute).UnixMilli()
	for i := range people {
		people[i].Created, people[i].Updated = now+int64(i), now+int64(i)
	}
	fake.Put(people...)
	w := newWorld(t, options{env: []string{
		"CLERK_SECRET_KEY=" + testenv.ClerkKey, "CLERK_API_URL=" + fake.URL, "RECONCILE_RECENT_CRON=* * * * *", "RECONCILE_ABSENT_CRON=0 0 1 1 *",
	}})
	var histories []testenv.History
	for _, h := range testenv.Histories(t, rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0)), 40) {
		if h.Tie { // the API says when it was asked, and these lived before
			continue
		}
		histories = append(histories, h)
		if last := h.Webhooks[len(h.Webhooks)-1]; last.Type != clerk.UserDeleted {
			fake.Put(last.APIUser(t))
		}
	}
	for _, h := range histories {
		for _, hook := range h.Webhooks {
			w.deliver(hook)
		}
	}
	w.until("the cron has repaired all", func() bool { return w.row(people[0].ID) != nil && w.row(people[299].ID) != nil })
	w.drained()
	for _, d := range testenv.CheckAll(histories, w.row) {
		t.Error(d)
	}

	fake.Remove(people[17].ID, people[18].ID)
	w.invoke("reconcile-users-with-clerk-absent")
	w.until("the absent tier has removed them", func() bool { return w.row(people[17].ID) == nil && w.row(people[18].ID) == nil })

	fake.Remove(people[19].ID)
	fake.SetKey("sk_live_another")
	w.invoke("reconcile-users-with-clerk")
	w.until("the full tier has failed", func() bool { return w.log.count("the reconcile has failed") > 0 })
	if w.row(people[19].ID) == nil {
		t.Error("a key that is not accepted has deleted a user")
	}
}
