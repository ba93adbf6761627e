package store_test

import (
	"testing"
	"time"

	"clerksync/internal/testenv"
	"clerksync/store"
	"clerksync/store/database"
	"clerksync/store/mapping"
)

// TestInspect: a database says what it is, lacks its indexes until Setup, and counts Clerk's users alone.
func TestInspect(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		s, err := db.Inspect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if s.Name != "MongoDB" && s.Name != "FerretDB" || db.OneProcess != (s.Kind == database.OneProcess) ||
			s.Ahead.Abs() > time.Minute {
			t.Errorf("got %+v", s)
		}
		users, welcomes := store.NewUsers(db, mapping.Default()), store.NewWelcomes(db)
		lacks := func(want bool) {
			t.Helper()
			for name, f := range map[string]func() (bool, error){
				"users":         func() (bool, error) { return users.LacksIndex(t.Context()) },
				"welcome_mails": func() (bool, error) { return welcomes.LacksIndex(t.Context()) },
			} {
				if got, err := f(); err != nil || got != want {
					t.Errorf("%s lacks an index: got %v, %v, want %v", name, got, err, want)
				}
			}
		}
		lacks(testenv.ListsIndexes(t, db))
		if err := users.Setup(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := welcomes.Setup(t.Context()); err != nil {
			t.Fatal(err)
		}
		lacks(false)
		for _, id := range []string{testenv.People(1)[0].ID, testenv.People(2)[1].ID, "user_1", "app_1", "zoe"} {
			if _, err := db.Collection("users").InsertOne(t.Context(),
				map[string]string{"_id": id, "username": id}); err != nil {
				t.Fatal(err)
			}
		}
		if n, err := users.Count(t.Context()); err != nil || n != 2 {
			t.Errorf("counted %d, %v, want 2", n, err)
		}
	})
}
