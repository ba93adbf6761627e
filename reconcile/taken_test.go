package reconcile_test

import (
	"context"
	"errors"
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

// unique makes unique indexes of the app's on these fields.
func unique(t *testing.T, db *database.DB, fields ...string) {
	t.Helper()
	for _, field := range fields {
		ix := database.Index{Field: field, Unique: true}
		if err := db.Collection("users").EnsureIndex(t.Context(), ix); err != nil {
			t.Fatal(err)
		}
	}
}

// move gives the first person the address of the second, that one the third's, and so on, and the last one that of the
// person in last, or a new one if last is negative.
func move(fake *testenv.ClerkAPI, people []testenv.ClerkUser, last int, of ...int) {
	was, changed := slices.Clone(people), time.Now().Add(-10*time.Minute).UnixMilli()
	for n, i := range of {
		next := last
		if n+1 < len(of) {
			next = of[n+1]
		}
		people[i].Updated = changed
		if people[i].Email = "new@mail.example"; next >= 0 {
			people[i].Email = was[next].Email
		}
		fake.Put(people[i])
	}
}

// TestSwappedAddresses: users whose addresses have moved in a chain or in a circle, and of whom no webhook has come,
// end as Clerk has them; what the app's index really forbids is named and left alone.
func TestSwappedAddresses(t *testing.T) {
	t.Parallel()
	chain := func(n int) (of []int) {
		for i := range n {
			of = append(of, (i*7+1)%50) // on all three pages
		}
		return of
	}
	for name, tc := range map[string]struct {
		last   int
		of     []int
		app    bool // a row of the app's has the address that the last one gets
		same   bool // Clerk gives the last one an address that another user has too
		failed int
	}{
		"a swap on one page":        {of: []int{1, 2}, last: 1},
		"a swap, the later first":   {of: []int{2, 1}, last: 2},
		"a swap on two pages":       {of: []int{1, 45}, last: 1},
		"a circle of three":         {of: []int{3, 1, 2}, last: 3},
		"a circle of many":          {of: chain(12), last: chain(12)[0]},
		"a chain":                   {of: []int{1, 2, 3}, last: -1},
		"a chain, the other way":    {of: []int{3, 2, 1}, last: -1},
		"a chain of many":           {of: chain(12), last: -1},
		"a chain to the app's row":  {of: []int{1, 2, 3}, last: -1, app: true, failed: 3},
		"two with the same address": {of: []int{1, 2}, last: 3, same: true, failed: 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
				for _, tier := range []reconcile.Tier{reconcile.Full, reconcile.Recent, reconcile.Backfill} {
					if _, err := db.Collection("users").DeleteMany(t.Context(), doc{}); err != nil {
						t.Fatal(err)
					}
					fake := testenv.NewClerkAPI(t)
					r, people := reconciler(t, db, fake, 50)
					unique(t, db, "email")
					if tc.app {
						insert(t, db, doc{"_id": "app-1", "username": "app-1", "email": "new@mail.example"})
					}
					move(fake, people, tc.last, tc.of...)
					found, drift, err := run(t, r, tier)
					if err != nil || found.Failed != tc.failed {
						t.Errorf("%s: got %+v, %v", tier, found, err)
					}
					if n := len(tc.of) - tc.failed; tier != reconcile.Backfill &&
						(found.Stale != n || len(drift) != n) {
						t.Errorf("got %d stale, %q, want %d", found.Stale, drift, n)
					}
					for i, p := range people {
						want := p.Email
						if tc.failed > 0 && slices.Contains(tc.of, i) {
							want = testenv.People(50)[i].Email
						}
						if got := row(t, db, p.ID).Email; got != want {
							t.Errorf("%s: %d has %s, want %s", tier, i, got, want)
						}
					}
				}
			})
		})
	}
}

// TestInTheWayOfTwoIndexes: a user has the address of one user and the picture of another, of whom no webhook has come.
func TestInTheWayOfTwoIndexes(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		fake := testenv.NewClerkAPI(t)
		r, people := reconciler(t, db, fake, 5)
		unique(t, db, "email", "full_name")
		people[0].LastName = people[2].LastName
		people[2].LastName = "Byron"
		move(fake, people, -1, 0, 1)
		people[2].Updated = people[0].Updated
		fake.Put(people[2])
		if found, drift, err := run(t, r, reconcile.Full); err != nil || found.Failed > 0 || len(drift) != 3 {
			t.Errorf("got %+v, %q, %v", found, drift, err)
		}
	})
}

// TestSwapThatCannotEnd: two users have swapped addresses, and a row of the app's has the name that one of them has
// now, so that this user's row cannot be written. The other row gets back the address that it gave up for it in vain,
// and then the one that Clerk says.
func TestSwapThatCannotEnd(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		fake := testenv.NewClerkAPI(t)
		r, people := reconciler(t, db, fake, 2)
		unique(t, db, "email", "full_name")
		insert(t, db, doc{"_id": "app-1", "username": "app-1", "full_name": "Ada Byron"})
		people[1].LastName = "Byron"
		move(fake, people, 0, 0, 1)
		if found, _, err := run(t, r, reconcile.Full); err != nil || found.Failed != 2 {
			t.Errorf("got %+v, %v, want that both fail", found, err)
		}
		got := []string{row(t, db, people[0].ID).Email, row(t, db, people[1].ID).Email}
		if d := cmp.Diff([]string{people[0].Email, ""}, got); d != "" {
			t.Errorf("addresses (-want +got):\n%s", d)
		}
	})
}

// TestKilledBetweenSwappedRows: whatever becomes of a run that resolves a swap or a circle, at each of its calls, the
// next one ends as Clerk has it. So does the run itself if the webhooks of the users come at any point in between.
func TestKilledBetweenSwappedRows(t *testing.T) {
	t.Parallel()
	step := 1
	if testing.Short() && testenv.Race { // which finds nothing more at the other calls
		step = 5
	}
	for name, tc := range map[string]struct {
		of    []int
		fault testenv.Fault
	}{
		"swap, webhooks":       {[]int{0, 1}, testenv.None},
		"swap, killed before":  {[]int{0, 1}, testenv.KilledBefore},
		"swap, killed after":   {[]int{0, 1}, testenv.KilledAfter},
		"swap, refused":        {[]int{0, 1}, testenv.Refused},
		"circle, webhooks":     {[]int{2, 0, 1}, testenv.None},
		"circle, killed after": {[]int{2, 0, 1}, testenv.KilledAfter},
		"circle, cancelled":    {[]int{2, 0, 1}, testenv.Cancelled},
		"circle, lost":         {[]int{2, 0, 1}, testenv.Lost},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for at, more := 0, true; more; at += step {
				more = swap(t, tc.of, tc.fault, at)
			}
		})
	}
}

// swap makes a run with a fault at one call and, if that is None, the webhooks of the users just before it. It tells
// whether there is such a call.
func swap(t *testing.T, of []int, fault testenv.Fault, at int) bool {
	t.Helper()
	lab := testenv.NewLab(t, 1)
	p := lab.Processes[0]
	fake := testenv.NewClerkAPI(t)
	r, people := backfiller(t, p.DB, fake), testenv.People(3)
	unique(t, p.DB, "email")
	other := lab.Memory.Connect(t, "lab", nil, nil)
	webhooks(t, other, people)
	fake.Put(people...)
	move(fake, people, of[0], of...)
	ended, err := p.Start(t.Context(), func(ctx context.Context) error {
		_, err := r.Run(ctx, reconcile.Start(reconcile.Full, "first"), func(*reconcile.BusyError) {})
		return err
	})
	n := 0
	for ; !ended; n++ {
		f := testenv.None
		if n == at {
			if f = fault; f == testenv.None {
				webhooks(t, other, people)
			}
		}
		ended, err = p.Step(f)
	}
	if fault == testenv.None && err != nil {
		t.Errorf("at %d: %v", at, err)
	}
	if err != nil || fault != testenv.None {
		// The lease of a killed run is over after three minutes.
		if err := database.NewCheckpoints(other).Remove(t.Context(), "reconcile_lease"); err != nil {
			t.Fatal(err)
		}
		again := *r
		again.Users, again.State = store.NewUsers(other, mapping.Default()), database.NewCheckpoints(other)
		if found, _, err := run(t, &again, reconcile.Full); err != nil || found.Failed > 0 {
			t.Errorf("at %d: got %+v, %v", at, found, err)
		}
	}
	for _, u := range people {
		if d := cmp.Diff(u.Email, row(t, other, u.ID).Email); d != "" {
			t.Errorf("%s at call %d (-want +got):\n%s", fault, at, d)
		}
	}
	return n > at
}

// webhooks delivers what Clerk says about these users now; a row that a unique index refuses is not written.
func webhooks(t *testing.T, db *database.DB, people []testenv.ClerkUser) {
	t.Helper()
	for _, p := range people {
		u, err := clerk.ParseUser(p.JSON())
		if err != nil {
			t.Fatal(err)
		}
		w := store.Write{User: u, EventTime: store.EventTime{Clerk: u.ChangedAt}}
		err = store.NewUsers(db, mapping.Default()).Write(t.Context(), []store.Write{w}, store.All)[0].Err
		if err != nil && !errors.Is(err, store.ErrRefused) {
			t.Fatal(err)
		}
	}
}
