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

func backfill(t *testing.T, db *database.DB, fake *testenv.ClerkAPI) reconcile.Backfill {
	t.Helper()
	users := store.NewUsers(db)
	if err := users.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	return reconcile.Backfill{
		API: api(t, fake, 20), Users: users, Checkpoints: database.NewCheckpoints(db), Log: slog.New(slog.DiscardHandler),
	}
}

// TestBackfill: all users get their row, those who have an equal or newer one keep it, and the deleted stay so.
func TestBackfill(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		fake := testenv.NewClerkAPI(t)
		people := testenv.People(110)
		fake.Put(people...)
		b := backfill(t, db, fake)
		users := store.NewUsers(db)
		for i, p := range people[:3] { // have come by webhook: an older one, a newer one, a deletion
			u, err := clerk.ParseUser(p.JSON())
			if err != nil {
				t.Fatal(err)
			}
			u.FullName, u.ChangedAt = "by webhook", u.ChangedAt+clerk.Millis(i*1000-500)
			testenv.Write(t, users, store.Write{User: u, When: store.When{Clerk: u.ChangedAt}})
		}
		testenv.Delete(t, users, people[2].ID)

		dry := b
		dry.DryRun = true
		want := reconcile.Counts{Created: 107, Updated: 1, Stale: 1, Deleted: 1}
		if got, err := dry.Run(t.Context()); err != nil || !cmp.Equal(want, got) {
			t.Fatalf("dry run: got %+v, %v, want %+v", got, err, want)
		}
		if _, err := users.Get(t.Context(), people[50].ID); !errors.Is(err, store.ErrNotFound) {
			t.Fatalf("the dry run has written: %v", err)
		}
		if got, err := b.Run(t.Context()); err != nil || !cmp.Equal(want, got) {
			t.Fatalf("got %+v, %v, want %+v", got, err, want)
		}
		want = reconcile.Counts{Unchanged: 108, Stale: 1, Deleted: 1}
		if got, err := b.Run(t.Context()); err != nil || !cmp.Equal(want, got) {
			t.Fatalf("again: got %+v, %v, want %+v", got, err, want)
		}
		for i, name := range map[int]string{0: "Ada Lovelace 0", 1: "by webhook", 109: "Ada Lovelace 109"} {
			if r, err := users.Get(t.Context(), people[i].ID); err != nil || r.FullName != name {
				t.Errorf("user %d: got %q, %v, want %q", i, r.FullName, err, name)
			}
		}
	})
}

// TestBackfillMissesNobody: a list that names fewer users than Clerk counts is an error, unless so many came or went
// meanwhile.
func TestBackfillMissesNobody(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
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
					if at, err := strconv.ParseInt(r.URL.Query().Get("created_at_after"), 10, 64); (err == nil) != (i == 2) || at > time.Now().UnixMilli() {
						t.Errorf("%s: asked for %s", name, r.URL)
					}
					return fmt.Sprintf(`{"object":"total_count","total_count":%d}`, []int{tc.before, tc.after, tc.created}[i]), true
				}
				b := backfill(t, db, fake)
				b.DryRun = dry
				c, err := b.Run(t.Context())
				if errors.Is(err, reconcile.ErrMissed) != (tc.want != "") || tc.want == "" && err != nil || c.Seen() != 50 {
					t.Errorf("%s: got %+v, %v", name, c, err)
				}
				if want := fmt.Sprintf("named 50 users, and Clerk has had %s all the while: run", tc.want); tc.want != "" && !strings.Contains(fmt.Sprint(err), want) {
					t.Errorf("%s: got %v, want %q", name, err, want)
				}
				asked.Store(0)
				if c, _ := b.Run(t.Context()); c.Seen() != 50 {
					t.Errorf("%s: the next run saw %d, want all", name, c.Seen())
				}
			}
		}
	})
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
	for name, run := range map[string]func(t *testing.T, db *database.DB, fake *testenv.ClerkAPI, log *slog.Logger) (failed int, err error){
		"backfill": func(t *testing.T, db *database.DB, fake *testenv.ClerkAPI, log *slog.Logger) (int, error) {
			b := backfill(t, db, fake)
			b.Log = log
			c, err := b.Run(t.Context())
			return c.Failed, err
		},
		"reconcile": func(t *testing.T, db *database.DB, fake *testenv.ClerkAPI, log *slog.Logger) (int, error) {
			r, _ := reconciler(t, db, fake, 3)
			r.Log = log
			found, _, err := run(t, r, reconcile.Full)
			return found.Failed, err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fake := testenv.NewClerkAPI(t)
			odd := testenv.ClerkUser{ID: testenv.UserID(time.Now(), 1), Created: 1, Updated: time.Now().UnixMilli()}
			odd.Raw = fmt.Appendf(nil, `{"id":%q,"object":"user","first_name":["secret"],"created_at":1}`, odd.ID)
			fake.Put(append(testenv.People(3), odd)...)
			var log bytes.Buffer
			n, err := run(t, testenv.NewMemory().Connect(t, "test", nil, nil), fake, slog.New(slog.NewTextHandler(&log, nil)))
			if n != 1 || err != nil {
				t.Errorf("got %d failed, %v, want one", n, err)
			}
			if got := log.String(); strings.Count(got, "user_id="+odd.ID) != 1 || !strings.Contains(got, "first_name") || strings.Contains(got, "secret") {
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
		b := backfill(t, db, fake)
		ctx, cancel := context.WithCancel(t.Context())
		b.Progress = func(c reconcile.Counts, _ int) {
			if c.Seen() == 40 {
				cancel()
			}
		}
		if c, err := b.Run(ctx); !errors.Is(err, context.Canceled) || c.Seen() != 40 {
			t.Fatalf("got %+v, %v, want 40 and that it is cancelled", c, err)
		}
		before := len(fake.Requests())
		first := -1
		b.Progress = func(c reconcile.Counts, _ int) {
			if first < 0 {
				first = c.Seen()
			}
		}
		if c, err := b.Run(t.Context()); err != nil || c.Created != 100 || first != 40 {
			t.Errorf("got %+v, %v after %d, want 100 created after 40", c, err, first)
		}
		if n := len(fake.Requests()) - before; n > 8 { // two of them count
			t.Errorf("made %d requests for the other 60 users", n)
		}
		b.Restart = true
		if c, err := b.Run(t.Context()); err != nil || c.Unchanged != 100 {
			t.Errorf("restarted: got %+v, %v, want 100 unchanged", c, err)
		}
	})
}

// TestWhileWebhooksArrive: users change while they are listed, again and again, and the webhooks of the changes come
// late and in any order. The rows end equal to Clerk.
func TestWhileWebhooksArrive(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(t *testing.T, b reconcile.Backfill, db *database.DB) (pass func() error){
		"backfill": func(t *testing.T, b reconcile.Backfill, _ *database.DB) func() error {
			return func() error { _, err := b.Run(t.Context()); return err }
		},
		"reconcile": func(t *testing.T, b reconcile.Backfill, db *database.DB) func() error {
			r := &reconcile.Reconcile{API: b.API.(*clerk.API), Users: b.Users.(*store.Users), State: database.NewCheckpoints(db), Log: b.Log, MaxDelete: 100}
			return func() error {
				for _, tier := range reconcile.Tiers() {
					if _, _, err := run(t, r, tier); err != nil {
						return err
					}
				}
				return nil
			}
		},
	} {
		t.Run(name, func(t *testing.T) { t.Parallel(); whileWebhooksArrive(t, start) })
	}
}

func whileWebhooksArrive(t *testing.T, start func(t *testing.T, b reconcile.Backfill, db *database.DB) func() error) {
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		fake := testenv.NewClerkAPI(t)
		b := backfill(t, db, fake)
		users := b.Users.(*store.Users)
		pass := start(t, b, db)
		seed := uint64(time.Now().UnixNano())
		t.Logf("seed %d", seed)
		rng := rand.New(rand.NewPCG(seed, 0))
		var histories []testenv.History
		for _, h := range testenv.Histories(t, rng, 100) {
			if !h.Tie { // the API says when it was asked, and these lived before
				histories = append(histories, h)
			}
		}
		ctx, lived := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { // one pass after the other
			for ctx.Err() == nil {
				if err := pass(); err != nil {
					t.Error(err)
					return
				}
			}
		})
		late := make(chan func(), 4096)
		for range 4 {
			wg.Go(func() {
				for deliver := range late {
					deliver()
				}
			})
		}
		var pending []func()
		steps := make([]int, len(histories))
		for left := len(histories); left > 0; {
			i := rng.IntN(len(histories))
			h := histories[i]
			if steps[i] == len(h.Webhooks) {
				continue
			}
			hook := h.Webhooks[steps[i]]
			if steps[i]++; steps[i] == len(h.Webhooks) {
				left--
			}
			if hook.Type == clerk.UserDeleted {
				fake.Remove(h.UserID)
			} else {
				fake.Put(hook.APIUser(t))
			}
			pending = append(pending, func() { deliver(t, users, hook) })
			for len(pending) > 0 && rng.IntN(3) > 0 {
				j := rng.IntN(len(pending))
				late <- pending[j]
				pending[j] = pending[len(pending)-1]
				pending = pending[:len(pending)-1]
			}
		}
		for _, f := range pending {
			late <- f
		}
		close(late)
		lived()
		wg.Wait()
		for _, d := range testenv.CheckAll(histories, func(id string) *store.Row {
			r, err := users.Get(t.Context(), id)
			if errors.Is(err, store.ErrNotFound) {
				return nil
			}
			if err != nil {
				t.Fatal(err)
			}
			return &r
		}) {
			t.Error(d)
		}
	})
}

func deliver(t *testing.T, users *store.Users, hook testenv.Webhook) {
	t.Helper()
	w := store.Write{When: store.When{Clerk: clerk.Millis(hook.TS)}, Deleted: hook.Type == clerk.UserDeleted}
	var err error
	if w.Deleted {
		w.User.ID, err = clerk.ParseDeleted(hook.Data)
	} else {
		w.User, err = clerk.ParseUser(hook.Data)
	}
	if err != nil {
		t.Fatal(err)
	}
	testenv.Write(t, users, w)
}
