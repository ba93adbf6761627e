package history_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"clerksync/clerk"
	"clerksync/history"
	"clerksync/internal/testenv"
	"clerksync/store"
	"clerksync/store/database"
	"clerksync/store/mapping"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"
)

const (
	ada  = "user_2ada"
	noon = clerk.Millis(1_767_603_600_000)
)

// rig is users with their history.
type rig struct {
	db    *database.DB
	users *store.Users
	past  *history.History
	log   *bytes.Buffer
}

func setup(t *testing.T, db *database.DB) rig {
	t.Helper()
	r := rig{db: db, users: store.NewUsers(db, mapping.Default()), log: &bytes.Buffer{}}
	r.past = history.New(db, 720*time.Hour, slog.New(slog.NewTextHandler(r.log, nil)))
	r.users.Watch(r.past.Record)
	if err := errors.Join(r.users.Setup(t.Context()), r.past.Setup(t.Context())); err != nil {
		t.Fatal(err)
	}
	return r
}

// event is a webhook about ada, a number of milliseconds after noon.
func event(at clerk.Millis, name, id string) store.Write {
	return store.Write{
		User:      clerk.User{ID: ada, FullName: name, Username: "ada", ChangedAt: noon + at},
		EventTime: store.EventTime{Clerk: noon + at}, Source: store.Source{Kind: "webhook", ID: id},
	}
}

func deletion(at clerk.Millis, id string) store.Write {
	return store.Write{
		User: clerk.User{ID: ada}, Deleted: true, EventTime: store.EventTime{Clerk: noon + at},
		Source: store.Source{Kind: "webhook", ID: id},
	}
}

func (r rig) write(t *testing.T, mode store.Mode, writes ...store.Write) {
	t.Helper()
	for _, res := range r.users.Write(t.Context(), writes, mode) {
		if res.Err != nil {
			t.Fatal(res.Err)
		}
	}
}

// told returns what is remembered of ada, a line for each entry: first what was applied, then what was not.
func (r rig) told(t *testing.T) []string {
	t.Helper()
	p, err := r.past.Get(t.Context(), ada)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	line := func(list string, e history.Entry) {
		again := ""
		if e.Again {
			again = " again"
		}
		lines = append(lines, strings.TrimSpace(fmt.Sprintf("%s %s %s%s %s", list, e.SourceID, e.Outcome, again,
			strings.Join(e.Fields, ","))))
	}
	for _, e := range p.Applied {
		line("+", e)
	}
	for _, e := range p.Skipped {
		line("-", e)
	}
	return lines
}

// kinds returns what the remarks about ada are about.
func (r rig) kinds(t *testing.T) (kinds []history.RemarkKind) {
	t.Helper()
	w, err := r.past.Why(t.Context(), r.users, ada)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range w.Remarks {
		kinds = append(kinds, k.Kind)
	}
	return kinds
}

// TestEntries: what was applied and what was not is noted once, whatever comes again, with the names of the fields, and
// it explains the row.
func TestEntries(t *testing.T) {
	t.Parallel()
	a, b, c := event(1, "Ada", "a"), event(2, "Ada King", "b"), event(3, "Ada King", "c")
	gone := deletion(4, "gone")
	lists := func(mode store.Mode, all ...[]store.Write) func(*testing.T, rig) {
		return func(t *testing.T, r rig) {
			for _, writes := range all {
				r.write(t, mode, writes...)
			}
		}
	}
	l := func(w ...store.Write) []store.Write { return w }
	for name, tc := range map[string]struct {
		do      func(*testing.T, rig)
		want    []string
		remarks []history.RemarkKind
	}{
		"in order": {
			do:   lists(store.All, l(a), l(b), l(c)),
			want: []string{"+ c unchanged", "+ b updated full_name", "+ a created"},
		},
		"late": {
			do: lists(store.All, l(b), l(a)), want: []string{"+ b created", "- a stale"},
		},
		"again": {
			do: lists(store.All, l(a), l(a), l(b), l(a), l(b)), want: []string{"+ b updated full_name", "+ a created"},
		},
		"in one list": {
			do: lists(store.All, l(b, a, b)), want: []string{"+ b created", "- a stale"},
		},
		"deleted": {
			do:      lists(store.All, l(a), l(gone), l(b), l(a), l(gone)),
			want:    []string{"+ gone deleted", "+ a created", "- b deleted"},
			remarks: []history.RemarkKind{history.Gone},
		},
		"deleted twice": {
			do:      lists(store.All, l(a), l(gone), l(deletion(5, "copy"))),
			want:    []string{"+ gone deleted", "+ a created"},
			remarks: []history.RemarkKind{history.Gone},
		},
		"deleted in one list": {
			do: lists(store.All, l(a, gone, b, gone)), want: []string{"+ gone deleted", "- b deleted", "- a deleted"},
			remarks: []history.RemarkKind{history.Gone},
		},
		"deleted before the first event": {
			do: lists(store.All, l(gone), l(a)), want: []string{"+ gone deleted", "- a deleted"},
			remarks: []history.RemarkKind{history.Gone},
		},
		"a tier that finds the row right": {
			do: lists(store.Differing, l(a), l(a)), want: []string{"+ a created"},
		},
		"a dry run": {
			do: func(t *testing.T, r rig) {
				r.write(t, store.All, a)
				r.write(t, store.DryRun, b)
			}, want: []string{"+ a created"},
		},
		"a tier that raises the version": {
			do: func(t *testing.T, r rig) {
				r.write(t, store.All, b)
				r.write(t, store.Differing, c)
			}, want: []string{"+ c unchanged", "+ b created"},
		},
		"the app has changed the row, and the event comes again": {
			do: func(t *testing.T, r rig) {
				r.write(t, store.All, b)
				_, err := r.db.Collection("users").UpdateOne(t.Context(), database.ByID(ada),
					bson.D{{Key: "$set", Value: bson.D{{Key: "full_name", Value: "X"}}}})
				if err != nil {
					t.Fatal(err)
				}
				r.write(t, store.All, b)
			}, want: []string{"+ b created"},
		},
		"killed before it could note": {
			do: func(t *testing.T, r rig) {
				r.write(t, store.All, a)
				testenv.Write(t, store.NewUsers(r.db, mapping.Default()), b)
			}, want: []string{"+ a created"}, remarks: []history.RemarkKind{history.Gap},
		},
		"killed before it could note, and repeated": {
			do: func(t *testing.T, r rig) {
				r.write(t, store.All, a)
				testenv.Write(t, store.NewUsers(r.db, mapping.Default()), b)
				r.write(t, store.All, b)
			}, want: []string{"+ b unchanged again", "+ a created"},
		},
		"a gap between two": {
			do: func(t *testing.T, r rig) {
				r.write(t, store.All, a)
				testenv.Write(t, store.NewUsers(r.db, mapping.Default()), b)
				r.write(t, store.All, c)
			}, want: []string{"+ c unchanged", "+ a created"}, remarks: []history.RemarkKind{history.Gap},
		},
		"a gap between two, and what left it comes again": {
			do: func(t *testing.T, r rig) {
				r.write(t, store.All, a)
				testenv.Write(t, store.NewUsers(r.db, mapping.Default()), b)
				r.write(t, store.All, c)
				r.write(t, store.All, b)
			}, want: []string{"+ c unchanged", "+ b unchanged again", "+ a created"},
		},
		"a gap between two, and what left it comes again after the deletion": {
			do: func(t *testing.T, r rig) {
				r.write(t, store.All, a)
				testenv.Write(t, store.NewUsers(r.db, mapping.Default()), b)
				r.write(t, store.All, c)
				r.write(t, store.All, gone)
				r.write(t, store.All, b)
			}, want: []string{"+ gone deleted", "+ c unchanged", "+ b unchanged again", "+ a created"},
			remarks: []history.RemarkKind{history.Gone},
		},
		"killed before it could note the deletion": {
			do: func(t *testing.T, r rig) {
				r.write(t, store.All, a)
				testenv.Write(t, store.NewUsers(r.db, mapping.Default()), gone)
			}, want: []string{"+ a created"}, remarks: []history.RemarkKind{history.Gone, history.Gap},
		},
		"killed before it could note the deletion, and repeated": {
			do: func(t *testing.T, r rig) {
				r.write(t, store.All, a)
				testenv.Write(t, store.NewUsers(r.db, mapping.Default()), gone)
				r.write(t, store.All, gone)
			}, want: []string{"+ gone deleted again", "+ a created"}, remarks: []history.RemarkKind{history.Gone},
		},
		"restored": {
			do: func(t *testing.T, r rig) {
				r.write(t, store.All, l(a)...)
				r.write(t, store.All, l(gone)...)
				if _, err := r.users.Lift(t.Context(), ada); err != nil {
					t.Fatal(err)
				}
				r.write(t, store.All, event(10, "Ada", "restore"))
			}, want: []string{"+ restore created", "+ gone deleted", "+ a created"},
		},
		"restored, and not changed since long before the deletion": {
			do: func(t *testing.T, r rig) {
				r.write(t, store.All, l(a)...)
				r.write(t, store.All, l(gone)...)
				if _, err := r.users.Lift(t.Context(), ada); err != nil {
					t.Fatal(err)
				}
				w := event(10, "Ada", "restore")
				w.User.ChangedAt = a.User.ChangedAt
				r.write(t, store.All, w)
			}, want: []string{"+ gone deleted", "+ restore created", "+ a created"},
		},
		"overruled, because it was from the future": {
			do: func(t *testing.T, r rig) {
				future := event(1e10, "Ada", "future")
				r.write(t, store.All, l(a)...)
				r.write(t, store.All, l(future)...)
				row, err := r.users.Get(t.Context(), ada)
				if err != nil {
					t.Fatal(err)
				}
				w := b
				w.AnsweredAt, w.Source = noon+3, store.Source{Kind: "full"}
				if o, err := r.users.Overrule(t.Context(), w, row.Clerk.Version); o != store.Updated || err != nil {
					t.Fatal(o, err)
				}
				r.write(t, store.All, c)
			}, want: []string{"+ c unchanged", "+  updated full_name", "+ a created", "- future unchanged"},
		},
		"a row of a backup": {
			do: func(t *testing.T, r rig) {
				r.write(t, store.All, a)
				row, _, err := database.Get[bson.D](t.Context(), r.db.Collection("users"), ada)
				if err != nil {
					t.Fatal(err)
				}
				r.write(t, store.All, b)
				_, removed := r.db.Collection("users").DeleteOne(t.Context(), database.ByID(ada))
				if _, err = r.db.Collection("users").InsertOne(t.Context(), row); errors.Join(err, removed) != nil {
					t.Fatal(err, removed)
				}
			}, want: []string{"+ b updated full_name", "+ a created"},
			remarks: []history.RemarkKind{history.RowOlder},
		},
		"a row of a backup, of a deleted user": {
			do: func(t *testing.T, r rig) {
				r.write(t, store.All, a)
				row, _, err := database.Get[bson.D](t.Context(), r.db.Collection("users"), ada)
				if err != nil {
					t.Fatal(err)
				}
				r.write(t, store.All, gone)
				_, err = r.db.Collection("users").InsertOne(t.Context(), row)
				if _, lift := r.users.Lift(t.Context(), ada); errors.Join(err, lift) != nil {
					t.Fatal(err, lift)
				}
			}, want: []string{"+ gone deleted", "+ a created"},
			remarks: []history.RemarkKind{history.Unnoticed},
		},
		"somebody has removed the row": {
			do: func(t *testing.T, r rig) {
				r.write(t, store.All, a)
				if _, err := r.db.Collection("users").DeleteOne(t.Context(), database.ByID(ada)); err != nil {
					t.Fatal(err)
				}
			}, want: []string{"+ a created"}, remarks: []history.RemarkKind{history.NoRow},
		},
		"the row is the app's": {
			do: func(t *testing.T, r rig) {
				if _, err := r.db.Collection("users").InsertOne(t.Context(), database.ByID(ada)); err != nil {
					t.Fatal(err)
				}
			}, remarks: []history.RemarkKind{history.NotOurs},
		},
		"erased": {
			do: func(t *testing.T, r rig) {
				r.write(t, store.All, a)
				r.write(t, store.All, gone)
				if gone, err := r.past.Remove(t.Context(), ada); !gone || err != nil {
					t.Fatal(gone, err)
				}
				r.write(t, store.All, b, deletion(9, "late"))
				r.write(t, store.All, b)
				r.write(t, store.All, gone)
			}, remarks: []history.RemarkKind{history.Gone, history.Gone},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
				r := setup(t, db)
				tc.do(t, r)
				if d := cmp.Diff(tc.want, r.told(t)); d != "" {
					t.Errorf("entries (-want +got):\n%s", d)
				}
				if d := cmp.Diff(tc.remarks, r.kinds(t)); d != "" {
					t.Errorf("remarks (-want +got):\n%s", d)
				}
				if r.log.Len() > 0 {
					t.Errorf("logged %s", r.log)
				}
			})
		})
	}
}

// TestTwenty: of many entries the 20 with the newest versions stay, of each kind, and the row is explained all the
// same.
func TestTwenty(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		r := setup(t, db)
		for i := range 25 {
			r.write(t, store.All, event(clerk.Millis(100+i), fmt.Sprint(i), fmt.Sprint("new", i)))
			r.write(t, store.All, event(clerk.Millis(i), "", fmt.Sprint("old", i)))
		}
		got := r.told(t)
		if len(got) != 40 || got[0] != "+ new24 updated full_name" || got[19] != "+ new5 updated full_name" ||
			got[20] != "- old24 stale" || got[39] != "- old5 stale" {
			t.Errorf("got %q", got)
		}
		if got := r.kinds(t); got != nil {
			t.Errorf("remarks %v", got)
		}
	})
}

// TestOneCommandMore: a write has one command of the database more, a list of many users too, and a repeated one two.
// With a retention of 0 there is none.
func TestOneCommandMore(t *testing.T) {
	t.Parallel()
	var calls []string
	db := testenv.NewMemory().ConnectFaulty(t, "test", &testenv.CommandFaults{
		Sent: func(command, collection string, _ []byte) {
			if collection == "clerksync_history" {
				calls = append(calls, command)
			}
		},
	})
	many := make([]store.Write, 400)
	for i := range many {
		many[i] = event(1, "Ada", "a")
		many[i].User.ID, many[i].User.Username = fmt.Sprint("user_", i), fmt.Sprint("ada", i)
	}
	for _, tc := range []struct {
		name      string
		retention time.Duration
		writes    []store.Write
		want      string
	}{
		{"off", 0, many, ""},
		{"many", time.Hour, many, "update"},
		{"two of one user", time.Hour, []store.Write{event(2, "Ada", "a"), event(1, "Ada", "b")}, "update"},
		{"one", time.Hour, []store.Write{event(3, "Ada", "a")}, "update"},
		{"one again", time.Hour, []store.Write{event(3, "Ada", "a")}, "update update"},
		{"stale", time.Hour, []store.Write{event(0, "Ada", "a")}, "update"},
	} {
		users := store.NewUsers(db, mapping.Default())
		past := history.New(db, tc.retention, slog.New(slog.DiscardHandler))
		users.Watch(past.Record)
		calls = nil
		for _, res := range users.Write(t.Context(), tc.writes, store.All) {
			if res.Err != nil {
				t.Fatal(res.Err)
			}
		}
		if err := past.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		if got := strings.Join(calls, " "); got != tc.want {
			t.Errorf("%s: got commands %q, want %q", tc.name, got, tc.want)
		}
	}
}

// TestManyOverruled: what is overruled goes to a list that has twenty places too, and a deletion is never overruled.
func TestManyOverruled(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		r := setup(t, db)
		r.write(t, store.All, event(1, "Ada", "a"))
		r.write(t, store.All, deletion(50, "gone"))
		if _, err := r.users.Lift(t.Context(), ada); err != nil {
			t.Fatal(err)
		}
		for i := range clerk.Millis(15) {
			r.write(t, store.All, event(1e10+i, "Ada", "future"))
		}
		for i := range clerk.Millis(15) {
			r.write(t, store.All, event(100+i, "Ada", "late"))
		}
		row, err := r.users.Get(t.Context(), ada)
		if err != nil {
			t.Fatal(err)
		}
		w := event(200, "Ada King", "") // the last change is from before the deletion
		w.User.ChangedAt, w.AnsweredAt, w.Source = noon+1, noon+200, store.Source{Kind: "full"}
		if o, err := r.users.Overrule(t.Context(), w, row.Clerk.Version); o != store.Updated || err != nil {
			t.Fatal(o, err)
		}
		p, err := r.past.Get(t.Context(), ada)
		if err != nil || len(p.Applied) != 3 || len(p.Skipped) != 20 || p.Skipped[0].SourceID != "future" {
			t.Errorf("got %d and %d entries, %v: %+v", len(p.Applied), len(p.Skipped), err, p)
		}
		if got := r.kinds(t); got != nil {
			t.Errorf("remarks %v", got)
		}
	})
}

// TestForget: the nightly clean-up removes what is too old, out of documents too, and documents of which nothing is
// left.
func TestForget(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		r := setup(t, db)
		r.write(t, store.All, event(1, "Ada", "a"), event(0, "Ada", "late"))
		r.write(t, store.All, event(2, "Ada King", "b"))
		bob := event(1, "Bob", "bob")
		bob.User.ID, bob.User.Username = "user_2bob", "bob"
		r.write(t, store.All, bob)
		past := r.db.Collection("clerksync_history")
		back := func(id, path string) {
			t.Helper()
			doc, _, err := database.Get[bson.M](t.Context(), past, id)
			if err != nil {
				t.Fatal(err)
			}
			list := doc[path].(bson.A)
			entry := list[0].(bson.D)
			for i := range entry {
				if entry[i].Key == "at" {
					entry[i].Value = time.Now().Add(-800 * time.Hour)
				}
			}
			set := bson.D{{Key: path, Value: list}, {Key: "oldest", Value: time.Now().Add(-800 * time.Hour)}}
			if _, err := past.UpdateOne(t.Context(), database.ByID(id), bson.D{{Key: "$set", Value: set}}); err != nil {
				t.Fatal(err)
			}
		}
		back(ada, "applied")
		back(ada, "skipped")
		back("user_2bob", "applied")
		for _, want := range []int{1, 1, 0} {
			if n, err := r.past.Forget(t.Context(), time.Now().Add(-720*time.Hour), 1); n != want || err != nil {
				t.Errorf("got %d, %v, want %d", n, err, want)
			}
		}
		if d := cmp.Diff([]string{"+ b updated full_name"}, r.told(t)); d != "" {
			t.Errorf("ada (-want +got):\n%s", d)
		}
		if got := r.kinds(t); got != nil {
			t.Errorf("remarks %v", got)
		}
		if p, err := r.past.Get(t.Context(), "user_2bob"); !p.Empty() || err != nil {
			t.Errorf("bob: got %v, %v", p, err)
		}
		if n, err := past.Count(t.Context(), bson.D{}); n != 1 || err != nil {
			t.Errorf("got %d documents, %v", n, err)
		}
		r.write(t, store.All, event(3, "Ada Lovelace", "c")) // it goes on
		if n, err := r.past.Forget(t.Context(), time.Now().Add(time.Hour), 10); n != 1 || err != nil {
			t.Errorf("all: got %d, %v", n, err)
		}
		if got := r.told(t); got != nil {
			t.Errorf("got %q", got)
		}
	})
}

// TestForgetMeetsDamaged: documents that a tool has damaged do not keep the others.
func TestForgetMeetsDamaged(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		r := setup(t, db)
		past := db.Collection("clerksync_history")
		for i, applied := range []any{"ada@example.com", bson.A{bson.D{{Key: "fields", Value: 1}}}} {
			_, err := past.InsertOne(t.Context(), append(database.ByID(fmt.Sprint("user_2damaged", i)),
				bson.E{Key: "applied", Value: applied}, bson.E{Key: "oldest", Value: time.Now().Add(-800 * time.Hour)}))
			if err != nil {
				t.Fatal(err)
			}
		}
		r.write(t, store.All, event(1, "Ada", "a"))
		for _, want := range []int{3, 0} {
			if n, err := r.past.Forget(t.Context(), time.Now().Add(time.Hour), 10); n != want || err != nil {
				t.Errorf("got %d, %v, want %d", n, err, want)
			}
		}
		if n, err := past.Count(t.Context(), bson.D{}); n != 0 || err != nil {
			t.Errorf("got %d documents, %v", n, err)
		}
	})
}

// TestUnknown: of a user of whom there is nothing, that is said.
func TestUnknown(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		if _, err := setup(t, db).past.Why(t.Context(), store.NewUsers(db, mapping.Default()), ada); !errors.Is(err,
			history.ErrUnknown) {
			t.Errorf("got %v", err)
		}
	})
}

// TestDamaged: a document that a tool has damaged stops no row, and is logged once.
func TestDamaged(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		r := setup(t, db)
		_, err := db.Collection("clerksync_history").InsertOne(t.Context(),
			append(database.ByID(ada), bson.E{Key: "applied", Value: "ada@example.com"}))
		if err != nil {
			t.Fatal(err)
		}
		r.write(t, store.All, event(1, "Ada", "a"))
		r.write(t, store.All, event(2, "Ada King", "b"))
		if n := strings.Count(r.log.String(), "the history cannot be written"); n != 1 ||
			strings.Contains(r.log.String(), "ada@example.com") {
			t.Errorf("logged %d times: %s", n, r.log)
		}
		if _, err := r.past.Why(t.Context(), r.users, ada); err == nil || strings.Contains(err.Error(), "ada@example") {
			t.Errorf("why: got %v", err)
		}
	})
}
