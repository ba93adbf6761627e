package store_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"clerksync/clerk"
	"clerksync/internal/testenv"
	"clerksync/store"
	"clerksync/store/database"

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
	partial := options.Index().SetPartialFilterExpression(bson.D{{Key: "email", Value: bson.D{{Key: "$type", Value: "string"}}}})
	for name, tc := range map[string]struct {
		index  *options.IndexOptionsBuilder
		keys   []string
		before []bson.D         // the app's rows
		users  []clerk.User     // that are written before
		writes []clerk.User     // of one list
		want   map[int][]string // what the error of a write says; the others succeed
	}{
		"a sign-up": {users: []clerk.User{a}, writes: []clerk.User{b}, want: map[int][]string{0: {"email_1", a.ID, b.ID}}},
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
					if _, err := db.Collection("users").InsertOne(t.Context(), append(d, bson.E{Key: "username", Value: "own"})); err != nil {
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
						if r.Err != nil {
							t.Errorf("write %d: %v", i, r.Err)
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
