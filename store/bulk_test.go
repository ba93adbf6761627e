package store_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"clerksync/clerk"
	"clerksync/internal/testenv"
	"clerksync/store"

	"github.com/google/go-cmp/cmp"
)

// TestWriteMany: many writes at once end as they do one by one.
func TestWriteMany(t *testing.T) {
	t.Parallel()
	user := func(id string, at clerk.Millis, change ...func(*clerk.User)) store.Write {
		u := ada(at, change...)
		u.ID = "user_" + id
		return store.Write{User: u, When: store.When{Clerk: 1}}
	}
	dead := func(id string) store.Write { return store.Write{User: clerk.User{ID: "user_" + id}, Deleted: true} }
	testenv.EachDatabase(t, func(t *testing.T, db *store.DB) {
		s := users(t, db)
		for _, step := range []struct {
			writes []store.Write
			want   []store.Outcome
			rows   map[string]string // full names
		}{
			{[]store.Write{}, []store.Outcome{}, nil},
			{
				[]store.Write{user("a", 2), user("b", 2), user("c", 2)},
				[]store.Outcome{store.Created, store.Created, store.Created},
				map[string]string{"a": "Ada Lovelace", "b": "Ada Lovelace", "c": "Ada Lovelace"},
			},
			{
				[]store.Write{user("a", 3, named("King")), user("b", 1, named("old")), user("c", 3), dead("d"), user("e", 1), dead("nobody")},
				[]store.Outcome{store.Updated, store.Stale, store.Unchanged, store.Deleted, store.Created, store.Deleted},
				map[string]string{"a": "King", "b": "Ada Lovelace", "c": "Ada Lovelace", "e": "Ada Lovelace"},
			},
			{ // one user more than once
				[]store.Write{user("f", 1, named("1")), user("f", 3, named("3")), user("f", 2, named("2")), user("e", 9), dead("e"), user("e", 8), user("d", 9)},
				[]store.Outcome{store.Stale, store.Created, store.Stale, store.Deleted, store.Deleted, store.Deleted, store.Deleted},
				map[string]string{"a": "King", "f": "3"},
			},
			{ // new rows beside one that is there and one that is dead
				[]store.Write{user("g", 1), user("a", 4, named("Byron")), user("d", 1), user("h", 1)},
				[]store.Outcome{store.Created, store.Updated, store.Deleted, store.Created},
				map[string]string{"a": "Byron", "g": "Ada Lovelace", "h": "Ada Lovelace"},
			},
		} {
			got := []store.Outcome{}
			for i, w := range s.WriteMany(t.Context(), step.writes) {
				if w.Err != nil {
					t.Fatalf("write %d: %v", i, w.Err)
				}
				got = append(got, w.Outcome)
			}
			if d := cmp.Diff(step.want, got); d != "" {
				t.Errorf("outcomes (-want +got):\n%s", d)
			}
			for id, want := range step.rows {
				if r := get(t, s, "user_"+id); r.FullName != want {
					t.Errorf("user_%s: got %q, want %q", id, r.FullName, want)
				}
			}
		}
		for _, id := range []string{"user_d", "user_e", "user_nobody"} {
			if r, err := s.Get(t.Context(), id); err == nil {
				t.Errorf("got %+v, want no row", r)
			}
		}
		names := map[string]bool{}
		rows, err := s.GetMany(t.Context(), []string{"user_a", "user_b", "user_c", "user_d", "user_f", "user_g", "user_h", "user_none"})
		if err != nil || len(rows) != 6 {
			t.Fatalf("GetMany: got %d rows, %v, want 6", len(rows), err)
		}
		for _, r := range rows {
			names[r.Username] = true
		}
		if len(names) != 6 || !names["ada"] {
			t.Errorf("got names %v, want six, ada among them", names)
		}
	})
}

// TestWriteManyAtOnce: bulks of the same users, single writes and deletions side by side end at the newest, and deleted users stay so.
func TestWriteManyAtOnce(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *store.DB) {
		a, b := users(t, db), store.NewUsers(testenv.AnotherProcess(db))
		if db.OneProcess {
			b = a
		}
		const n, versions = 60, 6
		var wg sync.WaitGroup
		for v := range versions {
			for _, s := range []*store.Users{a, b} {
				wg.Go(func() {
					var writes []store.Write
					for i := range n {
						u := ada(clerk.Millis(1000+v), named(fmt.Sprint("v", v)))
						u.ID = fmt.Sprint("user_", i)
						writes = append(writes, store.Write{User: u, When: store.When{Clerk: 1}, Deleted: i%7 == 0 && v == 3})
					}
					rng := rand.New(rand.NewPCG(uint64(v), 0))
					rng.Shuffle(len(writes), func(i, j int) { writes[i], writes[j] = writes[j], writes[i] })
					for len(writes) > 0 {
						for i, w := range a.WriteMany(t.Context(), writes[:min(25, len(writes))]) {
							if w.Err != nil {
								t.Errorf("%s: %v", writes[i].User.ID, w.Err)
							}
						}
						if _, err := s.Apply(t.Context(), writes[0].User, writes[0].When); err != nil {
							t.Error(err)
						}
						writes = writes[min(25, len(writes)):]
					}
				})
			}
		}
		wg.Wait()
		for i := range n {
			r, err := a.Get(t.Context(), fmt.Sprint("user_", i))
			if dead := i%7 == 0; dead != (err != nil) || !dead && r.FullName != fmt.Sprint("v", versions-1) {
				t.Errorf("user_%d: got %q, %v", i, r.FullName, err)
			}
		}
	})
}

// TestPropertyMany is TestProperty with bulks of one to five deliveries.
func TestPropertyMany(t *testing.T) {
	t.Parallel()
	n, first := 1000, uint64(time.Now().UnixNano())
	switch {
	case *seedFlag != 0:
		n, first = 1, *seedFlag
	case testing.Short():
		n = 100
	}
	p := newProperty(t)
	for i := range n {
		seed := first + uint64(i)
		rng := rand.New(rand.NewPCG(seed, 0))
		p.lab.Memory.Clear()
		histories := testenv.Histories(t, rng, users1)
		var writes []store.Write
		for _, h := range histories {
			for _, hook := range h.Webhooks {
				w := store.Write{When: store.When{Clerk: clerk.Millis(hook.TS)}, Deleted: hook.Type == clerk.UserDeleted}
				var err error
				if w.User.ID = h.UserID; !w.Deleted {
					w.User, err = clerk.ParseUser(hook.Data)
				}
				if err != nil {
					t.Fatal(err)
				}
				writes = append(writes, w)
			}
		}
		rng.Shuffle(len(writes), func(i, j int) { writes[i], writes[j] = writes[j], writes[i] })
		var deliveries []testenv.Delivery
		for bulk := range slices.Chunk(writes, 1+rng.IntN(5)) {
			deliveries = append(deliveries, testenv.Delivery{UserID: bulk[0].User.ID, Do: func(ctx context.Context, process int) error {
				for _, w := range p.users[process].WriteMany(ctx, bulk) {
					if w.Err != nil {
						return w.Err
					}
				}
				return nil
			}})
		}
		if err := p.lab.Simulate(t.Context(), rng, deliveries, 12, func(string) error { return nil }); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		for _, d := range testenv.CheckAll(histories, func(id string) *store.Row { return p.lab.Row(t, id) }) {
			t.Errorf("seed %d: %s", seed, d)
		}
		if t.Failed() {
			t.Fatalf("reproduce with: go test ./store -run TestPropertyMany -seed %d", seed)
		}
	}
}
