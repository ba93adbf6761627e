package reconcile_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
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

// apply writes a user as an event of a time does.
func apply(t *testing.T, db *database.DB, p testenv.ClerkUser, at int64) store.Outcome {
	t.Helper()
	u, err := clerk.ParseUser(p.JSON())
	if err != nil {
		t.Fatal(err)
	}
	r := store.NewUsers(db, mapping.Default()).Write(t.Context(),
		[]store.Write{{User: u, EventTime: store.EventTime{Clerk: clerk.Millis(at)}}}, store.All)[0]
	if r.Err != nil {
		t.Fatal(r.Err)
	}
	return r.Outcome
}

func row(t *testing.T, db *database.DB, id string) testenv.Row {
	t.Helper()
	r, err := testenv.Get(t, store.NewUsers(db, mapping.Default()), id)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func version(changed, event int64) string { return fmt.Sprintf("%013d.%013d", changed, event) }

// TestLateOlderWebhookWins: a row is A, and Clerk's went to B and back to A. The webhook of the last change is lost,
// and a tier finds the row equal; the webhook of B, which comes only then, changes nothing.
func TestLateOlderWebhookWins(t *testing.T) {
	t.Parallel()
	for _, tier := range []reconcile.Tier{reconcile.Recent, reconcile.Full} {
		t.Run(string(tier), func(t *testing.T) {
			t.Parallel()
			testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
				fake := testenv.NewClerkAPI(t)
				r, people := reconciler(t, db, fake, 8)
				now := time.Now().UnixMilli()
				for i, b := range people {
					b.LastName, b.Updated = "Byron", now-30*60_000
					people[i].Updated = b.Updated + 60_000
					fake.Put(people[i])
				}
				found, drift, err := run(t, r, tier)
				if err != nil || drift != nil || found.Stale != 0 {
					t.Fatalf("got %+v, %v, %v, want no drift", found, drift, err)
				}
				for _, b := range people {
					b.LastName, b.Updated = "Byron", now-30*60_000
					o := apply(t, db, b, b.Updated)
					if got := row(t, db, b.ID); o != store.Stale || !strings.HasPrefix(got.FullName, "Ada Lovelace") {
						t.Errorf("the late webhook is %s: the row is %q", o, got.FullName)
					}
				}
			})
		})
	}
}

// TestQuietNight: where nothing has changed no tier writes anything to a row: a write leaves at least its time.
func TestQuietNight(t *testing.T) {
	t.Parallel()
	memory := testenv.NewMemory()
	fake := testenv.NewClerkAPI(t)
	r, _ := reconciler(t, memory.Connect(t, "test", nil, nil), fake, 130)
	before := memory.Docs("test", "users")
	for _, tier := range reconcile.Tiers() {
		if found, drift, err := run(t, r, tier); err != nil || drift != nil {
			t.Errorf("%s: got %+v, %v, %v", tier, found, drift, err)
		}
	}
	if d := cmp.Diff(before, memory.Docs("test", "users")); d != "" || len(before) != 130 {
		t.Errorf("rows were written (-before +after):\n%s", d)
	}
}

// TestDeafRow: a row whose version is wrongly too high takes no event any more. The full tier finds and repairs it, by
// what Clerk says of that user; no other tier does, and a row that may be newer than the list is left alone.
func TestDeafRow(t *testing.T) {
	t.Parallel()
	now := time.Now().UnixMilli()
	const minute = int64(60_000)
	for name, tc := range map[string]struct {
		version string
		name    string // of the row; Clerk's is Ada Lovelace 3
		list    string // what Clerk's list says, if it is behind
		want    string // the drift; "" if the row stays
	}{
		"from the future, and different": {
			version: version(now+60*minute, now), name: "Somebody", want: "stale %s full_name clerk.version",
		},
		"from the future, and equal": {
			version: version(now+60*minute, now), name: "Ada Lovelace 3", want: "stale %s clerk.version",
		},
		"from the future, and the list is behind": {
			version: version(now+60*minute, now), name: "Somebody", list: "Byron",
			want: "stale %s full_name clerk.version",
		},
		"a clock that is not far off": {version: version(now+5*minute, now), name: "Somebody"},
		"its newest time was taken away": {
			version: version(now-20*minute, now-20*minute), name: "Somebody", want: "stale %s full_name",
		},
		"just written": {version: version(now-20*minute, now-5*minute), name: "Somebody"},
		"the list is behind": {
			version: version(now-20*minute, now-20*minute), name: "Ada Lovelace 3", list: "Byron",
		},
		"the list and the row are": {
			version: version(now-20*minute, now-20*minute), name: "Somebody", list: "Somebody else",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
				fake := testenv.NewClerkAPI(t)
				r, people := reconciler(t, db, fake, 30)
				ada := people[3]
				set(t, db, ada.ID, doc{"full_name": tc.name, "clerk.version": tc.version})
				if tc.list != "" {
					behind := ada
					behind.LastName = tc.list
					fake.ListsAs(behind)
				}
				if found, drift, err := run(t, r, reconcile.Recent); err != nil || drift != nil {
					t.Fatalf("recent: got %+v, %v, %v", found, drift, err)
				}
				for _, dry := range []bool{true, false} {
					r.DryRun = dry
					found, drift, err := run(t, r, reconcile.Full)
					var want []string
					if tc.want != "" {
						want = []string{fmt.Sprintf(tc.want, ada.ID)}
					}
					if dry && tc.want == "" && drift != nil { // it cannot know what the run will find that much later
						continue
					}
					if d := cmp.Diff(want, drift); d != "" || err != nil || found.Stale != len(want) {
						t.Errorf("dry %v: got %+v, %v, drift (-want +got):\n%s", dry, found, err, d)
					}
				}
				got := row(t, db, ada.ID)
				if tc.want == "" {
					if got.FullName != tc.name || got.Clerk.Version != tc.version {
						t.Errorf("the row is %q %s, want it as it was", got.FullName, got.Clerk.Version)
					}
					return
				}
				if got.FullName != "Ada Lovelace 3" || got.Clerk.Version >= version(now+10*minute, 0) {
					t.Errorf("the row is %q %s, want Clerk's", got.FullName, got.Clerk.Version)
				}
				fake.ListsAs(ada)
				if found, drift, err := run(t, r, reconcile.Full); err != nil || drift != nil {
					t.Errorf("again: got %+v, %v, %v", found, drift, err)
				}
				ada.LastName, ada.Updated = "King", time.Now().UnixMilli()
				if o := apply(t, db, ada, ada.Updated); o != store.Updated {
					t.Errorf("the next event is %s", o)
				}
			})
		})
	}
}

// TestDeafRowIsWrittenMeanwhile: what an event writes after Clerk was asked is newer than the answer.
func TestDeafRowIsWrittenMeanwhile(t *testing.T) {
	t.Parallel()
	db := testenv.NewMemory().Connect(t, "test", nil, nil)
	fake := testenv.NewClerkAPI(t)
	r, people := reconciler(t, db, fake, 3)
	id := people[1].ID
	future := version(time.Now().Add(time.Hour).UnixMilli(), time.Now().UnixMilli())
	set(t, db, id, doc{"full_name": "Somebody", "clerk.version": future})
	later := version(time.Now().Add(2*time.Hour).UnixMilli(), time.Now().UnixMilli())
	fake.Fail = func(q *http.Request) int {
		if strings.HasSuffix(q.URL.Path, id) {
			set(t, db, id, doc{"full_name": "Newer", "clerk.version": later})
		}
		return 0
	}
	if found, drift, err := run(t, r, reconcile.Full); err != nil || drift != nil {
		t.Errorf("got %+v, %v, %v", found, drift, err)
	}
	if got := row(t, db, id); got.FullName != "Newer" {
		t.Errorf("the row is %q, want the newer one", got.FullName)
	}
}

// TestDeafRowOfTheDeleted: a deaf row of a user who is deleted when Clerk is asked is left to the absent tier, and is
// no failure.
func TestDeafRowOfTheDeleted(t *testing.T) {
	t.Parallel()
	db := testenv.NewMemory().Connect(t, "test", nil, nil)
	fake := testenv.NewClerkAPI(t)
	r, people := reconciler(t, db, fake, 3)
	id := people[1].ID
	set(t, db, id, doc{"clerk.version": version(time.Now().Add(time.Hour).UnixMilli(), 0)})
	fake.Fail = func(q *http.Request) int {
		if strings.HasSuffix(q.URL.Path, id) {
			fake.Remove(id)
		}
		return 0
	}
	if found, drift, err := run(t, r, reconcile.Full); err != nil || drift != nil || found.Failed != 0 {
		t.Errorf("got %+v, %v, %v, want nothing", found, drift, err)
	}
}

// TestDeafRowAndNoAnswer: if Clerk does not answer the step fails, to be done again; a user that is no longer there is
// left to the absent tier.
func TestDeafRowAndNoAnswer(t *testing.T) {
	t.Parallel()
	db := testenv.NewMemory().Connect(t, "test", nil, nil)
	fake := testenv.NewClerkAPI(t)
	r, people := reconciler(t, db, fake, 3)
	id := people[1].ID
	set(t, db, id, doc{"clerk.version": version(time.Now().Add(time.Hour).UnixMilli(), 0)})
	code := http.StatusTeapot
	fake.Fail = func(q *http.Request) int {
		if strings.HasSuffix(q.URL.Path, id) {
			return code
		}
		return 0
	}
	if _, drift, err := run(t, r, reconcile.Full); err == nil || drift != nil || errors.Is(err, clerk.ErrKey) {
		t.Errorf("got %v, %v, want an error", drift, err)
	}
	code = 0
	if _, drift, err := run(t, r, reconcile.Full); err != nil || len(drift) != 1 {
		t.Errorf("later: got %v, %v, want the drift", drift, err)
	}
}
