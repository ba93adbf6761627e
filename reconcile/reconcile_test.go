package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"runtime"
	"slices"
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
	"github.com/prometheus/client_golang/prometheus"
)

// reconciler returns one of rows that are equal to Clerk, by a backfill of n people.
func reconciler(
	t *testing.T, db *database.DB, fake *testenv.ClerkAPI, n int,
) (*reconcile.Reconcile, []testenv.ClerkUser) {
	t.Helper()
	people := testenv.People(n)
	fake.Put(people...)
	r := backfiller(t, db, fake)
	if p, err := backfill(t.Context(), r); err != nil || p.Outcomes[store.Created] != n {
		t.Fatalf("backfill: %+v, %v", p, err)
	}
	return r, people
}

// run does all steps of a run, each a page long, and returns what it found.
func run(t *testing.T, r *reconcile.Reconcile, tier reconcile.Tier) (reconcile.Found, []string, error) {
	t.Helper()
	var drift []string
	r.Report = func(d reconcile.Drift) {
		s := string(d.Kind) + " " + d.UserID
		for _, f := range d.Fields {
			s += " " + f.Name
		}
		drift = append(drift, s)
	}
	p := reconcile.Start(tier, fmt.Sprint("run-", rand.Uint64()))
	var err error
	for err == nil && !p.Done() {
		p, err = r.Step(t.Context(), p)
	}
	slices.Sort(drift)
	return p.Found, drift, err
}

// doc is a document of the database.
type doc map[string]any

func set(t *testing.T, db *database.DB, id string, fields doc) {
	t.Helper()
	if _, err := db.Collection("users").UpdateOne(t.Context(), doc{"_id": id}, doc{"$set": fields}); err != nil {
		t.Fatal(err)
	}
}

// TestFull: what was changed, removed or added behind its back, on either side, is found by a dry run and repaired by a
// run; the next one finds nothing. Rows of the app's own and the app's fields are left alone, and the deleted stay so.
func TestFull(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		fake := testenv.NewClerkAPI(t)
		r, people := reconciler(t, db, fake, 250)
		rows := db.Collection("users")
		set(t, db, people[3].ID, doc{"full_name": "Somebody", "plan": "pro"})
		set(t, db, people[4].ID, doc{"email": "x@x.example", "profile_picture": ""})
		if _, err := rows.DeleteOne(t.Context(), doc{"_id": people[5].ID}); err != nil {
			t.Fatal(err)
		}
		added := people[6]
		added.ID, added.Created = testenv.UserID(time.UnixMilli(added.Created), 1), added.Created+5000
		fake.Put(added)
		ghost := testenv.UserID(time.UnixMilli(added.Created), 2)
		insert(t, db, doc{"_id": ghost, "username": "ghost", "clerk": doc{"version": "1767603600000.1767603600000"}},
			doc{"_id": "app-1", "username": "app-1"})
		fake.Remove(people[7].ID)
		young := people[8]
		// Clerk may not find by id yet whom it has just created
		young.ID, young.Created = testenv.UserID(time.Now(), 3), time.Now().UnixMilli()
		fake.Put(young)
		u, err := clerk.ParseUser(young.JSON())
		if err != nil {
			t.Fatal(err)
		}
		users := store.NewUsers(db, mapping.Default())
		testenv.Write(t, users, store.Write{User: u, EventTime: store.EventTime{Clerk: u.ChangedAt}})
		fake.Remove(young.ID)

		wantFound := reconcile.Found{Users: 250, Rows: 251, Missing: 2, Stale: 2, Extra: 2}
		want := []string{
			"extra " + ghost, "extra " + people[7].ID, "missing " + added.ID, "missing " + people[5].ID,
			"stale " + people[3].ID + " full_name", "stale " + people[4].ID + " email profile_picture",
		}
		slices.Sort(want)
		for _, dry := range []bool{true, false} {
			r.DryRun = dry
			found, drift, err := run(t, r, reconcile.Full)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want, drift); d != "" {
				t.Errorf("dry run %v: drift (-want +got):\n%s", dry, d)
			}
			if d := cmp.Diff(wantFound, found); d != "" {
				t.Errorf("dry run %v: found (-want +got):\n%s", dry, d)
			}
		}
		found, drift, err := run(t, r, reconcile.Full)
		if want := (reconcile.Found{Users: 250, Rows: 251}); err != nil || found != want || drift != nil {
			t.Errorf("again: got %+v, %v, %v, want %+v", found, drift, err, want)
		}
		var row struct {
			FullName string `bson:"full_name"`
			Plan     string
		}
		if err := rows.FindOne(t.Context(), doc{"_id": people[3].ID}).Decode(&row); err != nil || row.Plan != "pro" ||
			row.FullName != "Ada Lovelace 3" {
			t.Errorf("got %+v, %v, want the app's field as it was and Clerk's name", row, err)
		}
		if n, err := rows.CountDocuments(t.Context(), doc{}); err != nil || n != 252 {
			t.Errorf("%d rows, %v, want Clerk's 250, the young one and the app's own", n, err)
		}
		testenv.Write(t, users, store.Write{
			User: clerk.User{ID: people[7].ID}, EventTime: store.EventTime{Clerk: clerk.Millis(time.Now().UnixMilli())},
		})
		if _, err := users.Get(t.Context(), people[7].ID); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("who was deleted is back: %v", err)
		}
		s, err := reconcile.ReadStatus(t.Context(), r.State)
		if err != nil || len(s.Runs[reconcile.Full]) != 2 || s.Runs[reconcile.Full][1].Found != wantFound ||
			s.Runs[reconcile.Full][0].EndedAt.IsZero() {
			t.Errorf("got %+v, %v, want the two runs that were not dry", s, err)
		}
	})
}

// TestBrake: whatever a wrong key or a broken API answers, rows stay, and the run says what is wrong.
func TestBrake(t *testing.T) {
	t.Parallel()
	everybody := func(fake *testenv.ClerkAPI, people []testenv.ClerkUser) {
		for _, p := range people {
			fake.Remove(p.ID)
		}
	}
	for name, tc := range map[string]struct {
		people int
		change func(fake *testenv.ClerkAPI, people []testenv.ClerkUser)
		max    float64
		want   error
		gone   int
	}{
		"few are gone": {
			people: 20, max: 1, gone: 5, change: func(f *testenv.ClerkAPI, p []testenv.ClerkUser) {
				everybody(f, p[:5])
			},
		},
		"too many are gone": {
			people: 20, max: 1, want: reconcile.ErrBrake, change: func(f *testenv.ClerkAPI, p []testenv.ClerkUser) {
				everybody(f, p[:6])
			},
		},
		"a part that is allowed": {
			people: 20, max: 50, gone: 10, change: func(f *testenv.ClerkAPI, p []testenv.ClerkUser) {
				everybody(f, p[:10])
			},
		},
		"all of a few":          {people: 3, max: 1, want: reconcile.ErrBrake, change: everybody},
		"all of a few, allowed": {people: 3, max: 100, gone: 3, change: everybody},
		"the key is not accepted": {
			people: 3, max: 100, want: clerk.ErrKey, change: func(f *testenv.ClerkAPI, _ []testenv.ClerkUser) {
				f.Key = "sk_live_another"
			},
		},
		"the key is of another instance": {
			people: 3, max: 100, want: clerk.ErrKey, change: func(f *testenv.ClerkAPI, p []testenv.ClerkUser) {
				f.Instance = "ins_other"
				everybody(f, p)
			},
		},
		"404 that is not Clerk's": {
			people: 20, max: 100, want: errAny, change: func(f *testenv.ClerkAPI, p []testenv.ClerkUser) {
				everybody(f, p[:2])
				f.Fail = strange404
			},
		},
		"a list that names nobody": {
			people: 20, max: 100, change: func(f *testenv.ClerkAPI, _ []testenv.ClerkUser) { f.ForgetIDs = true },
		},
		"a list that names nobody, braking": {
			people: 20, max: 1, want: reconcile.ErrBrake, change: func(f *testenv.ClerkAPI, _ []testenv.ClerkUser) {
				f.ForgetIDs = true
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := testenv.NewMemory().Connect(t, "test", nil, nil)
			fake := testenv.NewClerkAPI(t)
			r, people := reconciler(t, db, fake, tc.people)
			if _, _, err := run(t, r, reconcile.Full); err != nil { // which remembers the instance
				t.Fatal(err)
			}
			tc.change(fake, people)
			r.MaxDelete = tc.max
			_, _, err := run(t, r, reconcile.Absent)
			if tc.want == nil && err != nil || tc.want != nil && !errors.Is(err, tc.want) &&
				(!errors.Is(tc.want, errAny) || err == nil) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
			n, err2 := db.Collection("users").CountDocuments(t.Context(), doc{})
			if err2 != nil || int(n) != tc.people-tc.gone {
				t.Errorf("%d rows are left, %v, want %d", n, err2, tc.people-tc.gone)
			}
			if s, err2 := reconcile.ReadStatus(t.Context(), r.State); err2 != nil || err != nil &&
				s.Runs[reconcile.Absent][0].Error != err.Error() {
				t.Errorf("the run is remembered as %+v, %v, want its error %v", s.Runs[reconcile.Absent], err2, err)
			}
		})
	}
}

var errAny = errors.New("any error")

func strange404(r *http.Request) int {
	if strings.HasPrefix(r.URL.Path, "/v1/users/") {
		return http.StatusNotFound
	}
	return 0
}

// TestFirstWebhookIsKeptAtOnce: the time of the first webhook, if it named no instance, was kept after half a minute,
// and until then the doctor said that none had come.
func TestFirstWebhookIsKeptAtOnce(t *testing.T) {
	t.Parallel()
	db, err := database.Connect(t.Context(), testenv.NewMemory().Listen(t, func(string) int32 { return 0 }), "app")
	if err != nil {
		t.Fatal(err)
	}
	state := database.NewCheckpoints(db)
	silence := reconcile.Silence{First: time.Now().Add(-time.Hour), Changed: 1}
	if err := state.Save(t.Context(), "silence", silence); err != nil {
		t.Fatal(err)
	}
	watch := reconcile.NewWatch(state, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); watch.Run(ctx) }()
	defer func() { cancel(); <-ended; _ = db.Close(t.Context()) }()
	deadline := time.Now().Add(25 * time.Second) // less than half a minute
	within := func(what string, done func() bool) {
		for !done() {
			if time.Now().After(deadline) {
				t.Fatal(what)
			}
			runtime.Gosched()
		}
	}
	within("the state is not read at the start", func() bool { return watch.Alarm() != "" })
	watch.Verified(time.Now(), "")
	within("the first webhook is not kept", func() bool {
		s, err := reconcile.ReadStatus(t.Context(), state)
		return err == nil && !s.LastWebhook.IsZero()
	})
	within("the alarm goes on", func() bool { return watch.Alarm() == "" })
}

// TestRecent: changes that no webhook brought within a minute are repaired, and nothing older is looked at. That no
// webhook comes any more is an alarm, until one does.
func TestRecent(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		fake := testenv.NewClerkAPI(t)
		r, people := reconciler(t, db, fake, 100)
		state := r.State
		reg := prometheus.NewRegistry()
		watch := reconcile.NewWatch(state, slog.New(slog.DiscardHandler), reg)
		sync := func() { // at its start and at its end
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			watch.Run(ctx)
		}
		watch.Webhook(time.Now().Add(-3 * time.Hour))
		sync()
		change := func(i int, ago time.Duration) {
			people[i].LastName, people[i].Updated = fmt.Sprint("Byron ", i), time.Now().Add(-ago).UnixMilli()
			fake.Put(people[i])
		}
		for i := range 30 { // more than a page
			change(i, 20*time.Minute)
		}
		change(30, time.Second) // its webhook may be under way, so only the next run counts this
		change(31, 2*time.Hour) // for the full tier, because there was no run before
		before := len(fake.Requests())
		found, _, err := run(t, r, reconcile.Recent)
		if want := (reconcile.Found{Users: 30, Stale: 30}); err != nil || found != want {
			t.Errorf("got %+v, %v, want %+v", found, err, want)
		}
		if n := len(fake.Requests()) - before; n > 5 { // the first page is read again
			t.Errorf("made %d requests for two pages", n)
		}
		if found, _, err := run(t, r, reconcile.Recent); err != nil || found.Stale != 0 || found.Users != 0 {
			t.Errorf("again: got %+v, %v, want that it looks no further back than the last run", found, err)
		}
		for i, want := range map[int]string{29: "Ada Byron 29", 30: "Ada Byron 30", 31: "Ada Lovelace 31"} {
			if row, err := testenv.Get(t, r.Users, people[i].ID); err != nil || row.FullName != want {
				t.Errorf("user %d: got %q, %v, want %q", i, row.FullName, err, want)
			}
		}

		s, err := reconcile.ReadStatus(t.Context(), state)
		if err != nil || s.Silence.Changed != 31 {
			t.Fatalf("got %+v, %v, want 31 changes", s, err)
		}
		if got := s.Silence.Alarm(time.Now()); got != "" {
			t.Errorf("alarm at once: %s", got)
		}
		want := "no webhook for 3 h although Clerk changed 31 users: check the endpoint"
		if got := s.Silence.Alarm(time.Now().Add(16 * time.Minute)); !strings.HasPrefix(got, want) {
			t.Errorf("got %q, want %q…", got, want)
		}
		s.Silence.First = s.Silence.First.Add(-16 * time.Minute)
		if err := state.Save(t.Context(), "silence", s.Silence); err != nil {
			t.Fatal(err)
		}
		sync()
		if got := watch.Alarm(); !strings.HasPrefix(got, want) {
			t.Errorf("the watch says %q, want %q…", got, want)
		}
		if got := gauges(t, reg)["clerksync_changes_without_webhook"]; got != 31 {
			t.Errorf("the metric is %v, want 31", got)
		}
		watch.Webhook(time.Now())
		sync()
		if got := watch.Alarm(); got != "" {
			t.Errorf("the watch still says %q", got)
		}
		if m := gauges(t, reg); m["clerksync_changes_without_webhook"] != 0 ||
			m["clerksync_last_webhook_timestamp_seconds"] < float64(time.Now().Unix()-60) {
			t.Errorf("the metrics are %v", m)
		}
	})
}

// gauges returns the values of those gauges that have no labels.
func gauges(t *testing.T, reg *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]float64{}
	for _, f := range families {
		if len(f.GetMetric()[0].GetLabel()) == 0 {
			all[f.GetName()] = f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	return all
}

// TestOneAtATime: while a run is under way no other does anything; one that is left alone, failed or done lets others
// run.
func TestOneAtATime(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		fake := testenv.NewClerkAPI(t)
		r, _ := reconciler(t, db, fake, 50)
		p, err := r.Step(t.Context(), reconcile.Start(reconcile.Full, "one"))
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := run(t, r, reconcile.Recent); !errors.Is(err, reconcile.ErrBusy) {
			t.Errorf("got %v, want ErrBusy", err)
		}
		var wg sync.WaitGroup
		var won atomic.Int32
		for i := range 8 {
			wg.Go(func() {
				l := database.Lease{Holder: fmt.Sprint(i), Until: time.Now().Add(time.Hour)}
				got, err := r.State.Claim(t.Context(), "a lease", l)
				if err != nil {
					t.Error(err)
				}
				if got.Holder == l.Holder {
					won.Add(1)
				}
			})
		}
		wg.Wait()
		if won.Load() != 1 {
			t.Errorf("%d of 8 have the lease", won.Load())
		}
		fake.Fail = func(*http.Request) int { return http.StatusBadRequest }
		if _, err := r.Step(t.Context(), p); err == nil {
			t.Fatal("want an error")
		}
		fake.Fail = nil
		for err = nil; err == nil && !p.Done(); { // the same step again
			p, err = r.Step(t.Context(), p)
		}
		if err != nil || p.Found.Users != 50 || p.Found.Rows != 50 {
			t.Errorf("got %+v, %v, want all", p, err)
		}
		if _, _, err := run(t, r, reconcile.Recent); err != nil {
			t.Errorf("after it: %v", err)
		}
	})
}
