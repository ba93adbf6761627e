package inbox_test

import (
	"testing"
	"time"

	"clerksync/inbox"
	"clerksync/internal/testenv"
	"clerksync/store/database"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// TestPending: what waits is counted, and what has failed is not, until it is replayed.
func TestPending(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		pending := func() inbox.Pending {
			t.Helper()
			p, err := inbox.NewTable(db).Pending(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return p
		}
		lacks, err := inbox.NewTable(db).LacksIndex(t.Context())
		if err != nil || lacks != testenv.ListsIndexes(t, db) {
			t.Errorf("before Setup: got %v, %v", lacks, err)
		}
		before := time.Now().Add(-time.Second)
		s := &sender{}
		b, _, _ := start(t, db, s.Send, time.Hour)
		if lacks, err := inbox.NewTable(db).LacksIndex(t.Context()); err != nil || lacks {
			t.Errorf("after Setup: got %v, %v", lacks, err)
		}
		if p := pending(); p != (inbox.Pending{}) {
			t.Errorf("empty: got %+v", p)
		}
		put(t, b, "msg_1", "msg_2", "msg_3")
		if p := pending(); p.Events != 3 || p.Oldest.Before(before) || p.Oldest.After(time.Now()) {
			t.Errorf("three events: got %+v", p)
		}
		if err := b.Fail(t.Context(), event("msg_1"), inbox.Failure{Error: "why"}); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Done(t.Context(), "msg_2"); err != nil {
			t.Fatal(err)
		}
		if p := pending(); p.Events != 1 {
			t.Errorf("one cleared, one failed: got %+v", p)
		}
		replayed := time.Now().Add(-time.Second)
		if err := inbox.NewTable(db).Replay(t.Context(), "msg_1", true); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Done(t.Context(), "msg_3"); err != nil {
			t.Fatal(err)
		}
		if p := pending(); p.Events != 1 || p.Oldest.Before(replayed) {
			t.Errorf("replayed: got %+v", p)
		}
	})
}

// TestAgeOfReplayedDeadLetter: a dead letter waits since it was replayed, whoever made it one: a run that failed,
// Inngest that refused it, or nobody who had run it for a day. The doctor would say at once that functions do not run.
func TestAgeOfReplayedDeadLetter(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		b, _, _ := start(t, db, (&sender{}).Send, time.Hour)
		for name, failure := range map[string]inbox.Failure{
			"msg_run": {Error: "why", RunID: "01J"}, "msg_refused": {Error: "Inngest refused the event"},
		} {
			put(t, b, name)
			if err := b.Fail(t.Context(), event(name), failure); err != nil {
				t.Fatal(err)
			}
			received := time.Now().Add(-time.Hour)
			set := bson.D{{Key: "$set", Value: bson.D{{Key: "received_at", Value: received}}}}
			if _, err := db.Collection("clerksync_inbox").UpdateOne(t.Context(), database.ByID(name), set); err != nil {
				t.Fatal(err)
			}
			if err := inbox.NewTable(db).Replay(t.Context(), name, true); err != nil {
				t.Fatal(err)
			}
			p, err := inbox.NewTable(db).Pending(t.Context())
			if err != nil || p.Events != 1 || time.Since(p.Oldest) > 30*time.Minute {
				t.Errorf("%s: got %+v, %v, want one event that has just been replayed", name, p, err)
			}
			if _, err := b.Done(t.Context(), name); err != nil {
				t.Fatal(err)
			}
		}
	})
}
