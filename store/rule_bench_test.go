package store

import (
	"testing"

	"clerksync/clerk"
)

// BenchmarkRule compares what a user is to be with its row: the version rule and the comparison of the fields.
func BenchmarkRule(b *testing.B) {
	w := Write{
		User: clerk.User{
			ID: "user_2bench", Email: "ada@example.com", EmailVerified: true, FullName: "Ada Lovelace",
			ChangedAt: 1_767_603_600_000,
		},
	}
	was := found{Row: w.plan(found{}, "ada").row, there: true}
	w.User.ChangedAt++
	w.User.FullName = "Ada King"
	b.ReportAllocs()
	for b.Loop() {
		if p := w.plan(was, "ada"); p.outcome != Updated {
			b.Fatal(p.outcome)
		}
	}
}

// BenchmarkNames makes the user names that a user may get.
func BenchmarkNames(b *testing.B) {
	u := clerk.User{ID: "user_2bench", Email: "ada@example.com"}
	b.ReportAllocs()
	for b.Loop() {
		if names(u)[0] != "ada" {
			b.Fatal(names(u))
		}
	}
}
