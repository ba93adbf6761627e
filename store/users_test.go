package store_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"clerksync/clerk"
	"clerksync/internal/testenv"
	"clerksync/store"
	"clerksync/store/database"
	"clerksync/store/mapping"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.mongodb.org/mongo-driver/v2/bson"
)

// ada returns a user whose newest time is ms.
func ada(ms clerk.Millis, change ...func(*clerk.User)) clerk.User {
	u := clerk.User{
		ID: "user_ada", Email: "ada@example.com", EmailVerified: true, FullName: "Ada Lovelace",
		ImageURL: "https://img.example/a", CreatedAt: 1_700_000_000_000, ChangedAt: ms,
	}
	for _, f := range change {
		f(&u)
	}
	return u
}

// noon is the time of an event that came after all changes in these tests.
const noon clerk.Millis = 1_800_000_000_000

func named(name string) func(*clerk.User) { return func(u *clerk.User) { u.FullName = name } }

func users(t *testing.T, db *database.DB) *store.Users {
	t.Helper()
	s := store.NewUsers(db, mapping.Default())
	for range 2 { // it can be repeated
		if err := s.Setup(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// write writes one user, by an event whose time is noon and ms.
func write(t *testing.T, s *store.Users, u clerk.User, ms clerk.Millis) store.Outcome {
	t.Helper()
	return testenv.Write(t, s, store.Write{User: u, EventTime: store.EventTime{Clerk: noon + ms}})
}

func get(t *testing.T, s *store.Users, id string) testenv.Row {
	t.Helper()
	r, err := testenv.Get(t, s, id)
	if err != nil {
		t.Fatalf("Get(%s): %v", id, err)
	}
	return r
}

func TestUsers(t *testing.T) {
	t.Parallel()
	const t1, t2 = 1_700_000_000_100, 1_700_000_000_200
	type write struct {
		u       clerk.User
		at      clerk.Millis
		arrived clerk.Millis
		delete  bool
		want    store.Outcome
	}
	for name, tc := range map[string]struct {
		writes []write
		want   string // full name, or "" for no row
	}{
		"the first write creates": {[]write{{u: ada(t1), at: 1, want: store.Created}}, "Ada Lovelace"},
		"newer wins": {
			[]write{{u: ada(t1), at: 1, want: store.Created}, {
				u: ada(t2, named("Ada King")), at: 1,
				want: store.Updated,
			}}, "Ada King",
		},
		"older is stale": {
			[]write{
				{u: ada(t2, named("Ada King")), at: 1, want: store.Created},
				{u: ada(t1), at: 9, want: store.Stale},
			}, "Ada King",
		},
		"equal is applied again": {
			[]write{{u: ada(t1), at: 1, want: store.Created}, {u: ada(t1), at: 1, want: store.Unchanged}},
			"Ada Lovelace",
		},
		"a tie is broken by the event": {
			[]write{{u: ada(t1), at: 1, want: store.Created}, {
				u: ada(t1, named("Ada King")), at: 2,
				want: store.Updated,
			}, {u: ada(t1), at: 1, want: store.Stale}}, "Ada King",
		},
		"arrivals break a tie among themselves": {
			[]write{
				{u: ada(t1), arrived: 1, want: store.Created},
				{u: ada(t1, named("Ada King")), arrived: 3, want: store.Updated},
				{u: ada(t1), arrived: 2, want: store.Stale},
			}, "Ada King",
		},
		"Clerk's time is newer than an arrival": {
			[]write{
				{u: ada(t1, named("Ada King")), at: 1, want: store.Created},
				{u: ada(t1), arrived: 9, want: store.Stale},
			}, "Ada King",
		},
		"an arrival is older than Clerk's time": {
			[]write{
				{u: ada(t1), arrived: 9, want: store.Created},
				{u: ada(t1, named("Ada King")), at: 1, want: store.Updated},
			}, "Ada King",
		},
		"an unchanged row has a new version": {
			[]write{
				{u: ada(t1), at: 1, want: store.Created},
				{u: ada(t2), at: 2, want: store.Unchanged},
				{u: ada(t1, named("old")), at: 9, want: store.Stale},
			}, "Ada Lovelace",
		},
		"deleted stays deleted": {
			[]write{
				{u: ada(t1), want: store.Created},
				{delete: true, want: store.Deleted},
				{u: ada(t2), want: store.Deleted},
			}, "",
		},
		"delete before create": {
			[]write{
				{delete: true, want: store.Deleted},
				{u: ada(t2), want: store.Deleted},
				{delete: true, want: store.Deleted},
			}, "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
				s := users(t, db)
				for i, w := range tc.writes {
					if w.u.ID = "user_ada"; w.at != 0 {
						w.at += noon
					}
					if w.arrived != 0 {
						w.arrived += noon
					}
					o := testenv.Write(t, s, store.Write{
						User: w.u, EventTime: store.EventTime{Clerk: w.at, Arrived: w.arrived}, Deleted: w.delete,
					})
					if o != w.want {
						t.Fatalf("write %d: got %q, want %q", i, o, w.want)
					}
				}
				r, err := testenv.Get(t, s, "user_ada")
				if tc.want == "" && !errors.Is(err, store.ErrNotFound) || tc.want != "" && err != nil {
					t.Fatalf("Get: %v", err)
				}
				if r.FullName != tc.want {
					t.Errorf("got full_name %q, want %q", r.FullName, tc.want)
				}
			})
		})
	}
}

func TestRow(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		s := users(t, db)
		u := ada(1_700_000_000_100, func(u *clerk.User) { u.Banned, u.Locked, u.Deprovisioned = true, true, true })
		write(t, s, u, 150)
		want := testenv.Row{
			ID: "user_ada", Email: "ada@example.com", FullName: "Ada Lovelace", ProfilePicture: "https://img.example/a",
			Username: "ada",
			Clerk: store.State{
				Version: "1700000000100.1800000000150", CreatedAt: time.UnixMilli(1_700_000_000_000).UTC(),
				Banned: true, Locked: true, Deprovisioned: true, EmailVerified: true,
			},
		}
		got := get(t, s, "user_ada")
		if d := cmp.Diff(want, got, cmpopts.IgnoreFields(store.State{}, "SyncedAt")); d != "" {
			t.Errorf("row (-want +got):\n%s", d)
		}
		if since := time.Since(got.Clerk.SyncedAt); since < 0 || since > time.Minute {
			t.Errorf("synced_at is %v ago", since)
		}

		// A phone-only user has no field email at all.
		write(t, s, ada(1_700_000_000_200, func(u *clerk.User) { u.Email = "" }), 0)
		raw, err := db.Collection("users").FindOne(t.Context(), bson.D{{Key: "_id", Value: "user_ada"}}).Raw()
		if err != nil {
			t.Fatal(err)
		}
		if v, err := raw.LookupErr("email"); err == nil {
			t.Errorf("the row has email %v, want none", v)
		}
		if got := get(t, s, "user_ada").Username; got != "ada" {
			t.Errorf("got username %q after the address went, want ada", got)
		}
	})
}

// TestAppFields shows that what the app keeps in a row survives, and that a row which the app made is taken over.
func TestAppFields(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		rows := db.Collection("users")
		for i := range 2 { // two rows without a user name do not clash
			if _, err := rows.InsertOne(t.Context(), bson.D{
				{Key: "_id", Value: fmt.Sprintf("user_%d", i)},
				{Key: "plan", Value: "pro"},
			}); err != nil {
				t.Fatal(err)
			}
		}
		s := users(t, db)
		u := ada(100)
		u.ID = "user_0"
		if got := write(t, s, u, 1); got != store.Updated {
			t.Errorf("got %q, want updated", got)
		}
		write(t, s, u, 2)
		var got struct {
			Plan     string `bson:"plan"`
			Email    string `bson:"email"`
			Username string `bson:"username"`
		}
		if err := rows.FindOne(t.Context(), bson.D{{Key: "_id", Value: "user_0"}}).Decode(&got); err != nil {
			t.Fatal(err)
		}
		if got.Plan != "pro" || got.Email != "ada@example.com" || got.Username != "ada" {
			t.Errorf("got %+v", got)
		}
	})
}

func TestUsername(t *testing.T) {
	t.Parallel()
	user := func(id, username, email string) clerk.User {
		return clerk.User{ID: id, Username: username, Email: email, ChangedAt: 1}
	}
	for name, tc := range map[string]struct {
		writes []clerk.User
		want   map[string]string // by id; a * at the end stands for a suffix
	}{
		"Clerk's own": {
			[]clerk.User{user("user_a", "ada", "x@example.com")}, map[string]string{"user_a": "ada"},
		},
		"follows Clerk's": {
			[]clerk.User{user("user_a", "ada", ""), user("user_a", "countess", "")}, map[string]string{
				"user_a": "countess",
			},
		},
		"the local part": {
			[]clerk.User{user("user_a", "", "ada@example.com")}, map[string]string{"user_a": "ada"},
		},
		"given once": {
			[]clerk.User{user("user_a", "", "ada@example.com"), user("user_a", "", "king@example.com")},
			map[string]string{"user_a": "ada"},
		},
		"kept when Clerk's goes": {
			[]clerk.User{user("user_a", "ada", ""), user("user_a", "", "king@example.com")}, map[string]string{
				"user_a": "ada",
			},
		},
		"Clerk's replaces the local part": {
			[]clerk.User{user("user_a", "", "ada@example.com"), user("user_a", "countess", "")}, map[string]string{
				"user_a": "countess",
			},
		},
		"of the id": {
			[]clerk.User{user("user_a", "", "")}, map[string]string{"user_a": "user-*"},
		},
		"taken on creation": {
			[]clerk.User{user("user_a", "ada", ""), user("user_b", "", "ada@example.com")}, map[string]string{
				"user_a": "ada", "user_b": "ada-*",
			},
		},
		"taken on an update": {
			[]clerk.User{user("user_a", "ada", ""), user("user_b", "bob", ""), user("user_b", "ada", "")},
			map[string]string{"user_a": "ada", "user_b": "ada-*"},
		},
		"free again": {
			[]clerk.User{
				user("user_a", "ada", ""), user("user_b", "ada", ""), user("user_a", "eve", ""),
				user("user_b", "ada", ""),
			}, map[string]string{"user_a": "eve", "user_b": "ada"},
		},
		"a suffixed name is kept on a change": {
			[]clerk.User{
				user("user_a", "ada", ""), user("user_b", "", "ada@example.com"),
				user("user_b", "", "ada@example.com"),
			}, map[string]string{"user_b": "ada-*"},
		},
		"letters keep their case": {
			[]clerk.User{user("user_a", "", "Ada.L+x@example.com")}, map[string]string{"user_a": "Ada.L+x"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
				var first map[string]string
				for range 2 { // the second time in another database: the same names
					s := users(t, db)
					for i, u := range tc.writes {
						write(t, s, u, clerk.Millis(i))
					}
					got := map[string]string{}
					for id, want := range tc.want {
						got[id] = get(t, s, id).Username
						prefix, suffixed := strings.CutSuffix(want, "*")
						if suffixed && (!strings.HasPrefix(got[id], prefix) || len(got[id]) <= len(prefix)) ||
							!suffixed && got[id] != want {
							t.Errorf("%s has username %q, want %q", id, got[id], want)
						}
					}
					if d := cmp.Diff(first, got); first != nil && d != "" {
						t.Errorf("a retry gave other names (-first +second):\n%s", d)
					}
					first = got
					for id := range tc.want {
						if _, err := db.Collection("users").DeleteOne(t.Context(),
							bson.D{{Key: "_id", Value: id}}); err != nil {
							t.Fatal(err)
						}
					}
				}
			})
		})
	}
}

// TestSameEmail: Clerk can give an address to a new user id; merging by address would be an account takeover.
func TestSameEmail(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		s := users(t, db)
		a, b := ada(1), ada(1)
		b.ID = "user_other"
		write(t, s, a, 1)
		write(t, s, b, 1)
		if a, b := get(t, s, a.ID), get(t, s, b.ID); a.Email != b.Email || a.Username == b.Username {
			t.Errorf("got %q %q and %q %q, want one address and two names", a.Email, a.Username, b.Email, b.Username)
		}
	})
}

// TestConcurrentWriters: many writers of one user end at the newest, in one process on every database, in several only
// where the database is atomic.
func TestConcurrentWriters(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		processes := []*store.Users{users(t, db)}
		if !db.OneProcess {
			processes = append(processes, store.NewUsers(testenv.AnotherProcess(db), mapping.Default()),
				store.NewUsers(testenv.AnotherProcess(db), mapping.Default()))
		}
		const versions = 40
		var wg sync.WaitGroup
		for i := range versions {
			for _, s := range processes {
				wg.Go(func() {
					write(t, s, ada(clerk.Millis(1000+i), named(fmt.Sprint("v", i))), 1)
				})
			}
		}
		wg.Wait()
		if got, want := get(t, processes[0], "user_ada").FullName, fmt.Sprint("v", versions-1); got != want {
			t.Errorf("got full_name %q, want %q", got, want)
		}
	})
}

// TestUsernameRace: users that race for one name each get a row, and one of them the name.
func TestUsernameRace(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		s := users(t, db)
		const n = 20
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() {
				u := ada(1)
				u.ID = fmt.Sprint("user_", i)
				write(t, s, u, 1)
			})
		}
		wg.Wait()
		names := map[string]int{}
		for i := range n {
			names[get(t, s, fmt.Sprint("user_", i)).Username]++
		}
		if len(names) != n || names["ada"] != 1 {
			t.Errorf("got names %v, want %d different ones and ada among them", names, n)
		}
	})
}

// TestDeleteRace: whatever a deletion overlaps with, it wins.
func TestDeleteRace(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		a, b := users(t, db), store.NewUsers(testenv.AnotherProcess(db), mapping.Default())
		if db.OneProcess {
			b = a
		}
		for i := range 25 {
			u := ada(1)
			u.ID = fmt.Sprint("user_", i)
			var wg sync.WaitGroup
			for j := range 3 {
				wg.Go(func() {
					write(t, a, u, clerk.Millis(j))
				})
			}
			wg.Go(func() {
				testenv.Delete(t, b, u.ID)
			})
			wg.Wait()
			if r, err := a.Get(t.Context(), u.ID); !errors.Is(err, store.ErrNotFound) {
				t.Fatalf("round %d: got %+v, %v, want no row", i, r, err)
			}
		}
	})
}

// TestCrashedWriter: a writer that died between its write and its look for the tombstone leaves a row; its retry
// removes it, and so does any later event of the user.
func TestCrashedWriter(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		s := users(t, db)
		testenv.Delete(t, s, "user_ada")
		for name, version := range map[string]string{
			"older": "0000000000000.0000000000000",
			"newer": "9999999999999.0000000000000",
		} {
			row := bson.D{
				{Key: "_id", Value: "user_ada"}, {Key: "username", Value: "ada"}, {
					Key: "clerk", Value: bson.D{{Key: "version", Value: version}},
				},
			}
			if _, err := db.Collection("users").InsertOne(t.Context(), row); err != nil {
				t.Fatal(err)
			}
			if got := write(t, s, ada(1), 1); got != store.Deleted {
				t.Errorf("%s: got %q, want deleted", name, got)
			}
			if _, err := s.Get(t.Context(), "user_ada"); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("%s: got %v, want no row", name, err)
			}
		}
	})
}

// TestTombstone holds what is kept of a deleted user: the id and the time.
func TestTombstone(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		s := users(t, db)
		write(t, s, ada(1), 1)
		testenv.Delete(t, s, "user_ada")
		raw, err := db.Collection("clerksync_deleted_users").FindOne(t.Context(),
			bson.D{{Key: "_id", Value: "user_ada"}}).Raw()
		if err != nil {
			t.Fatal(err)
		}
		els, err := raw.Elements()
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range els {
			got = append(got, e.Key())
		}
		if d := cmp.Diff([]string{"_id", "deleted_at"}, got); d != "" {
			t.Errorf("fields (-want +got):\n%s", d)
		}
	})
}
