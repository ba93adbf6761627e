package reconcile_test

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"clerksync/clerk"
	"clerksync/internal/testenv"
	"clerksync/reconcile"
	"clerksync/store"
	"clerksync/store/database"
	"clerksync/store/mapping"
)

// TestEnsure: who exists at Clerk gets a row, by one request however many ask; who is deleted does not.
func TestEnsure(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		fake := testenv.NewClerkAPI(t)
		people := testenv.People(3)
		fake.Put(people[:2]...)
		users := store.NewUsers(db, mapping.Default())
		if err := users.Setup(t.Context()); err != nil {
			t.Fatal(err)
		}
		e := &reconcile.Ensure{API: api(t, fake, 0), Users: users}
		begun, release := make(chan struct{}, 20), make(chan struct{})
		var asked atomic.Int32
		fake.Fail = func(*http.Request) int {
			asked.Add(1)
			begun <- struct{}{}
			<-release
			return 0
		}
		var wg sync.WaitGroup
		impatient, cancel := context.WithCancel(t.Context())
		for i := range 20 {
			ctx := t.Context()
			if i == 0 {
				ctx = impatient
			}
			wg.Go(func() {
				r, err := e.Row(ctx, people[0].ID)
				if i == 0 && errors.Is(err, context.Canceled) {
					return
				}
				if err != nil || r.Text("full_name") != "Ada Lovelace 0" {
					t.Errorf("got %+v, %v", r, err)
				}
			})
		}
		<-begun
		cancel() // one that goes away takes nothing from the others
		close(release)
		wg.Wait()
		if n := asked.Load(); n != 1 {
			t.Errorf("asked Clerk %d times, want once", n)
		}

		testenv.Delete(t, users, people[1].ID)
		for id, want := range map[string]error{
			people[0].ID: nil, people[1].ID: reconcile.ErrDeleted,
			people[2].ID: clerk.ErrNoUser,
		} {
			if _, err := e.Row(t.Context(), id); !errors.Is(err, want) {
				t.Errorf("%s: got %v, want %v", id, err, want)
			}
		}
		if n := asked.Load(); n != 2 {
			t.Errorf("asked Clerk %d times, want once more", n)
		}
	})
}

// TestEnsureAsksForUsersOnly: what is not of the form of Clerk's ids is no user of Clerk's, and Clerk is not asked for
// its other pages.
func TestEnsureAsksForUsersOnly(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		fake := testenv.NewClerkAPI(t)
		users := store.NewUsers(db, mapping.Default())
		e := &reconcile.Ensure{API: api(t, fake, 0), Users: users}
		for _, id := range []string{
			"count", "", ".", "..", "user_", "user_nobody", "user_2people0000000000000000000/",
			"user_2people000000000000000000 0", "%63ount",
		} {
			if _, err := e.Row(t.Context(), id); !errors.Is(err, clerk.ErrNoUser) {
				t.Errorf("%q: got %v, want ErrNoUser", id, err)
			}
		}
		if got := fake.Requests(); len(got) > 0 {
			t.Errorf("Clerk was asked for %v", got)
		}
	})
}

// TestEnsureAppsOwnRow: a row that the app made under a Clerk id is not Clerk's answer: Clerk is asked, and the row
// written by the rule.
func TestEnsureAppsOwnRow(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		fake := testenv.NewClerkAPI(t)
		people := testenv.People(3)
		fake.Put(people[0])
		users := store.NewUsers(db, mapping.Default())
		if err := users.Setup(t.Context()); err != nil {
			t.Fatal(err)
		}
		for i, row := range []doc{
			{"_id": people[0].ID, "full_name": "the app's", "plan": "pro"},
			{"_id": people[1].ID, "full_name": "the app's", "clerk": doc{"version": "x"}},
			{"_id": "user_system", "full_name": "the app's"},
		} {
			if _, err := db.Collection("users").InsertOne(t.Context(), row); err != nil {
				t.Fatal(i, err)
			}
		}
		e := &reconcile.Ensure{API: api(t, fake, 0), Users: users}
		if r, err := e.Row(t.Context(), people[0].ID); err != nil || r.Text("full_name") != "Ada Lovelace 0" ||
			r.Clerk.Version == "" {
			t.Errorf("got %+v, %v, want Clerk's", r, err)
		}
		var kept struct{ Plan string }
		if err := db.Collection("users").FindOne(t.Context(), doc{"_id": people[0].ID}).Decode(&kept); err != nil ||
			kept.Plan != "pro" {
			t.Errorf("the app's field: got %+v, %v", kept, err)
		}
		if _, err := e.Row(t.Context(), people[0].ID); err != nil || len(fake.Requests()) != 1 {
			t.Errorf("again: %v, and Clerk was asked for %v, want once", err, fake.Requests())
		}
		for _, id := range []string{people[1].ID, "user_system"} { // whom Clerk does not know
			if r, err := e.Row(t.Context(), id); !errors.Is(err, clerk.ErrNoUser) || r.ID != "" {
				t.Errorf("%s: got %+v, %v, want ErrNoUser", id, r, err)
			}
			if n, err := db.Collection("users").CountDocuments(t.Context(), doc{"_id": id}); err != nil || n != 1 {
				t.Errorf("%s: %d rows are left, %v, want the app's", id, n, err)
			}
		}
	})
}
