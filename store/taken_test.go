package store_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"clerksync/clerk"
	"clerksync/internal/testenv"
	"clerksync/store"
	"clerksync/store/database"
	"clerksync/store/mapping"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// person is a user with an id as Clerk makes them.
func person(n int, email string, ms clerk.Millis, change ...func(*clerk.User)) clerk.User {
	return ada(ms, append([]func(*clerk.User){func(u *clerk.User) {
		u.ID, u.Email, u.Username = testenv.People(n)[n-1].ID, email, fmt.Sprint("person-", n)
	}}, change...)...)
}

// uniqueEmail makes an index as mongoose makes it of {email: {unique: true}}, on keys of the same name.
func uniqueEmail(t *testing.T, db *database.DB, o *options.IndexOptionsBuilder, keys ...string) {
	t.Helper()
	m := mongo.IndexModel{Options: o.SetUnique(true)}
	d := bson.D{}
	for _, key := range append(keys, "email") {
		d = append(d, bson.E{Key: key, Value: 1})
	}
	m.Keys = d
	if _, err := db.Collection("users").Indexes().CreateOne(t.Context(), m); err != nil {
		t.Skipf("the database has no such index: %v", err)
	}
	all, err := db.Collection("users").ListIndexes(t.Context())
	if n := len(all); err != nil || len(all[n-1].Fields) != len(d) {
		t.Skip("the database has no such index")
	}
}

// TestTaken: a row that a unique index of the app's refuses names the index and both ids, and no value; it is written
// when the other row has given the value up.
func TestTaken(t *testing.T) {
	t.Parallel()
	const email = "taken@example.com"
	a, b := person(1, email, 5), person(2, email, 6)
	theirs := func(id any) bson.D { return bson.D{{Key: "_id", Value: id}, {Key: "email", Value: email}} }
	oid := bson.NewObjectID()
	partial := options.Index().SetPartialFilterExpression(bson.D{
		{Key: "email", Value: bson.D{{Key: "$type", Value: "string"}}},
	})
	for name, tc := range map[string]struct {
		index  *options.IndexOptionsBuilder
		keys   []string
		before []bson.D         // the app's rows
		users  []clerk.User     // that are written before
		writes []clerk.User     // of one list
		want   map[int][]string // what the error of a write says; the others succeed
	}{
		"a sign-up": {
			users: []clerk.User{a}, writes: []clerk.User{b}, want: map[int][]string{0: {"email_1", a.ID, b.ID}},
		},
		"a change": {
			users: []clerk.User{a, person(2, "b@example.com", 1)}, writes: []clerk.User{b},
			want: map[int][]string{0: {"email_1", a.ID, b.ID}},
		},
		"in a list": {
			users:  []clerk.User{a, person(3, "c@example.com", 1)},
			writes: []clerk.User{person(3, "d@example.com", 2), b, person(4, "e@example.com", 2)},
			want:   map[int][]string{1: {"email_1", a.ID, b.ID}},
		},
		"both in one list": {
			writes: []clerk.User{a, b}, want: map[int][]string{1: {"email_1", a.ID, b.ID}},
		},
		"of a row that gives it up in the same list": {
			users:  []clerk.User{a, person(2, "b@example.com", 1)},
			writes: []clerk.User{b, person(1, "x@example.com", 6)},
		},
		"a user name of ours is taken too": {
			users:  []clerk.User{a},
			writes: []clerk.User{person(2, email, 6, func(u *clerk.User) { u.Username = "person-1" })},
			want:   map[int][]string{0: {"email_1", a.ID, b.ID}},
		},
		"a user name alone is taken": {
			users:  []clerk.User{a},
			writes: []clerk.User{person(2, "b@example.com", 6, func(u *clerk.User) { u.Username = "person-1" })},
		},
		"a sparse index": {
			index: options.Index().SetSparse(true),
			users: []clerk.User{a, person(3, "", 1)}, writes: []clerk.User{person(4, "", 1), b},
			want: map[int][]string{1: {"email_1", a.ID, b.ID}},
		},
		"a partial index": {
			index: partial,
			users: []clerk.User{a, person(3, "", 1)}, writes: []clerk.User{person(4, "", 1), b},
			want: map[int][]string{1: {"email_1", a.ID, b.ID}},
		},
		"nobody's address, twice": {
			users: []clerk.User{person(3, "", 1)}, writes: []clerk.User{person(4, "", 1)},
			want: map[int][]string{0: {"email_1", person(3, "", 1).ID, person(4, "", 1).ID}},
		},
		"of two fields, one of them the app's": {
			keys:   []string{"team"},
			before: []bson.D{append(theirs("user_system"), bson.E{Key: "team", Value: "red"})},
			users:  []clerk.User{a}, writes: []clerk.User{b},
			want: map[int][]string{0: {"team_1_email_1", a.ID, b.ID}},
		},
		"of the app's row with an ObjectID": {
			before: []bson.D{theirs(oid)}, writes: []clerk.User{b},
			want: map[int][]string{0: {"email_1", oid.Hex(), b.ID, "never"}},
		},
		"of the app's row with a name": {
			before: []bson.D{theirs("user_system")}, writes: []clerk.User{b},
			want: map[int][]string{0: {"email_1", "user_system", b.ID, "never"}},
		},
		"of the app's row with an address as _id": {
			before: []bson.D{theirs(email)}, writes: []clerk.User{b},
			want: map[int][]string{0: {"email_1", "not shown", b.ID, "never"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
				s := users(t, db)
				if tc.index == nil {
					tc.index = options.Index()
				}
				uniqueEmail(t, db, tc.index, tc.keys...)
				if db.OneProcess && strings.HasPrefix(name, "nobody") {
					t.Skip("FerretDB v1 indexes no null")
				}
				for _, d := range tc.before {
					if _, err := db.Collection("users").InsertOne(t.Context(),
						append(d, bson.E{Key: "username", Value: "own"})); err != nil {
						t.Fatal(err)
					}
				}
				for _, u := range tc.users {
					write(t, s, u, 1)
				}
				var list []store.Write
				for _, u := range tc.writes {
					list = append(list, of(u))
				}
				for i, r := range s.Write(t.Context(), list, store.All) {
					var taken *store.TakenError
					if tc.want[i] == nil {
						row, err := s.Get(t.Context(), tc.writes[i].ID)
						if r.Err != nil || err != nil {
							t.Errorf("write %d: %v, %v", i, r.Err, err)
						}
						// Only MongoDB and its likeness say which index it is; elsewhere the next name is tried.
						if want := tc.writes[i].Username; strings.HasSuffix(t.Name(), "memory") &&
							name != "a user name alone is taken" &&
							row.Text("username") != want {
							t.Errorf("write %d: got the name %q, want %q", i, row.Text("username"), want)
						}
						continue
					}
					if !errors.As(r.Err, &taken) || !errors.Is(r.Err, store.ErrRefused) {
						t.Fatalf("write %d: got %v, want a TakenError", i, r.Err)
					}
					for _, want := range append(tc.want[i], store.TakenText) {
						if !strings.Contains(r.Err.Error(), want) {
							t.Errorf("write %d: %q lacks %q", i, r.Err, want)
						}
					}
					if strings.ContainsAny(r.Err.Error(), "@\n") {
						t.Errorf("write %d: %q has a value, or two lines", i, r.Err)
					}
				}
			})
		})
	}
}

// TestTakenByMap: as TestTaken, where Clerk's id is in a field of the app's, the address in an object, and no field has
// a user name.
func TestTakenByMap(t *testing.T) {
	t.Parallel()
	m := &mapping.Map{Collection: "members", Key: "clerkId", State: "_clerk", Fields: []mapping.Field{
		{Path: "contact.mail", From: "primary_email"},
		{Path: "firstMail", From: "primary_email", Create: true},
	}}
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		s := store.NewUsers(db, m)
		if err := s.Setup(t.Context()); err != nil {
			t.Fatal(err)
		}
		members := db.Collection("members")
		if err := members.EnsureIndex(t.Context(), database.Index{Field: "contact.mail", Unique: true}); err != nil {
			t.Skip(err)
		}
		twice := bson.D{{Key: "contact", Value: bson.D{{Key: "mail", Value: "twice"}}}}
		if _, err := members.InsertMany(t.Context(), []any{twice, twice}); err == nil {
			t.Skip("the database does not hold an index on a nested field")
		}
		own, contact := bson.NewObjectID(), bson.D{{Key: "mail", Value: "app@x.example"}}
		if _, err := members.InsertOne(t.Context(),
			bson.D{{Key: "_id", Value: own}, {Key: "contact", Value: contact}}); err != nil {
			t.Fatal(err)
		}
		write(t, s, person(1, "a@x.example", 1), 1)
		write(t, s, person(2, "b@x.example", 1), 1)
		writes := []store.Write{
			of(person(2, "a@x.example", 2)), of(person(3, "app@x.example", 2)), of(person(4, "d@x.example", 2)),
		}
		for i, r := range s.Write(t.Context(), writes, store.All) {
			want := []string{testenv.People(1)[0].ID, own.Hex(), ""}[i]
			switch {
			case want == "" && r.Err == nil:
			case r.Err == nil || !strings.Contains(r.Err.Error(), "contact.mail") ||
				!strings.Contains(r.Err.Error(), want):
				t.Errorf("write %d: got %v, want the index and %q", i, r.Err, want)
			}
		}
		write(t, s, person(1, "x@x.example", 3), 2)
		write(t, s, person(2, "a@x.example", 2), 2)
		if r, err := s.Get(t.Context(), person(2, "", 1).ID); err != nil || r.Text("contact.mail") != "a@x.example" ||
			r.Text("firstMail") != "b@x.example" {
			t.Errorf("got %v, %v", r.Doc, err)
		}
	})
}

// TestGiveUp: a row loses only what Clerk's newest word would replace, keeps its version, and can have it back.
func TestGiveUp(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		s := users(t, db)
		uniqueEmail(t, db, options.Index().SetSparse(true))
		id := person(1, "", 1).ID
		for name, tc := range map[string]struct {
			index string
			w     clerk.User
			gives bool
		}{
			"another address":  {"email_1", person(1, "x@x.example", 6), true},
			"no address":       {"email_1", person(1, "", 6), true},
			"the same address": {"email_1", person(1, "a@x.example", 6), false},
			"an older word":    {"email_1", person(1, "x@x.example", 4), false},
			"another index":    {"username_1", person(1, "x@x.example", 6), false},
			"nobody's row":     {"email_1", person(2, "x@x.example", 6), false},
		} {
			testenv.Write(t, s, of(person(1, "a@x.example", 5)))
			back, err := s.GiveUp(t.Context(), of(tc.w), tc.index)
			if err != nil || (back != nil) != tc.gives {
				t.Errorf("%s: it gave up: %v, %v, want %v", name, back != nil, err, tc.gives)
			}
			want := "a@x.example"
			for range 2 {
				r, err := s.Get(t.Context(), id)
				if got := r.Text("email"); err != nil || tc.gives == (got == want) ||
					!strings.HasPrefix(r.Clerk.Version, "0000000000005.") {
					t.Errorf("%s: got %q, %s, %v", name, got, r.Clerk.Version, err)
				}
				if back == nil {
					break
				}
				if err := back(t.Context()); err != nil {
					t.Errorf("%s: %v", name, err)
				}
				tc.gives = false // it has it again
			}
			if back == nil {
				continue
			}
			testenv.Write(t, s, of(person(1, "y@x.example", 6)))
			if err := back(t.Context()); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if r, _ := s.Get(t.Context(), id); r.Text("email") != "y@x.example" {
				t.Errorf("%s: a newer row got its old address back", name)
			}
			if _, err := db.Collection("users").DeleteOne(t.Context(), bson.D{{Key: "_id", Value: id}}); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestWrittenWhileItGivesUp: somebody writes the row between the read and the removal of GiveUp, and keeps what was
// written.
func TestWrittenWhileItGivesUp(t *testing.T) {
	t.Parallel()
	lab := testenv.NewLab(t, 2)
	p, other := lab.Processes[0], users(t, lab.Processes[1].DB)
	s := users(t, p.DB)
	uniqueEmail(t, lab.Processes[1].DB, options.Index())
	write(t, other, person(1, "a@x.example", 5), 1)
	var back func(context.Context) error
	ended, err := p.Start(t.Context(), func(ctx context.Context) (err error) {
		back, err = s.GiveUp(ctx, of(person(1, "b@x.example", 6)), "email_1")
		return err
	})
	for !ended {
		if p.Call() == "update" {
			write(t, other, person(1, "c@x.example", 7), 1)
		}
		ended, err = p.Step(testenv.None)
	}
	if r, _ := other.Get(t.Context(), person(1, "", 1).ID); err != nil || back != nil ||
		r.Text("email") != "c@x.example" {
		t.Errorf("got %v, %v, %q", back != nil, err, r.Text("email"))
	}
}
