package reconcile_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"clerksync/clerk"
	"clerksync/internal/testenv"
	"clerksync/reconcile"
	"clerksync/store"
	"clerksync/store/database"
	"clerksync/store/mapping"

	"github.com/google/go-cmp/cmp"
)

func api(t *testing.T, fake *testenv.ClerkAPI, page int) *clerk.API {
	t.Helper()
	a, err := clerk.NewAPI(clerk.APIOptions{SecretKey: testenv.ClerkKey, URL: fake.URL, Share: 1, PageSize: page})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// backfiller returns a Reconcile of an empty collection, whose pages are 20 users.
func backfiller(t *testing.T, db *database.DB, fake *testenv.ClerkAPI) *reconcile.Reconcile {
	t.Helper()
	users := store.NewUsers(db, mapping.Default())
	if err := users.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	return &reconcile.Reconcile{
		API: api(t, fake, 20), Users: users, State: database.NewCheckpoints(db), Log: slog.New(slog.DiscardHandler),
		MaxDelete: 1,
	}
}

// backfill runs a backfill to its end.
func backfill(ctx context.Context, r *reconcile.Reconcile) (reconcile.Progress, error) {
	return r.Run(ctx, reconcile.Start(reconcile.Backfill, ""), nil)
}

// TestBackfill: all users get their row, those who have an equal or newer one keep it, and the deleted stay so.
func TestBackfill(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		fake := testenv.NewClerkAPI(t)
		people := testenv.People(110)
		fake.Put(people...)
		r := backfiller(t, db, fake)
		users := r.Users
		for i, p := range people[:3] { // have come by webhook: an older one, a newer one, a deletion
			u, err := clerk.ParseUser(p.JSON())
			if err != nil {
				t.Fatal(err)
			}
			u.FullName, u.ChangedAt = "by webhook", u.ChangedAt+clerk.Millis(i*1000-500)
			testenv.Write(t, users, store.Write{User: u, EventTime: store.EventTime{Clerk: u.ChangedAt}})
		}
		testenv.Delete(t, users, people[2].ID)

		for _, step := range []struct {
			dry  bool
			want map[store.Outcome]int
		}{
			{true, map[store.Outcome]int{store.Created: 107, store.Updated: 1, store.Stale: 1, store.Deleted: 1}},
			{false, map[store.Outcome]int{store.Created: 107, store.Updated: 1, store.Stale: 1, store.Deleted: 1}},
			{false, map[store.Outcome]int{store.Unchanged: 108, store.Stale: 1, store.Deleted: 1}},
		} {
			r.DryRun = step.dry
			p, err := backfill(t.Context(), r)
			if d := cmp.Diff(step.want, p.Outcomes); d != "" || err != nil || p.Listed != 110 {
				t.Fatalf("dry run %v: %d listed, %v, outcomes (-want +got):\n%s", step.dry, p.Listed, err, d)
			}
			if _, err := users.Get(t.Context(), people[50].ID); step.dry && !errors.Is(err, store.ErrNotFound) {
				t.Fatalf("the dry run has written: %v", err)
			}
		}
		for i, name := range map[int]string{0: "Ada Lovelace 0", 1: "by webhook", 109: "Ada Lovelace 109"} {
			if r, err := testenv.Get(t, users, people[i].ID); err != nil || r.FullName != name {
				t.Errorf("user %d: got %q, %v, want %q", i, r.FullName, err, name)
			}
		}
	})
}

// TestBackfillMissesNobody: a list that names fewer users than Clerk counts is an error, unless so many came or went
// meanwhile.
func TestBackfillMissesNobody(t *testing.T) {
	t.Parallel()
	db := testenv.NewMemory().Connect(t, "test", nil, nil) // which one it is plays no part
	for name, tc := range map[string]struct {
		before, after, created int // what Clerk counts; its list names 50
		want                   string
	}{
		"all":                    {50, 50, 0, ""},
		"one is deleted":         {51, 50, 0, ""},
		"some sign up":           {50, 57, 7, ""},
		"some are imported":      {50, 57, 0, ""}, // behind us: Clerk says that they are from before
		"as many come and go":    {55, 55, 5, ""},
		"one is missing":         {51, 51, 0, "51"},
		"more than were deleted": {60, 55, 0, "55"},
		"more than signed up":    {55, 60, 5, "55"},
		"more than come and go":  {60, 60, 5, "55"},
	} {
		for _, dry := range []bool{true, false} {
			fake := testenv.NewClerkAPI(t)
			fake.Put(testenv.People(50)...)
			var asked atomic.Int32
			fake.Body = func(r *http.Request) (string, bool) {
				if r.URL.Path != "/v1/users/count" {
					return "", false
				}
				i := int(asked.Add(1)) - 1
				at, err := strconv.ParseInt(r.URL.Query().Get("created_at_after"), 10, 64)
				if (err == nil) != (i == 2) || at > time.Now().UnixMilli() {
					t.Errorf("%s: asked for %s", name, r.URL)
				}
				return fmt.Sprintf(`{"object":"total_count","total_count":%d}`,
					[]int{tc.before, tc.after, tc.created}[i]), true
			}
			r := backfiller(t, db, fake)
			r.DryRun = dry
			p, err := backfill(t.Context(), r)
			if errors.Is(err, reconcile.ErrMissed) != (tc.want != "") || tc.want == "" && err != nil ||
				p.Listed != 50 {
				t.Errorf("%s: got %+v, %v", name, p, err)
			}
			want := fmt.Sprintf("named 50 users, and Clerk has had %s all the while: run", tc.want)
			if tc.want != "" && !strings.Contains(fmt.Sprint(err), want) {
				t.Errorf("%s: got %v, want %q", name, err, want)
			}
			asked.Store(0)
			if p, _ := backfill(t.Context(), r); p.Listed != 50 {
				t.Errorf("%s: the next run saw %d, want all", name, p.Listed)
			}
		}
	}
}

// TestFullTierMissesNobody: so it is with the list of the full tier, and the last page is asked for again when the step
// is repeated.
func TestFullTierMissesNobody(t *testing.T) {
	t.Parallel()
	fake := testenv.NewClerkAPI(t)
	r, people := reconciler(t, testenv.NewMemory().Connect(t, "test", nil, nil), fake, 50)
	if _, _, err := run(t, r, reconcile.Full); err != nil {
		t.Fatal(err)
	}
	hidden := testenv.ClerkUser{ID: testenv.UserID(time.Now(), 1), Created: people[49].Created + 1}
	fake.Body = func(r *http.Request) (string, bool) {
		return `{"object":"total_count","total_count":51}`, r.URL.Path == "/v1/users/count" && r.URL.RawQuery == ""
	}
	p := reconcile.Start(reconcile.Full, "one")
	for {
		next, err := r.Step(t.Context(), p)
		if errors.Is(err, reconcile.ErrMissed) {
			break
		}
		if p = next; err != nil || p.Done() {
			t.Fatalf("got %+v, %v, want ErrMissed", p, err)
		}
	}
	fake.Put(hidden)
	for !p.Done() {
		var err error
		if p, err = r.Step(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	if p.Found.Missing != 1 {
		t.Errorf("got %+v, want that the one is brought", p.Found)
	}
}

// TestWhoCannotBeReadIsNamed: they are counted as failed, and the log says who they are and why.
func TestWhoCannotBeReadIsNamed(t *testing.T) {
	t.Parallel()
	for _, tier := range []reconcile.Tier{reconcile.Backfill, reconcile.Full} {
		t.Run(string(tier), func(t *testing.T) {
			t.Parallel()
			fake := testenv.NewClerkAPI(t)
			odd := testenv.ClerkUser{ID: testenv.UserID(time.Now(), 1), Created: 1, Updated: time.Now().UnixMilli()}
			odd.Raw = fmt.Appendf(nil, `{"id":%q,"object":"user","first_name":["secret"],"created_at":1}`, odd.ID)
			fake.Put(append(testenv.People(3), odd)...)
			var log bytes.Buffer
			r := backfiller(t, testenv.NewMemory().Connect(t, "test", nil, nil), fake)
			r.Log = slog.New(slog.NewTextHandler(&log, nil))
			if found, _, err := run(t, r, tier); found.Failed != 1 || err != nil {
				t.Errorf("got %+v, %v, want one failed", found, err)
			}
			got := log.String()
			named := strings.Count(got, "user_id="+odd.ID) == 1 && strings.Contains(got, "first_name")
			if !named || strings.Contains(got, "secret") {
				t.Errorf("the log says %s", got)
			}
		})
	}
}

// TestBackfillGoesOn: one that was cut off goes on after the last page that was written, and its counts too.
func TestBackfillGoesOn(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		fake := testenv.NewClerkAPI(t)
		fake.Put(testenv.People(100)...)
		r := backfiller(t, db, fake)
		ctx, cancel := context.WithCancel(t.Context())
		r.OnPage = func(p reconcile.Progress) {
			if p.Listed == 40 {
				cancel()
			}
		}
		if p, err := backfill(ctx, r); !errors.Is(err, context.Canceled) || p.Listed != 40 {
			t.Fatalf("got %+v, %v, want 40 and that it is cancelled", p, err)
		}
		before := len(fake.Requests())
		first := -1
		r.OnPage = func(p reconcile.Progress) {
			if first < 0 {
				first = p.Listed
			}
		}
		if p, err := backfill(t.Context(), r); err != nil || p.Outcomes[store.Created] != 100 || p.Listed != 100 ||
			first != 40 {
			t.Errorf("got %+v, %v after %d, want 100 created after 40", p, err, first)
		}
		if n := len(fake.Requests()) - before; n > 8 { // two of them count, and one asks for the instance
			t.Errorf("made %d requests for the other 60 users", n)
		}
		r.Restart = true
		if p, err := backfill(t.Context(), r); err != nil || p.Outcomes[store.Unchanged] != 100 || p.Listed != 100 {
			t.Errorf("restarted: got %+v, %v, want 100 unchanged", p, err)
		}
	})
}

// TestBackfillOfAnOlderVersion: where a version of November 2026 has left its checkpoint, a backfill begins anew.
func TestBackfillOfAnOlderVersion(t *testing.T) {
	t.Parallel()
	fake := testenv.NewClerkAPI(t)
	people := testenv.People(50)
	fake.Put(people...)
	r := backfiller(t, testenv.NewMemory().Connect(t, "test", nil, nil), fake)
	old := doc{"next": fmt.Sprintf("20 %d %s", people[19].Created, people[19].ID), "counts": doc{"created": 20}}
	if err := r.State.Save(t.Context(), "backfill", old); err != nil {
		t.Fatal(err)
	}
	if p, err := backfill(t.Context(), r); err != nil || p.Outcomes[store.Created] != 50 || p.Listed != 50 {
		t.Errorf("got %+v, %v, want that all are brought", p, err)
	}
}

// TestWhileWebhooksArrive: users change while they are listed, again and again, and the webhooks of the changes come
// late and in any order. The rows end equal to Clerk.
func TestWhileWebhooksArrive(t *testing.T) {
	t.Parallel()
	for name, tiers := range map[string][]reconcile.Tier{
		"backfill": {reconcile.Backfill}, "reconcile": reconcile.Tiers(), "backfill, a page ahead": {
			reconcile.Backfill,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var stepTime time.Duration // one page
			if strings.HasSuffix(name, "ahead") {
				stepTime = time.Minute
			}
			testenv.EachApp(t, func(t *testing.T, app testenv.App) {
				t.Parallel()
				whileWebhooksArrive(t, app, stepTime, tiers)
			})
		})
	}
}

func whileWebhooksArrive(t *testing.T, app testenv.App, stepTime time.Duration, tiers []reconcile.Tier) {
	t.Helper()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		fake := testenv.NewClerkAPI(t)
		app.Prepare(t, db)
		r := backfiller(t, db, fake)
		r.MaxDelete, r.StepTime = 100, stepTime
		users := app.Users(t, db)
		r.Users = users
		seed := uint64(time.Now().UnixNano())
		t.Logf("seed %d", seed)
		rng := rand.New(rand.NewPCG(seed, 0))
		var histories []testenv.History
		n := 100
		if app.Extra {
			n = 20
		}
		for _, h := range app.Histories(t, rng, n) {
			if !h.Tie { // the API says when it was asked, and these lived before
				histories = append(histories, h)
			}
		}
		ctx, lived := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { // one pass after the other
			for ctx.Err() == nil {
				for _, tier := range tiers {
					if _, _, err := run(t, r, tier); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
		late, again := make(chan testenv.Webhook, 4096), make(chan testenv.Webhook, 4096)
		for range 4 {
			wg.Go(func() {
				for hook := range late {
					if !deliver(t, users, hook) {
						again <- hook
					}
				}
			})
		}
		var pending []testenv.Webhook
		for _, hook := range testenv.InOrder(histories) {
			if hook.Type == clerk.UserDeleted {
				fake.Remove(hook.UserID)
			} else {
				fake.Put(hook.APIUser(t))
			}
			pending = append(pending, hook)
			for len(pending) > 0 && rng.IntN(3) > 0 {
				j := rng.IntN(len(pending))
				late <- pending[j]
				pending[j] = pending[len(pending)-1]
				pending = pending[:len(pending)-1]
			}
		}
		for _, hook := range pending {
			late <- hook
		}
		close(late)
		lived()
		wg.Wait()
		for n := len(again); n > 0; n = len(again) { // their address was another user's until then
			for range n {
				if hook := <-again; !deliver(t, users, hook) {
					again <- hook
				}
			}
			if len(again) == n {
				t.Fatalf("%d webhooks cannot be written", n)
			}
		}
		for _, d := range testenv.CheckAll(histories, func(id string) testenv.Doc {
			d, err := app.Find(t.Context(), db, id)
			if err != nil {
				t.Fatal(err)
			}
			return d
		}) {
			t.Error(d)
		}
	})
}

// deliver writes what a webhook says, and tells whether it could: not if another user's row still has the address.
func deliver(t *testing.T, users *store.Users, hook testenv.Webhook) bool {
	t.Helper()
	w := store.Write{EventTime: store.EventTime{Clerk: clerk.Millis(hook.TS)}, Deleted: hook.Type == clerk.UserDeleted}
	var err error
	if w.Deleted {
		w.User.ID, err = clerk.ParseDeleted(hook.Data)
	} else {
		w.User, err = clerk.ParseUser(hook.Data)
	}
	if err != nil {
		t.Fatal(err)
	}
	r := users.Write(t.Context(), []store.Write{w}, store.All)[0]
	if r.Err != nil && !errors.Is(r.Err, store.ErrRefused) {
		t.Errorf("write %s: %v", hook.UserID, r.Err)
	}
	return r.Err == nil
}
