package reconcile_test

import (
	"errors"
	"fmt"
	"slices"
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

// insert puts rows of the app's own beside ours.
func insert(t *testing.T, db *database.DB, rows ...doc) {
	t.Helper()
	for _, r := range rows {
		if _, err := db.Collection("users").InsertOne(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
}

// left returns which of these ids have a row.
func left(t *testing.T, db *database.DB, ids ...string) []string {
	t.Helper()
	return slices.DeleteFunc(slices.Clone(ids), func(id string) bool {
		n, err := db.Collection("users").CountDocuments(t.Context(), doc{"_id": id})
		if err != nil {
			t.Fatal(err)
		}
		return n == 0
	})
}

// TestAppsOwnRowsGo: rows whose ids are not of Clerk's form are no business of any tier; those with such an id that
// clerksync has never written are reported, and go by hand alone.
func TestAppsOwnRowsGo(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		fake := testenv.NewClerkAPI(t)
		r, people := reconciler(t, db, fake, 150)
		long := time.Now().Add(-time.Hour)
		stranger, marked := testenv.UserID(long, 1), testenv.UserID(long, 2)
		young := testenv.UserID(time.Now(), 3) // which the app's own sign-up may have written
		own := []string{"user_system", "user_seed_admin", people[0].ID + "x", people[0].ID[:31], "system", "user`"}
		for i, id := range own {
			insert(t, db, doc{"_id": id, "username": fmt.Sprint("app-", i)})
		}
		insert(t, db, doc{"_id": stranger, "username": "app-s"}, doc{"_id": young, "username": "app-y"},
			doc{"_id": marked, "username": "app-m", "clerk": doc{"version": "1.0"}})
		fake.Remove(people[7].ID)
		unknown := []string{"unknown " + stranger, "unknown " + marked}
		if stranger > marked {
			slices.Reverse(unknown)
		}
		extra := "extra " + people[7].ID
		for _, step := range []struct {
			tier      reconcile.Tier
			dry, hand bool
			want      []string
			found     reconcile.Found
		}{
			{
				tier: reconcile.Full, dry: true, want: append([]string{extra}, unknown...), found: reconcile.Found{
					Users: 149, Rows: 153, Extra: 1, Unknown: 2,
				},
			},
			{
				tier: reconcile.Absent, want: append([]string{extra}, unknown...), found: reconcile.Found{
					Rows: 153, Extra: 1, Unknown: 2,
				},
			},
			{tier: reconcile.Full, want: unknown, found: reconcile.Found{Users: 149, Rows: 152, Unknown: 2}},
			{
				tier: reconcile.Full, dry: true, hand: true, want: unknown, found: reconcile.Found{
					Users: 149, Rows: 152, Unknown: 2,
				},
			},
			{
				tier: reconcile.Full, hand: true, want: unknown, found: reconcile.Found{
					Users: 149, Rows: 152, Unknown: 2,
				},
			},
			{tier: reconcile.Full, hand: true, found: reconcile.Found{Users: 149, Rows: 150}},
		} {
			r.DryRun, r.RemoveUnknown = step.dry, step.hand
			found, drift, err := run(t, r, step.tier)
			if d := cmp.Diff(step.want, drift); d != "" || err != nil {
				t.Errorf("%+v: %v, drift (-want +got):\n%s", step, err, d)
			}
			if d := cmp.Diff(step.found, found); d != "" {
				t.Errorf("%+v: found (-want +got):\n%s", step, d)
			}
			there := append(slices.Clone(own), young)
			if !step.hand || step.dry {
				there = append(there, stranger, marked)
			}
			if d := cmp.Diff(there, left(t, db, append(slices.Clone(own), young, stranger, marked)...)); d != "" &&
				step.found.Unknown > 0 {
				t.Errorf("%+v: the app's rows (-want +got):\n%s", step, d)
			}
		}
	})
}

// TestBrakeCountsRowsThatMayNotGo: rows that a run does not remove make neither the part that may go larger nor "all"
// into "some".
func TestBrakeCountsRowsThatMayNotGo(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		people, gone, unknown, own int
		max                        float64
		byHand                     bool
		want                       error
	}{
		"all of ours, beside the app's": {
			people: 3, gone: 3, own: 200, max: 50, want: reconcile.ErrBrake,
		},
		"all of ours, beside unknown ones": {
			people: 3, gone: 3, unknown: 200, max: 50, want: reconcile.ErrBrake,
		},
		"a part of ours that the app's would make small": {
			people: 20, gone: 7, own: 500, unknown: 500, max: 1, want: reconcile.ErrBrake,
		},
		"unknown ones that stay": {people: 20, gone: 2, unknown: 300, max: 1},
		"unknown ones by hand": {
			people: 20, unknown: 300, max: 1, byHand: true, want: reconcile.ErrBrake,
		},
		"unknown ones by hand, allowed": {people: 20, unknown: 300, max: 95, byHand: true},
		"unknown ones by hand, and ours are all gone too": {
			people: 20, gone: 20, unknown: 3, max: 99, byHand: true, want: reconcile.ErrBrake,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := testenv.NewMemory().Connect(t, "test", nil, nil)
			fake := testenv.NewClerkAPI(t)
			r, people := reconciler(t, db, fake, tc.people)
			for i := range tc.unknown {
				insert(t, db, doc{
					"_id": testenv.UserID(time.Unix(1_767_603_600, 0), int64(i)), "username": fmt.Sprint("unknown-", i),
				})
			}
			for i := range tc.own {
				insert(t, db, doc{"_id": fmt.Sprint("user_own", i), "username": fmt.Sprint("own-", i)})
			}
			for _, p := range people[:tc.gone] {
				fake.Remove(p.ID)
			}
			r.MaxDelete, r.RemoveUnknown = tc.max, tc.byHand
			_, _, err := run(t, r, reconcile.Absent)
			if !errors.Is(err, tc.want) || tc.want == nil && err != nil {
				t.Errorf("got %v, want %v", err, tc.want)
			}
			want := tc.people + tc.unknown + tc.own
			if tc.want == nil {
				want -= tc.gone
				if tc.byHand {
					want -= tc.unknown
				}
			}
			if n, err := db.Collection("users").CountDocuments(t.Context(), doc{}); err != nil || int(n) != want {
				t.Errorf("%d rows are left, %v, want %d", n, err, want)
			}
		})
	}
}

// TestNewUserWithoutCreatedAt: a user whom Clerk does not find in the first seconds keeps the row, whatever the row
// says of its age.
func TestNewUserWithoutCreatedAt(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		fake := testenv.NewClerkAPI(t)
		r, _ := reconciler(t, db, fake, 3)
		u := clerk.User{ID: testenv.UserID(time.Now(), 1), Email: "new@mail.example"}
		users := store.NewUsers(db, mapping.Default())
		testenv.Write(t, users, store.Write{
			User: u, EventTime: store.EventTime{Clerk: clerk.Millis(time.Now().UnixMilli())},
		})
		if found, drift, err := run(t, r, reconcile.Absent); err != nil || drift != nil || found.Extra != 0 {
			t.Errorf("got %+v, %v, %v, want that nothing goes", found, drift, err)
		}
		if dead, err := users.IsDeleted(t.Context(), u.ID); dead || err != nil {
			t.Errorf("the new user is buried: %v, %v", dead, err)
		}
	})
}

// TestUnreadableUserIsNamed: whom Clerk lists in a shape that nobody can read, Clerk has: the row is neither extra nor
// unknown.
func TestUnreadableUserIsNamed(t *testing.T) {
	t.Parallel()
	db := testenv.NewMemory().Connect(t, "test", nil, nil)
	fake := testenv.NewClerkAPI(t)
	r, people := reconciler(t, db, fake, 10)
	own := testenv.UserID(time.Unix(1_767_603_600, 0), 1)
	insert(t, db, doc{"_id": own, "username": "own"})
	for _, id := range []string{people[3].ID, own} {
		fake.Put(testenv.ClerkUser{ID: id, Raw: []byte(`{"id":"` + id + `","object":"user","banned":"perhaps"}`)})
	}
	for _, r.RemoveUnknown = range []bool{false, true} {
		if found, drift, err := run(t, r, reconcile.Absent); err != nil || drift != nil || found.Failed != 0 {
			t.Errorf("got %+v, %v, %v, want nothing", found, drift, err)
		}
	}
}

// TestOneRefusedUserStopsTheRun: a user whom a unique index of the app's refuses is counted and logged, and harms no
// other.
func TestOneRefusedUserStopsTheRun(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		fake := testenv.NewClerkAPI(t)
		r, people := reconciler(t, db, fake, 50)
		unique(t, db, "email")
		insert(t, db, doc{"_id": "app-1", "username": "app-1", "email": "taken@mail.example"})
		refused, later := people[3], people[45]
		refused.Email, refused.Updated = "taken@mail.example", refused.Updated+1
		later.LastName, later.Updated = "Byron", later.Updated+1
		fake.Put(refused, later)
		found, drift, err := run(t, r, reconcile.Full)
		if d := cmp.Diff([]string{"stale " + later.ID + " full_name"}, drift); d != "" || err != nil ||
			found.Failed != 1 || found.Users != 50 {
			t.Errorf("got %+v, %v, drift (-want +got):\n%s", found, err, d)
		}
	})
}
