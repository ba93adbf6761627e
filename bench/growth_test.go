// Package bench_test measures what operations cost. Nothing in it passes or fails by time: docs/performance.md has the
// figures and how they were taken.
package bench_test

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"testing"

	"clerksync/clerk"
	"clerksync/internal/testenv"
	"clerksync/store"
	"clerksync/store/database"
	"clerksync/store/embedded"
	"clerksync/store/mapping"
)

// sizes are how many users the collection has.
var sizes = []int{100, 10_000, 100_000, 1_000_000}

// user returns the nth user, at a version.
func user(n int, version clerk.Millis) clerk.User {
	return clerk.User{
		ID: fmt.Sprintf("user_2bench%020d", n), Email: fmt.Sprintf("person-%d@example.com", n), EmailVerified: true,
		FullName: "Ada Lovelace", ImageURL: "https://img.example/a", CreatedAt: 1_767_603_600_000,
		ChangedAt: 1_767_603_600_000 + version,
	}
}

// fill brings the collection from have to want users, a thousand in an insert.
func fill(b *testing.B, db *database.DB, have, want int) {
	b.Helper()
	for ; have < want; have += 1000 {
		var rows []any
		for n := have; n < min(have+1000, want); n++ {
			u := user(n, 0)
			rows = append(rows, testenv.Row{
				ID: u.ID, Email: u.Email, FullName: u.FullName, ProfilePicture: u.ImageURL,
				Username: fmt.Sprintf("person-%d", n),
				Clerk: store.State{
					Version: "1767603600000.0000000000000", CreatedAt: u.CreatedAt.Time(), EmailVerified: true,
				},
			})
		}
		if _, err := db.Collection("users").InsertMany(b.Context(), rows); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkGrowth measures one write by the size of the collection. The embedded database runs as the service runs it,
// and once more as FerretDB ships it, without the index that its lookups by _id use.
func BenchmarkGrowth(b *testing.B) {
	b.Run("embedded", func(b *testing.B) { growth(b, testenv.Embedded(b), sizes) })
	b.Run("embedded without its index", func(b *testing.B) {
		engine, err := embedded.Start(b.Context(), b.TempDir(), "127.0.0.1:0", slog.New(slog.DiscardHandler))
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() {
			if err := engine.Close(); err != nil {
				b.Error(err)
			}
		})
		growth(b, testenv.Connect(b, engine.URI(), "bench"), []int{100, 1_000, 10_000})
	})
	b.Run("external", func(b *testing.B) {
		uri := os.Getenv(testenv.MongoURI)
		if uri == "" {
			b.Skipf("%s is not set", testenv.MongoURI)
		}
		growth(b, testenv.Connect(b, uri, "bench_growth"), sizes)
	})
}

func growth(b *testing.B, db *database.DB, sizes []int) {
	b.Helper()
	s := store.NewUsers(db, mapping.Default())
	if err := s.Setup(b.Context()); err != nil {
		b.Fatal(err)
	}
	have, next, version := 0, 1_000_000, clerk.Millis(1)
	write := func(b *testing.B, w store.Write, want store.Outcome) {
		b.Helper()
		if r := s.Write(b.Context(), []store.Write{w}, store.All)[0]; r.Err != nil || r.Outcome != want {
			b.Fatalf("got %q, %v, want %q", r.Outcome, r.Err, want)
		}
	}
	for _, size := range sizes {
		fill(b, db, have, size)
		have = size
		b.Run(fmt.Sprintf("update/rows=%d", size), func(b *testing.B) {
			for b.Loop() {
				version++
				u := user(int(version)*7919%size, version) // all over the collection
				u.FullName = fmt.Sprint("Ada ", version)
				write(b, store.Write{User: u}, store.Updated)
			}
		})
		b.Run(fmt.Sprintf("create and delete/rows=%d", size), func(b *testing.B) {
			for b.Loop() {
				next++
				u := user(next, 1)
				write(b, store.Write{User: u}, store.Created)
				write(b, store.Write{User: u, Deleted: true}, store.Deleted)
			}
		})
	}
	if _, err := s.Get(b.Context(), user(0, 0).ID); errors.Is(err, store.ErrNotFound) {
		b.Error("the first user is gone")
	}
}
