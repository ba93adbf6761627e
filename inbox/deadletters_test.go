package inbox_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"clerksync/inbox"
	"clerksync/internal/testenv"
	"clerksync/store/database"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.mongodb.org/mongo-driver/v2/bson"
)

// TestDeadLetters is the life of one: it is listed with all that is known of it, dropped, and replayed under an id that
// Inngest has not seen; the function's write ends it.
func TestDeadLetters(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		s := &sender{}
		b, reg, _ := start(t, db, s.Send, time.Hour)
		put(t, b, "msg_ok", "msg_bad")
		until(t, "they are sent", func() bool { return len(s.accepted()) == 2 })
		why := inbox.Failure{Function: "app-sync-user-from-clerk", RunID: "01J", Error: "why"}
		alien := event("01JD5V9P3K0000000000000000") // of Inngest's own integration: it never was in the inbox
		for range 2 {                                // reported twice
			for _, e := range []inbox.Event{event("msg_bad"), alien} {
				if err := b.Fail(t.Context(), e, why); err != nil {
					t.Fatal(err)
				}
			}
		}
		// Another sending of this event has been written.
		if there, err := b.FailPending(t.Context(), "msg_cleared:r2", why); there || err != nil {
			t.Fatal(there, err)
		}
		if got := metric(t, reg, "clerksync_inbox_failed_total"); got != 2 {
			t.Errorf("counted %v failed events, want 2", got)
		}

		// Older versions kept how often a run was tried, read from the text of its error.
		older := bson.D{{Key: "$set", Value: bson.D{{Key: "failure.attempts", Value: 21}}}}
		_, err := db.Collection("clerksync_inbox").UpdateOne(t.Context(), database.ByID(alien.ID), older)
		if err != nil {
			t.Fatal(err)
		}

		d := inbox.NewTable(db)
		ids := func(dropped bool) []string {
			t.Helper()
			list, err := d.DeadLetters(t.Context(), dropped)
			if err != nil {
				t.Fatal(err)
			}
			newest, err := d.NewestDeadLetters(t.Context(), 100)
			if !dropped && len(newest) != len(list) || err != nil {
				t.Errorf("the newest are %v, %v, want %v", newest, err, list)
			}
			if n, err := d.CountDeadLetters(t.Context()); !dropped && n != len(list) || err != nil {
				t.Errorf("counted %d, %v, want %d", n, err, len(list))
			}
			var ids []string
			for _, l := range list {
				ids = append(ids, l.ID)
			}
			slices.Sort(ids) // they may have failed in one millisecond
			return ids
		}
		if d := cmp.Diff([]string{alien.ID, "msg_bad"}, ids(false)); d != "" {
			t.Errorf("list (-want +got):\n%s", d)
		}
		got, err := d.DeadLetter(t.Context(), alien.ID)
		if err != nil {
			t.Fatal(err)
		}
		want := inbox.DeadLetter{Event: alien, Failure: why, Sends: 1}
		if d := cmp.Diff(want, got, cmpopts.EquateApproxTime(time.Minute),
			cmpopts.IgnoreFields(inbox.DeadLetter{}, "ReceivedAt", "Failure.At")); d != "" {
			t.Errorf("Get (-want +got):\n%s", d)
		}
		if time.Since(got.ReceivedAt) > time.Minute || time.Since(got.At) > time.Minute {
			t.Errorf("got times %v and %v, want now", got.ReceivedAt, got.At)
		}

		for name, f := range map[string]func(id string) error{
			"Get":    func(id string) error { _, err := d.DeadLetter(t.Context(), id); return err },
			"Replay": func(id string) error { return d.Replay(t.Context(), id, false) },
			"Drop":   func(id string) error { return d.Drop(t.Context(), id) },
		} {
			for _, id := range []string{"msg_ok", "msg_never"} {
				if err := f(id); !errors.Is(err, inbox.ErrNoDeadLetter) {
					t.Errorf("%s(%s): got %v, want %v", name, id, err, inbox.ErrNoDeadLetter)
				}
			}
		}

		if err := d.Drop(t.Context(), "msg_bad"); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff([]string{alien.ID}, ids(false)); d != "" {
			t.Errorf("list after Drop (-want +got):\n%s", d)
		}
		if d := cmp.Diff([]string{alien.ID, "msg_bad"}, ids(true)); d != "" {
			t.Errorf("list with the dropped (-want +got):\n%s", d)
		}

		replayed := []string{"msg_bad", alien.ID}
		for _, id := range replayed {
			if err := d.Replay(t.Context(), id, true); err != nil {
				t.Fatal(err)
			}
		}
		until(t, "they are sent again", func() bool { return len(s.accepted()) == 4 })
		for _, id := range replayed {
			if !slices.Contains(s.accepted()[2:], id+":replay1") {
				t.Errorf("sent again %v, want %s:replay1 among them", s.accepted()[2:], id)
			}
			if _, err := b.Done(t.Context(), id+":replay1"); err != nil {
				t.Fatal(err)
			}
		}
		if got := ids(true); len(got) > 0 {
			t.Errorf("got %v after the replays, want none", got)
		}
		if n := count(t, db); n != 1 {
			t.Errorf("got %d rows, want msg_ok alone", n)
		}
	})
}

// TestForgetDropped: only what was dropped long ago goes, a bounded number at a time.
func TestForgetDropped(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		b, _, _ := start(t, db, (&sender{}).Send, time.Hour)
		d := inbox.NewTable(db)
		for _, id := range []string{"msg_1", "msg_2", "msg_3", "msg_kept"} {
			if err := b.Fail(t.Context(), event(id), inbox.Failure{Error: "why"}); err != nil {
				t.Fatal(err)
			}
			if id == "msg_kept" {
				continue
			}
			if err := d.Drop(t.Context(), id); err != nil {
				t.Fatal(err)
			}
		}
		for _, step := range []struct {
			before time.Duration // from now
			want   int
		}{{-time.Hour, 0}, {time.Hour, 2}, {time.Hour, 1}, {time.Hour, 0}} {
			if n, err := d.ForgetDropped(t.Context(), time.Now().Add(step.before), 2); n != step.want || err != nil {
				t.Errorf("got %d, %v, want %d", n, err, step.want)
			}
		}
		if l, err := d.DeadLetters(t.Context(), true); err != nil || len(l) != 1 || l[0].ID != "msg_kept" {
			t.Errorf("got %+v, %v, want msg_kept alone", l, err)
		}
	})
}

// TestReplayOfRefusedEventRunsNothing: an event that Inngest has refused reached no function. Its replay went out as
// one that functions which write no row have had, so that none of them ever ran for it; and a forwarded event, which no
// other function handles, was lost.
func TestReplayOfRefusedEventRunsNothing(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		s := &sender{}
		b, _, _ := start(t, db, s.Send, time.Hour)
		put(t, b, "msg_refused", "msg_failed")
		until(t, "they are sent", func() bool { return len(s.accepted()) == 2 })
		for id, run := range map[string]string{"msg_refused": "", "msg_failed": "01J"} {
			if err := b.Fail(t.Context(), event(id), inbox.Failure{RunID: run, Error: "why"}); err != nil {
				t.Fatal(err)
			}
			if err := inbox.NewTable(db).Replay(t.Context(), id, true); err != nil {
				t.Fatal(err)
			}
		}
		until(t, "they are sent again", func() bool { return len(s.accepted()) == 4 })
		got := s.accepted()[2:]
		slices.Sort(got)
		if d := cmp.Diff([]string{"msg_failed:replay1", "msg_refused:r1"}, got); d != "" {
			t.Errorf("sent again (-want +got):\n%s", d)
		}
	})
}

// TestEventsWithoutIDShareADeadLetter: two events without an id were one dead letter, and the data of the second was
// gone. Each has its own now, also that of a function which writes no row; one that is reported twice has one.
func TestEventsWithoutIDShareADeadLetter(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		b, _, _ := start(t, db, (&sender{}).Send, time.Hour)
		before := bson.D{
			{Key: "_id", Value: ""}, {Key: "failure", Value: bson.D{{Key: "error", Value: "of an older version"}}},
		}
		if _, err := db.Collection("clerksync_inbox").InsertOne(t.Context(), before); err != nil {
			t.Fatal(err)
		}
		why := inbox.Failure{Error: "why"}
		for range 2 { // reported twice
			for _, id := range []string{"", ":crm"} {
				for _, data := range []string{`{"first_name":"Ada"}`, `{"first_name":"Eve"}`} {
					if there, err := b.FailPending(t.Context(), "", why); there || err != nil {
						t.Errorf("FailPending: got %v, %v, want it not there", there, err)
					}
					e := inbox.Event{ID: id, Name: "clerk/user.created", Data: []byte(data)}
					if err := b.Fail(t.Context(), e, why); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		d := inbox.NewTable(db)
		all, err := d.DeadLetters(t.Context(), false)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, l := range all {
			if l.ID == "" {
				continue
			}
			l, err := d.DeadLetter(t.Context(), l.ID)
			if err != nil {
				t.Fatal(err)
			}
			_, fn, _ := strings.Cut(l.ID, ":")
			got = append(got, fn+string(l.Data))
		}
		slices.Sort(got)
		want := []string{
			`crm{"first_name":"Ada"}`, `crm{"first_name":"Eve"}`, `{"first_name":"Ada"}`, `{"first_name":"Eve"}`,
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("dead letters (-want +got):\n%s", d)
		}
	})
}
