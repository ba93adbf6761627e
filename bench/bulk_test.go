package bench_test

import (
	"fmt"
	"os"
	"testing"

	"clerksync/clerk"
	"clerksync/internal/testenv"
	"clerksync/store"
	"clerksync/store/database"
	"clerksync/store/mapping"
)

// BenchmarkBulk measures a list of 500 updates, and one in which one user wants a user name that another has.
func BenchmarkBulk(b *testing.B) {
	b.Run("embedded", func(b *testing.B) { bulk(b, testenv.Embedded(b)) })
	b.Run("memory", func(b *testing.B) { bulk(b, testenv.NewMemory().Connect(b, "bench", nil, nil)) })
	b.Run("external", func(b *testing.B) {
		uri := os.Getenv(testenv.MongoURI)
		if uri == "" {
			b.Skipf("%s is not set", testenv.MongoURI)
		}
		bulk(b, testenv.Connect(b, uri, "bench_bulk"))
	})
}

func bulk(b *testing.B, db *database.DB) {
	b.Helper()
	s := store.NewUsers(db, mapping.Default())
	if err := s.Setup(b.Context()); err != nil {
		b.Fatal(err)
	}
	version := clerk.Millis(0)
	write := func(b *testing.B, n int, clash bool) {
		b.Helper()
		version++
		writes := make([]store.Write, n)
		for i := range writes {
			u := user(i, version)
			u.Username = fmt.Sprintf("name-%d-%d", i, version)
			if clash && i == n-1 {
				u.Username = "taken"
			}
			writes[i] = store.Write{User: u, EventTime: store.EventTime{Clerk: u.ChangedAt}}
		}
		for _, r := range s.Write(b.Context(), writes, store.All) {
			if r.Err != nil {
				b.Fatal(r.Err)
			}
		}
	}
	taken := user(1_000_000, 0)
	taken.Username = "taken"
	if r := s.Write(b.Context(), []store.Write{{User: taken}}, store.All)[0]; r.Err != nil {
		b.Fatal(r.Err)
	}
	write(b, 500, false)
	for _, clash := range []bool{false, true} {
		b.Run(fmt.Sprintf("500 updates/one name taken=%v", clash), func(b *testing.B) {
			for b.Loop() {
				write(b, 500, clash)
			}
		})
	}
}
