package store_test

import (
	"context"
	"testing"

	"clerksync/clerk"
	"clerksync/internal/testenv"
	"clerksync/store"
	"clerksync/store/database"
	"clerksync/store/mapping"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// foreign are rows as an app, or a tool of its, may have made them.
func foreign() map[string]bson.D {
	clerkIs := func(v any) bson.D { return bson.D{{Key: "clerk", Value: v}} }
	return map[string]bson.D{
		"an object in email":        {{Key: "email", Value: bson.D{{Key: "address", Value: "x"}}}},
		"a number in username":      {{Key: "username", Value: 7}},
		"null in full_name":         {{Key: "full_name", Value: nil}},
		"a list in profile_picture": {{Key: "profile_picture", Value: bson.A{"x"}}},
		"clerk is a text":           clerkIs("x"),
		"clerk is null":             clerkIs(nil),
		"clerk is a list":           clerkIs(bson.A{}),
		"clerk has keys of the app": clerkIs(bson.D{{Key: "role", Value: "admin"}}),
		"a version that is null": clerkIs(bson.D{
			{Key: "version", Value: nil}, {Key: "role", Value: "admin"},
		}),
		"a version that is a number":   clerkIs(bson.D{{Key: "version", Value: 3}}),
		"a version of another form":    clerkIs(bson.D{{Key: "version", Value: "zzz"}}),
		"a double in clerk.created_at": clerkIs(bson.D{{Key: "created_at", Value: 1.7e12}}),
		"a text in clerk.banned":       clerkIs(bson.D{{Key: "banned", Value: "no"}}),
		"a version, and a date that is text": clerkIs(bson.D{
			{Key: "version", Value: "0000000000001.0000000000001"}, {Key: "synced_at", Value: "now"},
		}),
		"nothing but what the app keeps": {{Key: "plan", Value: "pro"}},
		"a number and a document in one row": {
			{Key: "full_name", Value: 1.5}, {Key: "clerk", Value: bson.D{{Key: "version", Value: bson.D{}}}},
		},
		"an email that is null": {{Key: "email", Value: nil}},
		"clerk.version below a list": clerkIs(bson.D{
			{Key: "version", Value: bson.A{"0000000000001.0000000000001"}},
		}),
		"a date where a text is to be": {{Key: "username", Value: bson.DateTime(1)}},
		"our own row, but a flag was removed": clerkIs(bson.D{
			{Key: "version", Value: "0000000000001.0000000000001"}, {Key: "locked", Value: true},
		}),
	}
}

// TestRowInAnotherShapeBlocksAllOthers: the store decoded rows strictly. A user whose row the app had made in another
// shape could never be written, and every read of a page with that row failed for all users of the page.
func TestRowInAnotherShapeBlocksAllOthers(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		s := users(t, db)
		rows := db.Collection("users")
		for name, fields := range foreign() {
			t.Run(name, func(t *testing.T) {
				for mode, id := range map[store.Mode]string{store.All: "user_a", store.Differing: "user_b"} {
					id += name
					if _, err := rows.InsertOne(t.Context(),
						append(bson.D{{Key: "_id", Value: id}, {Key: "theme", Value: "dark"}}, fields...)); err != nil {
						t.Fatal(err)
					}
					named := func(id string) store.Write {
						u := ada(100, func(u *clerk.User) { u.ID, u.Username = id, "name of "+id })
						return store.Write{User: u, EventTime: store.EventTime{Clerk: noon}}
					}
					neighbour := named(id + "'s neighbour")
					for i, r := range s.Write(t.Context(), []store.Write{named(id), neighbour}, mode) {
						if want := []store.Outcome{store.Updated, store.Created}[i]; r.Err != nil || r.Outcome != want {
							t.Errorf("write %d: got %q, %v, want %q", i, r.Outcome, r.Err, want)
						}
					}
					if got := get(t, s, id); got.FullName != "Ada Lovelace" || got.Email != "ada@example.com" ||
						got.Clerk.Version != "0000000000100.1800000000000" {
						t.Errorf("got %+v", got)
					}
					var raw struct {
						Theme string `bson:"theme"`
						Clerk bson.M `bson:"clerk"`
					}
					if err := rows.FindOne(t.Context(), bson.D{{Key: "_id", Value: id}}).Decode(&raw); err != nil {
						t.Fatal(err)
					}
					kept := raw.Theme == "dark"
					for _, f := range fields {
						if d, ok := f.Value.(bson.D); ok && f.Key == "clerk" && len(d) > 0 &&
							d[len(d)-1].Key == "role" {
							kept = kept && raw.Clerk["role"] == "admin"
						}
					}
					if !kept {
						t.Errorf("what the app keeps has gone: %+v", raw)
					}
					// And it is a row like any other from then on.
					if got := write(t, s, named(id).User, 1); got != store.Unchanged {
						t.Errorf("once more: got %q, want unchanged", got)
					}
				}
			})
		}
	})
}

// TestForeignRowLosesToSecondReplica: the guard of a write to a row that the app made was less than what had been read,
// so that of two replicas the one with the older event could win.
func TestForeignRowLosesToSecondReplica(t *testing.T) {
	t.Parallel()
	for name, fields := range foreign() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lab := testenv.NewLab(t, 2)
			row := append(bson.D{{Key: "_id", Value: "user_ada"}}, fields...)
			if _, err := lab.Processes[0].DB.Collection("users").InsertOne(t.Context(), row); err != nil {
				t.Fatal(err)
			}
			older, newer := lab.Processes[0], lab.Processes[1]
			start := func(p *testenv.Process, u clerk.User) {
				s := users(t, p.DB)
				if ended, err := p.Start(t.Context(), func(ctx context.Context) error {
					return operation{of(u)}.do(ctx, s)
				}); ended {
					t.Fatal(err)
				}
			}
			run := func(p *testenv.Process) {
				for ended := false; !ended; {
					var err error
					if ended, err = p.Step(testenv.None); err != nil {
						t.Fatal(err)
					}
				}
			}
			start(older, ada(1_700_000_000_100))
			if ended, err := older.Step(testenv.None); ended { // it has read the row
				t.Fatal(err)
			}
			start(newer, ada(1_700_000_000_200, named("Ada King")))
			run(newer)
			run(older)
			if got := lab.Row(t, "user_ada"); got.Text("full_name") != "Ada King" {
				t.Errorf("got %+v, want the newer", got)
			}
		})
	}
}

// TestTakenNameOfForeignRowIsNoRefusal: a row that the app made has no user name, the best one is taken, and another
// replica gives the row one meanwhile. The writer took that for a unique index of the app's and gave up.
func TestTakenNameOfForeignRowIsNoRefusal(t *testing.T) {
	t.Parallel()
	lab := testenv.NewLab(t, 2)
	first, second := lab.Processes[0], lab.Processes[1]
	s := users(t, first.DB)
	write(t, s, ada(1, func(u *clerk.User) { u.ID, u.Username = "user_bob", "ada" }), 1)
	if _, err := first.DB.Collection("users").InsertOne(t.Context(),
		bson.D{{Key: "_id", Value: "user_ada"}}); err != nil {
		t.Fatal(err)
	}
	ended, err := first.Start(t.Context(), func(ctx context.Context) error { return operation{of(ada(5))}.do(ctx, s) })
	for n := 0; !ended; n++ {
		if n == 2 { // it has read the row, and met the name
			write(t, store.NewUsers(second.DB, mapping.Default()), ada(4), 1)
		}
		ended, err = first.Step(testenv.None)
	}
	if err != nil {
		t.Errorf("got %v, want the row to be written", err)
	}
}
