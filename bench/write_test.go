package bench_test

import (
	"fmt"
	"log/slog"
	"syscall"
	"testing"
	"time"

	"clerksync/clerk"
	"clerksync/history"
	"clerksync/internal/testenv"
	"clerksync/store"
	"clerksync/store/mapping"
)

// BenchmarkWrite measures what the store and the driver cost a write, in this process alone: the database is another
// one. cpu-ns/op is user and system time.
func BenchmarkWrite(b *testing.B) { benchmarkWrite(b, 0) }

// BenchmarkWriteHistory is BenchmarkWrite with the history of users.
func BenchmarkWriteHistory(b *testing.B) { benchmarkWrite(b, 720*time.Hour) }

func benchmarkWrite(b *testing.B, retention time.Duration) {
	b.Helper()
	db := testenv.Connect(b, externalDatabase(b, "0"), "bench_write")
	s := store.NewUsers(db, mapping.Default())
	past := history.New(db, retention, slog.New(slog.DiscardHandler))
	if err := past.Setup(b.Context()); err != nil {
		b.Fatal(err)
	}
	if s.Watch(past.Record); retention == 0 {
		s.Watch(nil)
	}
	if err := s.Setup(b.Context()); err != nil {
		b.Fatal(err)
	}
	next, version := 0, clerk.Millis(1)
	create := func(n int) []store.Write {
		list := make([]store.Write, n)
		for i := range list {
			next++
			list[i].User = user(next, version)
		}
		return list
	}
	update := func(n int) []store.Write {
		version++
		list := make([]store.Write, n)
		for i := range list {
			list[i].User = user(i+1, version)
			list[i].User.FullName = fmt.Sprint("Ada ", version)
		}
		return list
	}
	for _, bc := range []struct {
		name   string
		writes func(n int) []store.Write
		n      int
		mode   store.Mode
		want   store.Outcome
	}{
		{"created", create, 1, store.All, store.Created},
		{"updated", update, 1, store.All, store.Updated},
		{"updated×100", update, 100, store.All, store.Updated},
		{"compared×100", update, 100, store.DryRun, store.Updated},
	} {
		s.Write(b.Context(), create(max(0, 200-next)), store.All) // those who are updated
		b.Run(bc.name, func(b *testing.B) {
			b.ReportAllocs()
			var before, after syscall.Rusage
			if err := syscall.Getrusage(syscall.RUSAGE_SELF, &before); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				for _, r := range s.Write(b.Context(), bc.writes(bc.n), bc.mode) {
					if r.Err != nil || r.Outcome != bc.want {
						b.Fatalf("got %q, %v, want %q", r.Outcome, r.Err, bc.want)
					}
				}
			}
			if err := syscall.Getrusage(syscall.RUSAGE_SELF, &after); err != nil {
				b.Fatal(err)
			}
			cpu := func(r syscall.Rusage) time.Duration { return time.Duration(r.Utime.Nano() + r.Stime.Nano()) }
			b.ReportMetric(float64(cpu(after)-cpu(before))/float64(b.N), "cpu-ns/op")
		})
	}
}
