package app

import (
	"context"
	"strings"
	"sync"
	"testing"

	"clerksync/internal/testenv"
	"clerksync/store/database"
	"clerksync/store/mapping"
)

// TestMapIsRemembered: rows that one map has written are not lost to a service with another, or without one.
func TestMapIsRemembered(t *testing.T) {
	t.Parallel()
	members := func() *mapping.Map {
		return &mapping.Map{File: "clerksync.yaml", Collection: "members", Key: "clerkId", State: "_clerk"}
	}
	other := func(change func(*mapping.Map)) *mapping.Map {
		m := members()
		change(m)
		return m
	}
	const use = ": use the map that they were written with, or set MONGODB_DATABASE to a database of its own; " +
		"to change it on purpose, stop all services and run 'clerksync backfill --switch-map'"
	for name, tc := range map[string]struct {
		first, second       *mapping.Map
		firstApp, secondApp string
		want                string
	}{
		"the same": {members(), members(), "a", "a", ""},
		"other fields": {
			members(), other(func(m *mapping.Map) { m.Fields = mapping.Default().Fields }), "a", "a", "",
		},
		"no map, no map":   {mapping.Default(), mapping.Default(), "a", "a", ""},
		"by hand, service": {members(), members(), "", "a", ""},
		"service, by hand": {members(), members(), "a", "", ""},
		"the map is missing": {
			members(), mapping.Default(), "a", "a", "no map is set (CLERKSYNC_MAP, or clerksync.yaml in the working " +
				"folder), which has the users in users by _id, with the state in clerk, but in this database they " +
				"are in members by clerkId, with the state in _clerk" + use,
		},
		"there was none": {
			mapping.Default(), members(), "a", "a", "clerksync.yaml has the users in members by clerkId, with the " +
				"state in _clerk, but in this database they are in users by _id, with the state in clerk" + use,
		},
		"another collection": {members(), other(func(m *mapping.Map) { m.Collection = "people" }), "a", "a", "in " +
			"people by"},
		"another key": {members(), other(func(m *mapping.Map) { m.Key = "_id" }), "", "", "members by _id, " +
			"with"},
		"another state": {members(), other(func(m *mapping.Map) { m.State = "clerk" }), "", "a", "state in " +
			"clerk, but"},
		"another app": {
			members(), members(), "a", "b", "INNGEST_APP_ID is b, but the users in this database are kept by the " +
				"app a: set",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
				check := func(want string, f func() error) {
					t.Helper()
					got := ""
					if err := f(); err != nil {
						got = err.Error()
					}
					if !strings.Contains(got, want) || (want == "") != (got == "") || strings.Contains(got, "\n") {
						t.Errorf("got %q, want %q", got, want)
					}
				}
				ctx := t.Context()
				check("", func() error { return CheckMap(ctx, db, tc.second, tc.secondApp) })
				check("", func() error { return RememberMap(ctx, db, tc.first, tc.firstApp) })
				check(tc.want, func() error { return CheckMap(ctx, db, tc.second, tc.secondApp) })
				check(tc.want, func() error { return RememberMap(ctx, db, tc.second, tc.secondApp) })
				check("", func() error { return RememberMap(ctx, db, tc.first, tc.firstApp) })
				check("", func() error { return SwitchMap(ctx, db, tc.second) })
				check("", func() error { return RememberMap(ctx, db, tc.second, tc.secondApp) })
			})
		})
	}
}

// TestMapOfOlderVersion: a database that was used before there were maps has the default map's rows.
func TestMapOfOlderVersion(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		if err := database.NewCheckpoints(db).Save(t.Context(), "last_webhook", map[string]int{"at": 1}); err != nil {
			t.Fatal(err)
		}
		m := &mapping.Map{File: "clerksync.yaml", Collection: "users", Key: "clerkId", State: "clerk"}
		if err := RememberMap(t.Context(), db, m, "a"); err == nil || !strings.Contains(err.Error(), "in users by "+
			"_id") {
			t.Errorf("got %v, want that the users are there by _id", err)
		}
		if err := RememberMap(t.Context(), db, mapping.Default(), "a"); err != nil {
			t.Error(err)
		}
	})
}

// TestTwoFirstStarts: of services that start for the first time at once, with different maps, only those of one map do.
func TestTwoFirstStarts(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		var wg sync.WaitGroup
		started := make([]int, 3)
		var mu sync.Mutex
		for i := range 12 {
			m := mapping.Default()
			m.Collection += strings.Repeat("x", i%3)
			wg.Go(func() {
				if RememberMap(context.WithoutCancel(t.Context()), db, m, "a") == nil {
					mu.Lock()
					defer mu.Unlock()
					started[i%3]++
				}
			})
		}
		wg.Wait()
		if max(started[0], started[1], started[2]) != 4 || started[0]+started[1]+started[2] != 4 {
			t.Errorf("got %v started with each map, want 4 with one of them", started)
		}
	})
}
