package store

import (
	"testing"

	"clerksync/clerk"
	"clerksync/store/mapping"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// BenchmarkRule compares what a user is to be with its row, by the version rule and field by field, and makes the
// update.
func BenchmarkRule(b *testing.B) {
	w := Write{
		User: clerk.User{
			ID: "user_2bench", Email: "ada@example.com", EmailVerified: true, FullName: "Ada Lovelace",
			ChangedAt: 1_767_603_600_000,
		},
	}
	m := mapping.Default()
	s := &Users{m: m, fields: mapping.Compile(m, ownFields())}
	p, _, err := s.plan(w, found{}, "ada")
	if err != nil {
		b.Fatal(err)
	}
	raw, err := bson.Marshal(s.fields.New(w.User.ID, p.values))
	if err != nil {
		b.Fatal(err)
	}
	w.User.ChangedAt++
	w.User.FullName = "Ada King"
	b.ReportAllocs()
	for b.Loop() {
		was := s.read(raw)
		if p, outcome, err := s.plan(w, was, "ada"); outcome != Updated || err != nil {
			b.Fatal(outcome, err)
		} else if _, err := s.change("", was, p, outcome); err != nil {
			b.Fatal(err)
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
