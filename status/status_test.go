package status

import (
	"context"
	"errors"
	"fmt"
	"html"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"clerksync/activity"
	"clerksync/clerk"
	"clerksync/freshness"
	"clerksync/functions"
	"clerksync/inbox"
	"clerksync/inngest"
	"clerksync/internal/testenv"
	"clerksync/reconcile"
	"clerksync/store"
	"clerksync/store/database"
	"clerksync/store/mapping"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

const evil = `<script>alert(1)</script>"'><img src=x onerror=alert(2)>`

// put writes the row of a user, as a webhook does.
func put(t *testing.T, p *Page, u clerk.User) {
	t.Helper()
	testenv.Write(t, p.Users, store.Write{
		User: u, EventTime: store.EventTime{Clerk: clerk.Millis(time.Now().UnixMilli())},
		Source: store.Source{Kind: "webhook", ID: "msg_" + u.ID},
	})
}

// fail makes a dead letter.
func fail(t *testing.T, p *Page, id string, at time.Time, f inbox.Failure) {
	t.Helper()
	box := inbox.New(inbox.Options{DB: p.DB, Log: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	e := inbox.Event{ID: id, Name: "clerk/user.created", TS: at.UnixMilli(), Data: []byte(`{}`)}
	if err := box.Fail(t.Context(), e, f); err != nil {
		t.Fatal(err)
	}
}

// page returns the page as its visitors see it just now.
func page(t *testing.T, p *Page) string {
	t.Helper()
	p.forget()
	res, body := do(p, bearer(get("/status"), token))
	if res.StatusCode != http.StatusOK {
		t.Fatalf("got %d %s", res.StatusCode, body)
	}
	return body
}

// has tells what of the page is missing.
func has(t *testing.T, page string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(html.UnescapeString(page), w) {
			t.Errorf("the page lacks %q:\n%s", w, page)
		}
	}
}

func hasNot(t *testing.T, page string, bad ...string) {
	t.Helper()
	for _, b := range bad {
		if strings.Contains(page, b) {
			t.Errorf("the page has %q:\n%s", b, page)
		}
	}
}

// TestOverview: the page says how the sync does.
func TestOverview(t *testing.T) {
	t.Parallel()
	p := newPage(t, func(o *Options) {
		o.ClerkUsers = func(context.Context) (int, error) { return 1234, nil }
		o.Tiers = []reconcile.Tier{reconcile.Recent, reconcile.Full}
		o.Functions = []string{"sync-user-from-clerk"}
	})
	now := time.Now()
	has(t, page(t, p), "It works, but somebody should look", "Clerk has 1,234 users more than there are rows",
		"none yet", "No webhook came in the last hour.", "absent", "off", "has not run yet", "sync-user-from-clerk",
		p.Inngest.URL)

	runs := struct{ Runs []reconcile.Run }{[]reconcile.Run{{
		ID: "1", StartedAt: now.Add(-3 * time.Minute), EndedAt: now,
		Found: reconcile.Found{Users: 5, Rows: 1, Stale: 2},
	}}}
	if err := p.state.Save(t.Context(), "reconcile_recent", runs); err != nil {
		t.Fatal(err)
	}
	if err := p.state.Save(t.Context(), freshness.DocumentName, freshness.Report{
		At: now, Trusted: true, Since: now,
		Changes: freshness.Scope{State: freshness.Proven, Until: now.Add(-90 * time.Second), TargetSeconds: 600},
	}); err != nil {
		t.Fatal(err)
	}
	put(t, p, clerk.User{ID: testenv.UserID(now, 1), Email: "ada@example.com"})
	fail(t, p, "msg_dead", now, inbox.Failure{Function: "sync-user-from-clerk", Error: "no user"})
	p.Activity.Wrote(functions.Wrote{
		Type: "user.created", UserID: "user_x", Outcome: store.Created, At: now.Add(-time.Second), Received: now,
	})
	text := page(t, p)
	has(t, text, "done", "began 3 min ago; 5 users and 1 row compared: 2 stale", "1 event failed for good", "msg_dead",
		"no user", "user.created", "user_x", "created", "1 min", "10 min", "Yes")
	hasNot(t, text, "ada@example.com") // what is personal is for the look-up alone

	bare := newPage(t, nil) // without a key nothing is known of Clerk
	has(t, page(t, bare), "unknown", "It is ready", "CLERK_SECRET_KEY is not set")
}

// TestFailing: if a part of the database or Inngest does not answer, the page says what is unknown, and shows the rest.
func TestFailing(t *testing.T) {
	t.Parallel()
	refuse := &testenv.CommandFaults{Verdict: func(string) testenv.Verdict { return testenv.Refuse }}
	dead := func(t *testing.T) *database.DB {
		t.Helper()
		return testenv.NewMemory().ConnectFaulty(t, "test", refuse)
	}
	log := slog.New(slog.DiscardHandler)
	for name, tc := range map[string]struct {
		set  func(t *testing.T, o *Options)
		want []string
	}{
		"the inbox and the state": {
			func(t *testing.T, o *Options) { t.Helper(); o.DB = dead(t) },
			[]string{"The database does not say which events wait", "which events failed", "Unknown: the database"},
		},
		"the database, gone": {
			func(t *testing.T, o *Options) {
				t.Helper()
				uri := testenv.NewMemory().Listen(t, func(string) int32 { return 0 })
				db, err := database.Connect(t.Context(), uri, "test")
				if err == nil {
					err = db.Close(t.Context())
				}
				if err != nil {
					t.Fatal(err)
				}
				o.DB, o.Users = db, store.NewUsers(db, mapping.Default())
				o.Activity = activity.New(database.NewCheckpoints(db), log, prometheus.NewRegistry())
			},
			[]string{"It does not work", "The database does not answer", "unknown here"},
		},
		"the users": {
			func(t *testing.T, o *Options) { t.Helper(); o.Users = store.NewUsers(dead(t), mapping.Default()) },
			[]string{"unknown here", "None."},
		},
		"what other processes do": {
			func(t *testing.T, o *Options) {
				t.Helper()
				o.Activity = activity.New(database.NewCheckpoints(dead(t)), log, prometheus.NewRegistry())
			},
			[]string{"No webhook came in the last hour.", "None."},
		},
		"Inngest": {
			func(t *testing.T, o *Options) { t.Helper(); o.Inngest = inngest.Server{URL: "http://127.0.0.1:1"} },
			[]string{"It does not work", "Inngest cannot be reached", "None."},
		},
		"Clerk": {
			func(t *testing.T, o *Options) {
				t.Helper()
				o.ClerkUsers = func(context.Context) (int, error) { return 0, errors.New("no answer") }
			},
			[]string{"unknown at Clerk", "0 here"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPage(t, func(o *Options) { tc.set(t, o) })
			text := page(t, p)
			tags := strings.NewReplacer("<small>", "", "</small>", "")
			has(t, tags.Replace(text), tc.want...)
			// The look-up says it too.
			res, body := do(p, bearer(post("/status/user", "q", testenv.UserID(time.Now(), 1)), token))
			if res.StatusCode != http.StatusOK {
				t.Errorf("a look-up: got %d %s", res.StatusCode, body)
			}
		})
	}
}

// TestLookUp: a user is found by id, address or user name. The page then has the row and why it is so.
func TestLookUp(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		p := pageOn(t, db, func(*Options) {})
		p.Users.Watch(p.History.Record)
		if err := errors.Join(p.Users.Setup(t.Context()), p.History.Setup(t.Context())); err != nil {
			t.Fatal(err)
		}
		ada, bob := testenv.UserID(time.Now(), 1), testenv.UserID(time.Now(), 2)
		put(t, p, clerk.User{ID: ada, Email: "ada@example.com", Username: "ada", FullName: "Ada " + evil})
		put(t, p, clerk.User{ID: bob, Email: "both@example.com", Username: "bob"})
		for n := range maxFound {
			put(t, p, clerk.User{ID: testenv.UserID(time.Now(), int64(n+10)), Email: "both@example.com"})
		}
		gone := testenv.UserID(time.Now(), 3)
		testenv.Delete(t, p.Users, gone)
		for q, want := range map[string][]string{
			ada:                           {ada, "ada@example.com", "clerk.version", "created by webhook msg_" + ada},
			" " + ada + "\n":              {ada, "ada@example.com"},
			"ada@example.com":             {ada, "Ada " + evil},
			"Ada@Example.com":             {ada, "Ada " + evil},
			"ada":                         {ada, "created by webhook"},
			"both@example.com":            {"10 and more have that:", bob},
			"bob":                         {bob, "both@example.com"},
			gone:                          {"There is no row.", "the user is deleted, since"},
			"nobody@example.com":          {"No row has that."},
			"nobody":                      {"No row has that."},
			testenv.UserID(time.Now(), 9): {"There is no row.", "Nothing is known of this user."},
			"user_$gt":                    {"There is no row."},
			`{"$ne":""}`:                  {"No row has that."},
			"":                            {"Say whom to look for."},
			evil:                          {evil, "No row has that."},
		} {
			res, body := do(p, bearer(post("/status/user", "q", q), token))
			if res.StatusCode != http.StatusOK {
				t.Fatalf("%q: got %d", q, res.StatusCode)
			}
			_, shown, _ := strings.Cut(body, `id="user"`)
			shown, _, _ = strings.Cut(shown, "</section>")
			has(t, shown, want...)
			hasNot(t, body, "<script>alert", "<img")
		}
	})
}

// TestLookUpWithoutField: a map need not write what a look-up asks for.
func TestLookUpWithoutField(t *testing.T) {
	t.Parallel()
	m, err := mapping.Parse("clerksync.yaml", []byte("collection: people\nkey: clerkId\nfields:\n  name: full_name\n"))
	if err != nil {
		t.Fatal(err)
	}
	p := newPage(t, func(o *Options) { o.Users = store.NewUsers(o.DB, m) })
	for _, q := range []string{"ada@example.com", "ada"} {
		_, body := do(p, bearer(post("/status/user", "q", q), token))
		has(t, body, "The map writes no such field: look for the user by id.")
	}
}

// TestDeadLetters: the page replays and drops dead letters as the command does.
func TestDeadLetters(t *testing.T) {
	t.Parallel()
	p := newPage(t, nil)
	now := time.Now()
	for _, id := range []string{"msg_1", "msg_2", "msg_3"} {
		fail(t, p, id, now, inbox.Failure{Function: "sync-user-from-clerk", Error: "no user"})
	}
	fail(t, p, "msg_old", now.Add(-91*24*time.Hour), inbox.Failure{Error: "given up"})
	fail(t, p, "msg_4:their-crm", now, inbox.Failure{Function: "clerksync-their-crm", Error: "no ada@example.com"})
	text := page(t, p)
	has(t, text, "5 events failed for good", "msg_4:their-crm", "may hold personal data")
	hasNot(t, text, "ada@example.com")
	for _, tc := range []struct{ id, do, said string }{
		{"msg_1", "replay", "replayed"},
		{"msg_1", "replay", "gone"},
		{"msg_2", "drop", "dropped"},
		{"msg_old", "replay", "old"},
		{"nothing", "drop", "gone"},
		{"", "replay", "gone"},
	} {
		res, _ := do(p, bearer(post("/status/deadletters", "id", tc.id, "do", tc.do), token))
		got := res.Header.Get("Location")
		if res.StatusCode != http.StatusSeeOther || !strings.Contains(got, "said="+tc.said+"#") {
			t.Errorf("%s %q: got %d %s, want %s", tc.do, tc.id, res.StatusCode, got, tc.said)
		}
		_, body := do(p, bearer(get("/status?said="+tc.said), token))
		has(t, body, words(tc.said))
	}
	var got []string
	all, err := p.inbox.DeadLetters(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range all {
		got = append(got, l.ID)
	}
	slices.Sort(got) // all failed at once
	if d := cmp.Diff([]string{"msg_3", "msg_4:their-crm", "msg_old"}, got); d != "" {
		t.Errorf("the dead letters that are left (-want +got):\n%s", d)
	}
	if w, err := p.inbox.Pending(t.Context()); err != nil || w.Events != 1 {
		t.Errorf("got %v, %v, want the replayed event to wait", w, err)
	}
	res, _ := do(p, bearer(post("/status/deadletters", "id", "msg_3", "do", "purge"), token))
	if res.StatusCode != http.StatusBadRequest {
		t.Errorf("another word: got %d", res.StatusCode)
	}
	refuse := &testenv.CommandFaults{Verdict: func(string) testenv.Verdict { return testenv.Refuse }}
	dead := pageOn(t, testenv.NewMemory().ConnectFaulty(t, "test", refuse), func(*Options) {})
	for _, what := range []string{"replay", "drop"} {
		res, _ := do(dead, bearer(post("/status/deadletters", "id", "msg_3", "do", what), token))
		if got := res.Header.Get("Location"); !strings.Contains(got, "said=failed#") {
			t.Errorf("%s without a database: got %d %s", what, res.StatusCode, got)
		}
	}
}

// TestManyDeadLetters: the page names the newest, and says how many there are.
func TestManyDeadLetters(t *testing.T) {
	t.Parallel()
	p := newPage(t, nil)
	for n := range maxShown + 1 {
		fail(t, p, fmt.Sprintf("msg_%03d", n), time.Now(), inbox.Failure{Error: "no user"})
	}
	text := page(t, p)
	has(t, text, "newest 50 of 51")
	if n := strings.Count(text, `aria-label="Replay msg_`); n != maxShown {
		t.Errorf("it names %d, want %d", n, maxShown)
	}
}

// TestEscaping: nothing that others have written becomes a part of the page.
func TestEscaping(t *testing.T) {
	t.Parallel()
	p := newPage(t, func(o *Options) {
		o.Open, o.Functions = true, []string{evil}
		o.ClerkUsers = func(context.Context) (int, error) { return 1, nil }
		o.Tiers = reconcile.Tiers()
		o.Play = func(context.Context, string) error { return errors.New(evil) }
	})
	now := time.Now()
	fail(t, p, evil, now, inbox.Failure{Function: evil, Error: evil})
	run := struct{ Runs []reconcile.Run }{[]reconcile.Run{{ID: evil, StartedAt: now, Error: evil}}}
	report := freshness.Report{At: now, Reasons: []string{evil}, Changes: freshness.Scope{State: freshness.Unproven}}
	if err := errors.Join(p.state.Save(t.Context(), "reconcile_recent", run),
		p.state.Save(t.Context(), freshness.DocumentName, report)); err != nil {
		t.Fatal(err)
	}
	id := testenv.UserID(now, 1)
	put(t, p, clerk.User{ID: id, Email: "a@example.com", FullName: evil, ImageURL: "javascript:alert(3)"})
	for _, user := range []string{id, evil} {
		p.Activity.Wrote(functions.Wrote{Type: evil, UserID: user, Outcome: store.Outcome(evil), At: now})
	}
	for name, r := range map[string]*http.Request{
		"the page": get("/status"), "a look-up": post("/status/user", "q", id),
		"a button": post("/status/dev", "do", "storm"),
		"words":    get("/status?said=" + "%3Cscript%3Ealert(1)%3C/script%3E"),
	} {
		_, body := do(p, r)
		if n := strings.Count(html.UnescapeString(body), evil); n < 8 {
			t.Errorf("%s: it has what others have written %d times only: %s", name, n, body)
		}
		hasNot(t, body, "<script>alert", "<img", `href="javascript`)
	}
}

// TestPlay: the buttons of 'clerksync dev' play what they say, one after the other.
func TestPlay(t *testing.T) {
	t.Parallel()
	var got []string
	hold, held := make(chan struct{}), make(chan struct{})
	p := newPage(t, func(o *Options) {
		o.Open = true
		o.Play = func(_ context.Context, what string) error {
			if got = append(got, what); what == "storm" {
				close(held)
				<-hold
			}
			if what == "deletion" {
				return errors.New("nobody has signed up yet")
			}
			return nil
		}
	})
	has(t, page(t, p), "do-sign-up", "do-change", "do-deletion", "do-storm")
	location := func(what string) string {
		res, _ := do(p, post("/status/dev", "do", what))
		return fmt.Sprint(res.StatusCode, " ", res.Header.Get("Location"))
	}
	if l := location("sign-up"); l != "303 /status?said=played#try" {
		t.Errorf("got %s", l)
	}
	if l := location("rm -rf"); l != "400 " {
		t.Errorf("no button: got %s", l)
	}
	if res, body := do(p, post("/status/dev", "do", "deletion")); res.StatusCode != http.StatusBadGateway ||
		!strings.Contains(body, "That failed: nobody has signed up yet") {
		t.Errorf("got %d %s", res.StatusCode, body)
	}
	ended := make(chan string)
	go func() { ended <- location("storm") }()
	<-held
	if l := location("change"); l != "303 /status?said=playing#try" {
		t.Errorf("during a storm: got %s", l)
	}
	close(hold)
	if l := <-ended; l != "303 /status?said=played#try" {
		t.Errorf("the storm: got %s", l)
	}
	if d := cmp.Diff([]string{"sign-up", "deletion", "storm"}, got); d != "" {
		t.Errorf("played (-want +got):\n%s", d)
	}
}
