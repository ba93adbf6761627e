package store_test

import (
	"testing"
	"time"

	"clerksync/clerk"
	"clerksync/internal/testenv"
	"clerksync/store"

	"github.com/google/go-cmp/cmp"
)

// TestCompare: it says what a write would do, and does nothing.
func TestCompare(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *store.DB) {
		s := users(t, db)
		for _, id := range []string{"a", "b", "c", "d"} {
			u := ada(5)
			u.ID = id
			apply(t, s, u, 1)
		}
		if _, err := s.Delete(t.Context(), "d"); err != nil {
			t.Fatal(err)
		}
		user := func(id string, at clerk.Millis, change ...func(*clerk.User)) store.Write {
			u := ada(at, change...)
			u.ID = id
			return store.Write{User: u, When: store.When{Clerk: 2}}
		}
		named := func(u *clerk.User) { u.FullName, u.Email, u.Banned, u.Username = "Ada King", "", true, "king" }
		got, err := s.Compare(t.Context(), []store.Write{
			user("a", 6, named), user("b", 6), user("c", 4, named), user("d", 9), user("e", 1), {User: clerk.User{ID: "a"}, Deleted: true},
		})
		if err != nil {
			t.Fatal(err)
		}
		want := []store.Difference{
			{"a", store.Updated, []store.Field{
				{"email", "ada@example.com", ""}, {"full_name", "Ada Lovelace", "Ada King"}, {"username", "ada", "king"}, {"clerk.banned", "false", "true"},
			}},
			{UserID: "b", Outcome: store.Unchanged},
			{UserID: "c", Outcome: store.Stale},
			{UserID: "d", Outcome: store.Deleted},
			{UserID: "e", Outcome: store.Created},
			{UserID: "a", Outcome: store.Deleted},
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("-want +got:\n%s", d)
		}
		if r := get(t, s, "a"); r.FullName != "Ada Lovelace" {
			t.Errorf("it was written: %+v", r)
		}
		// A user name that Clerk gave, but that was taken, is no difference.
		taken := user("b", 7, func(u *clerk.User) { u.Username = "ada" })
		apply(t, s, taken.User, 2)
		if got, err := s.Compare(t.Context(), []store.Write{taken}); err != nil || got[0].Outcome != store.Unchanged {
			t.Errorf("got %+v, %v, want unchanged", got, err)
		}
	})
}

// TestCheckpoints: what was saved is there, until it is removed.
func TestCheckpoints(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *store.DB) {
		type state struct {
			N  int       `bson:"n"`
			At time.Time `bson:"at"`
		}
		c := store.NewCheckpoints(db)
		var got state
		if ok, err := c.Load(t.Context(), "x", &got); ok || err != nil {
			t.Errorf("got %v, %v, want nothing", ok, err)
		}
		want := state{2, time.UnixMilli(1767603600000).UTC()}
		for _, s := range []state{{N: 1}, want} {
			if err := c.Save(t.Context(), "x", s); err != nil {
				t.Fatal(err)
			}
		}
		if ok, err := c.Load(t.Context(), "x", &got); !ok || err != nil || !cmp.Equal(want, got) {
			t.Errorf("got %v, %+v, %v, want %+v", ok, got, err, want)
		}
		if err := c.Remove(t.Context(), "x"); err != nil {
			t.Fatal(err)
		}
		if ok, err := c.Load(t.Context(), "x", &got); ok || err != nil {
			t.Errorf("got %v, %v, want nothing", ok, err)
		}
	})
}
