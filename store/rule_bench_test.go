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
	row, _ := w.plan(found{}, "ada")
	was := found{Row: row, there: true}
	w.User.ChangedAt++
	w.User.FullName = "Ada King"
	b.ReportAllocs()
	for b.Loop() {
		if _, outcome := w.plan(was, "ada"); outcome != Updated {
			b.Fatal(outcome)
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
