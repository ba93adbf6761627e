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
)

// TestEnsure: who exists at Clerk gets a row, by one request however many ask; who is deleted does not.
func TestEnsure(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *store.DB) {
		fake := testenv.NewClerkAPI(t)
		people := testenv.People(3)
		fake.Put(people...)
		users := store.NewUsers(db)
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
				if err != nil || r.FullName != "Ada Lovelace 0" {
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

		if _, err := users.Delete(t.Context(), people[1].ID); err != nil {
			t.Fatal(err)
		}
		for id, want := range map[string]error{people[0].ID: nil, people[1].ID: reconcile.ErrDeleted, "user_nobody": clerk.ErrNoUser} {
			if _, err := e.Row(t.Context(), id); !errors.Is(err, want) {
				t.Errorf("%s: got %v, want %v", id, err, want)
			}
		}
		if n := asked.Load(); n != 2 {
			t.Errorf("asked Clerk %d times, want once more", n)
		}
	})
}
