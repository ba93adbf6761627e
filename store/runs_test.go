package store_test

import (
	"testing"
	"time"

	"clerksync/internal/testenv"
	"clerksync/store"
	"clerksync/store/database"
)

func TestRuns(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		r := store.NewRuns(db)
		has := func(function, message string, want bool) {
			t.Helper()
			if got, err := r.Has(t.Context(), function, message); got != want || err != nil {
				t.Errorf("%s of %s: got %v, %v, want %v", function, message, got, err, want)
			}
		}
		if err := r.Setup(t.Context()); err != nil {
			t.Fatal(err)
		}
		if lacks, err := r.LacksIndex(t.Context()); lacks || err != nil {
			t.Errorf("after Setup: got %v, %v", lacks, err)
		}
		has("crm", "msg_1", false)
		for range 2 { // it may be repeated
			if err := r.Add(t.Context(), "crm", "msg_1"); err != nil {
				t.Fatal(err)
			}
		}
		has("crm", "msg_1", true)
		has("chat", "msg_1", false)
		has("crm", "msg_2", false)
		for _, step := range []struct {
			before time.Time
			want   int
		}{{time.Now().Add(-time.Hour), 0}, {time.Now().Add(time.Hour), 1}} {
			if n, err := r.Forget(t.Context(), step.before, 10); n != step.want || err != nil {
				t.Errorf("got %d forgotten, %v, want %d", n, err, step.want)
			}
		}
		has("crm", "msg_1", false)
	})
}
