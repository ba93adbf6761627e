package reconcile_test

import (
	"context"
	"testing"
	"time"

	"clerksync/internal/testenv"
	"clerksync/reconcile"
	"clerksync/store"

	"github.com/google/go-cmp/cmp"
)

// TestSource: each tier, ensure and restore say that it was they who asked for a write, of a deletion too. What they
// find right they do not write.
func TestSource(t *testing.T) {
	t.Parallel()
	db := testenv.NewMemory().Connect(t, "test", nil, nil)
	fake := testenv.NewClerkAPI(t)
	people := testenv.People(4)
	fake.Put(people...)
	var got []string
	watch := func(users *store.Users) {
		users.Watch(func(_ context.Context, changes []store.Change) error {
			for _, c := range changes {
				got = append(got, c.Source.Kind+" "+string(c.Outcome)+" "+c.UserID[len(c.UserID)-1:])
			}
			return nil
		})
	}
	r := backfiller(t, db, fake)
	watch(r.Users)
	r.MaxDelete = 100
	tier := func(tier reconcile.Tier) func() {
		return func() {
			if _, _, err := run(t, r, tier); err != nil {
				t.Fatal(err)
			}
		}
	}
	restore := restorer(t, db, fake)
	watch(restore.Users)
	for _, tc := range []struct {
		name string
		do   func()
		want []string
	}{
		{"backfill", tier(reconcile.Backfill), []string{
			"backfill created 0", "backfill created 1", "backfill created 2", "backfill created 3",
		}},
		{"recent", func() {
			people[0].LastName, people[0].Updated = "Byron", time.Now().Add(-20*time.Minute).UnixMilli()
			fake.Put(people[0])
			tier(reconcile.Recent)()
		}, []string{"recent updated 0"}},
		{"all is right", func() {
			tier(reconcile.Full)()
			tier(reconcile.Absent)()
			tier(reconcile.Recent)()
		}, nil},
		{"full", func() {
			set(t, db, people[1].ID, doc{"full_name": "X"})
			tier(reconcile.Full)()
		}, []string{"full updated 1"}},
		{"absent", func() {
			fake.Remove(people[2].ID)
			tier(reconcile.Absent)()
		}, []string{"absent deleted 2"}},
		{"restore", func() {
			fake.Put(people[2])
			if _, err := restore.Run(t.Context(), people[2].ID); err != nil {
				t.Fatal(err)
			}
		}, []string{"restore created 2"}},
		{"ensure", func() {
			if _, err := db.Collection("users").DeleteOne(t.Context(), doc{"_id": people[3].ID}); err != nil {
				t.Fatal(err)
			}
			ensure := &reconcile.Ensure{API: r.API, Users: r.Users}
			if _, err := ensure.Row(t.Context(), people[3].ID); err != nil {
				t.Fatal(err)
			}
		}, []string{"ensure created 3"}},
	} {
		got = nil
		tc.do()
		if d := cmp.Diff(tc.want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, d)
		}
	}
}
