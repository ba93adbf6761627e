package store_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"clerksync/clerk"
	"clerksync/internal/testenv"
	"clerksync/store"
	"clerksync/store/database"
	"clerksync/store/mapping"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// members is the map of an app whose documents have an ObjectId, and Clerk's id in a field.
func members() *mapping.Map {
	return &mapping.Map{
		Collection: "members", Key: "clerkId", State: "clerk", Fields: []mapping.Field{
			{Path: "name", From: "full_name"},
			{Path: "image", From: "image_url"},
			{Path: "email", From: "primary_email", Absent: mapping.Absent{Null: true}},
		},
	}
}

// nested is a map with all that a map can have.
func nested() *mapping.Map {
	return &mapping.Map{
		Collection: "people", Key: "authId", State: "_clerk", Fields: []mapping.Field{
			{Path: "profile.name", From: "full_name", Absent: mapping.Absent{Text: new("nobody")}},
			{Path: "profile.contact.email", From: "primary_email"},
			{Path: "handle", From: "username", Unique: true},
			{Path: "settings", From: "public_metadata.settings"},
			{Path: "role", From: "public_metadata.role", Absent: mapping.Absent{Text: new("member")}, Create: true},
			{Path: "isActive", Value: true, Create: true},
			{Path: "source", Value: "clerk"},
			{Path: "createdAt", From: mapping.Now, Create: true},
			{Path: "updatedAt", From: mapping.Now},
		},
	}
}

// mapped is the users of a map, with the app's collection.
type mapped struct {
	*store.Users
	m    *mapping.Map
	docs *mongo.Collection
}

func setup(t *testing.T, db *database.DB, m *mapping.Map) mapped {
	t.Helper()
	s := mapped{store.NewUsers(db, m), m, db.Database.Collection(m.Collection)}
	for range 2 { // it can be repeated
		if err := s.Setup(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// put makes a document as the app does.
func (s mapped) put(t *testing.T, fields ...bson.E) {
	t.Helper()
	if _, err := s.docs.InsertOne(t.Context(), fields); err != nil {
		t.Fatal(err)
	}
}

// doc returns the document of a user, or nil.
func (s mapped) doc(t *testing.T, id string) bson.M {
	t.Helper()
	var d bson.M
	err := s.docs.FindOne(t.Context(), bson.D{{Key: s.m.Key, Value: id}}).Decode(&d)
	if err != nil && !errors.Is(err, mongo.ErrNoDocuments) {
		t.Fatal(err)
	}
	return d
}

func (s mapped) count(t *testing.T) int {
	t.Helper()
	n, err := s.docs.CountDocuments(t.Context(), bson.D{})
	if err != nil {
		t.Fatal(err)
	}
	return int(n)
}

// one writes a user in a mode.
func (s mapped) one(t *testing.T, mode store.Mode, u clerk.User, ms clerk.Millis) store.Result {
	t.Helper()
	w := store.Write{User: u, EventTime: store.EventTime{Clerk: noon + ms}}
	return s.Write(t.Context(), []store.Write{w}, mode)[0]
}

func metadata(json string) func(*clerk.User) {
	return func(u *clerk.User) { u.Object = []byte(`{"public_metadata":` + json + `}`) }
}

// TestMaps: what a write does to a row, in each mode, for three maps.
func TestMaps(t *testing.T) {
	t.Parallel()
	name := func(d bson.M) any {
		for _, path := range []string{"full_name", "name", "profile"} {
			if v := d[path]; v != nil {
				if p, ok := v.(bson.D); ok {
					return p[0].Value
				}
				return v
			}
		}
		return nil
	}
	for _, m := range []*mapping.Map{mapping.Default(), members(), nested()} {
		t.Run(m.Collection, func(t *testing.T) {
			t.Parallel()
			testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
				s := setup(t, db, m)
				for i, step := range []struct {
					mode store.Mode
					u    clerk.User
					at   clerk.Millis
					want store.Outcome
					name any // of the row after it
				}{
					{store.DryRun, ada(10), 1, store.Created, nil},
					{store.All, ada(10), 1, store.Created, "Ada Lovelace"},
					{store.All, ada(10), 1, store.Unchanged, "Ada Lovelace"},
					{store.Differing, ada(10), 2, store.Unchanged, "Ada Lovelace"},
					{store.DryRun, ada(20, named("Ada King")), 1, store.Updated, "Ada Lovelace"},
					{store.Differing, ada(20, named("Ada King")), 1, store.Updated, "Ada King"},
					{store.All, ada(10, named("old")), 9, store.Stale, "Ada King"},
					{store.All, ada(30, named("Ada Byron")), 1, store.Updated, "Ada Byron"},
				} {
					r := s.one(t, step.mode, step.u, step.at)
					if r.Err != nil || r.Outcome != step.want {
						t.Fatalf("step %d: got %q, %v, want %q", i, r.Outcome, r.Err, step.want)
					}
					if got := name(s.doc(t, "user_ada")); got != step.name {
						t.Errorf("step %d: the name is %v, want %v", i, got, step.name)
					}
				}
				if s.count(t) != 1 {
					t.Errorf("%d documents, want one", s.count(t))
				}
				id := s.doc(t, "user_ada")["_id"]
				if _, isObjectID := id.(bson.ObjectID); isObjectID != (m.Key != "_id") {
					t.Errorf("_id is %v", id)
				}
				row, err := s.Get(t.Context(), "user_ada")
				if err != nil || row.ID != "user_ada" || row.Clerk.Version == "" {
					t.Errorf("Get: %+v, %v", row, err)
				}
				testenv.Delete(t, s.Users, "user_ada")
				if got := s.one(t, store.All, ada(99), 9); got.Outcome != store.Deleted || s.count(t) != 0 {
					t.Errorf("after the deletion: %q, %d documents", got.Outcome, s.count(t))
				}
			})
		})
	}
}

// TestMappedBulk: a list of writes beside rows of the app that have no id of Clerk's, in any of the ways in which they
// can have none.
func TestMappedBulk(t *testing.T) {
	t.Parallel()
	for _, m := range []*mapping.Map{members(), nested()} {
		t.Run(m.Collection, func(t *testing.T) {
			t.Parallel()
			testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
				s := setup(t, db, m)
				user := func(i int) string { return testenv.UserID(time.Unix(1_767_603_600, 0), int64(i)) }
				free := []bson.D{
					{{Key: "plan", Value: "pro"}},
					{{Key: "plan", Value: "free"}},
					{{Key: m.Key, Value: nil}},
					{{Key: m.Key, Value: nil}, {Key: "plan", Value: "pro"}},
					{{Key: m.Key, Value: ""}},
					{{Key: m.Key, Value: ""}},
					{{Key: m.Key, Value: 7}},
					{{Key: m.Key, Value: 7}},
					{{Key: m.Key, Value: bson.D{{Key: "id", Value: user(1)}}}},
					{{Key: m.Key, Value: bson.A{"user_of_a_list"}}},
				}
				for _, d := range free {
					s.put(t, d...)
				}
				// The app's row of a user.
				s.put(t, bson.E{Key: m.Key, Value: user(3)}, bson.E{Key: "credits", Value: 5})
				list := func(at clerk.Millis, n int, change ...func(*clerk.User)) (all []store.Write) {
					for i := range n {
						u := ada(at, change...)
						u.ID, u.Username = user(i), fmt.Sprint("name-", i)
						all = append(all, store.Write{User: u, EventTime: store.EventTime{Clerk: noon}})
					}
					return all
				}
				for _, step := range []struct {
					writes []store.Write
					want   store.Outcome
				}{
					{list(1, 40), store.Created},
					{list(2, 40, named("Ada King")), store.Updated},
					{list(2, 40, named("Ada King")), store.Unchanged},
					{list(1, 40), store.Stale},
				} {
					for i, r := range s.Write(t.Context(), step.writes, store.All) {
						want := step.want
						if i == 3 && want == store.Created {
							want = store.Updated
						}
						if r.Err != nil || r.Outcome != want {
							t.Fatalf("user %d: got %q, %v, want %q", i, r.Outcome, r.Err, want)
						}
					}
				}
				if n := s.count(t); n != 40+len(free) {
					t.Errorf("%d documents, want %d", n, 40+len(free))
				}
				if d := s.doc(t, user(3)); d["credits"] != int32(5) {
					t.Errorf("what the app keeps has gone: %v", d)
				}
				if n, err := s.Count(t.Context()); n != 40 || err != nil {
					t.Errorf("counted %d, %v, want 40", n, err)
				}
				var ids []string
				for after := ""; ; {
					page, err := s.IDs(t.Context(), after, 7)
					if err != nil {
						t.Fatal(err)
					}
					for _, r := range page {
						if ids = append(ids, r.ID); !r.Ours {
							t.Errorf("%s is not ours", r.ID)
						}
					}
					if len(page) < 7 {
						break
					}
					after = page[len(page)-1].ID
				}
				if len(ids) != 40 || !slices.IsSorted(ids) {
					t.Errorf("got %d ids, want 40, sorted: %v", len(ids), ids)
				}
				var gone []store.Write
				for i := range 40 {
					gone = append(gone, store.Write{User: clerk.User{ID: user(i)}, Deleted: true})
				}
				gone = append(gone, store.Write{User: clerk.User{ID: "user_of_a_list"}, Deleted: true})
				for _, r := range s.Write(t.Context(), gone, store.All) {
					if r.Err != nil || r.Outcome != store.Deleted {
						t.Fatal(r)
					}
				}
				if n := s.count(t); n != len(free) {
					t.Errorf("%d documents after the deletions, want %d, the app's own", n, len(free))
				}
			})
		})
	}
}

// TestWhenFieldsAreWritten: fields of the creation, of the time of the write and of a constant.
func TestWhenFieldsAreWritten(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		s := setup(t, db, nested())
		write := func(mode store.Mode, u clerk.User, at clerk.Millis, want store.Outcome) bson.M {
			t.Helper()
			if r := s.one(t, mode, u, at); r.Err != nil || r.Outcome != want {
				t.Fatalf("got %q, %v, want %q", r.Outcome, r.Err, want)
			}
			return s.doc(t, "user_ada")
		}
		set := func(v ...bson.E) {
			t.Helper()
			filter, set := bson.D{{Key: "authId", Value: "user_ada"}}, bson.D{{Key: "$set", Value: bson.D(v)}}
			if _, err := s.docs.UpdateOne(t.Context(), filter, set); err != nil {
				t.Fatal(err)
			}
		}
		admin := metadata(`{"role":"admin","settings":{"dark":true,"n":1.5}}`)
		first := write(store.All, ada(1, admin), 1, store.Created)
		if first["role"] != "admin" || first["isActive"] != true || first["source"] != "clerk" ||
			first["createdAt"] == nil || first["updatedAt"] == nil {
			t.Errorf("created %v", first)
		}
		long := bson.DateTime(1)
		set(bson.E{Key: "role", Value: "owner"}, bson.E{Key: "isActive", Value: false},
			bson.E{Key: "source", Value: "x"}, bson.E{Key: "createdAt", Value: long},
			bson.E{Key: "updatedAt", Value: long})
		settings := metadata(`{"role":"none","settings":{"n":1.5,"dark":true}}`)
		for _, mode := range []store.Mode{store.DryRun, store.Differing, store.All} {
			// The app may change all of these, and no comparison finds it. A new version alone changes nothing else.
			d := write(mode, ada(2, settings), 2, store.Unchanged)
			if d["role"] != "owner" || d["isActive"] != false || d["createdAt"] != long || d["updatedAt"] != long {
				t.Errorf("mode %d: a new version alone has changed %v", mode, d)
			}
		}
		d := write(store.All, ada(3, named("Ada King"), settings), 3, store.Updated)
		if d["role"] != "owner" || d["isActive"] != false || d["createdAt"] != long || d["updatedAt"] == long ||
			d["source"] != "clerk" {
			t.Errorf("an update has changed %v", d)
		}
		// A row that is made anew gets all of them anew.
		if _, err := s.docs.DeleteMany(t.Context(), bson.D{}); err != nil {
			t.Fatal(err)
		}
		again := write(store.All, ada(3, named("Ada King")), 3, store.Created)
		if again["role"] != "member" || again["isActive"] != true || again["createdAt"] == long ||
			again["settings"] != nil {
			t.Errorf("created again: %v", again)
		}
	})
}

// TestAbsent: what a field holds if the user does not have the value.
func TestAbsent(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		nobody := ada(2, func(u *clerk.User) { u.Email, u.FullName, u.ImageURL = "", "", "" })
		for _, m := range []*mapping.Map{members(), nested()} {
			s := setup(t, db, m)
			for _, u := range []clerk.User{nobody, ada(1), nobody} {
				u.ChangedAt += 10
				s.one(t, store.All, u, u.ChangedAt)
				for _, mode := range []store.Mode{store.DryRun, store.Differing} {
					if r := s.one(t, mode, u, u.ChangedAt); r.Err != nil || r.Outcome == store.Updated {
						t.Errorf("%s: once more: %+v", m.Collection, r)
					}
				}
			}
			d := s.doc(t, "user_ada")
			if m.Collection == "members" {
				email, there := d["email"]
				if _, hasName := d["name"]; email != nil || !there || hasName {
					t.Errorf("got %v, want email null and no name", d)
				}
			} else if p := d["profile"].(bson.D); p[0].Value != "nobody" {
				t.Errorf("got %v, want the name nobody", d)
			}
		}
	})
}

// TestParents: the parent of a dotted field is missing, null, an object, or something that has no fields. A row that
// cannot be written blocks no other.
func TestParents(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		s := setup(t, db, nested())
		for name, tc := range map[string]struct {
			profile any
			want    string // the path that the error names, "" for none
			kept    bool   // what the app keeps in it
		}{
			"an object":          {profile: bson.D{{Key: "bio", Value: "x"}}, kept: true},
			"null":               {profile: nil},
			"null below":         {profile: bson.D{{Key: "bio", Value: "x"}, {Key: "contact", Value: nil}}, kept: true},
			"a text":             {profile: "x", want: "profile"},
			"a number":           {profile: 7, want: "profile"},
			"a list":             {profile: bson.A{bson.D{{Key: "name", Value: "x"}}}, want: "profile"},
			"an empty list":      {profile: bson.A{}, want: "profile"},
			"a text below":       {profile: bson.D{{Key: "contact", Value: "x"}}, want: "profile.contact"},
			"an object in place": {profile: bson.D{{Key: "name", Value: bson.D{{Key: "first", Value: "x"}}}}},
		} {
			t.Run(name, func(t *testing.T) {
				for _, mode := range []store.Mode{store.All, store.Differing, store.DryRun} {
					id := fmt.Sprint("user_", mode, "_", name)
					s.put(t, bson.E{Key: "authId", Value: id}, bson.E{Key: "profile", Value: tc.profile},
						bson.E{Key: "theme", Value: "dark"})
					writes := []store.Write{
						of(ada(1, func(u *clerk.User) { u.ID, u.Username = id, "n"+id })),
						of(ada(1, func(u *clerk.User) { u.ID, u.Username = id+" beside", "b"+id })),
					}
					results := s.Write(t.Context(), writes, mode)
					if r := results[1]; r.Err != nil || r.Outcome != store.Created {
						t.Errorf("mode %d: the user beside: %+v", mode, r)
					}
					r := results[0]
					if tc.want != "" {
						for _, part := range []string{id, tc.want + " is of type "} {
							if !errors.Is(r.Err, store.ErrUnfit) || !strings.Contains(r.Err.Error(), part) {
								t.Errorf("mode %d: got %v, want ErrUnfit and %q", mode, r.Err, part)
							}
						}
						continue
					}
					if r.Err != nil || r.Outcome != store.Updated {
						t.Fatalf("mode %d: got %+v, want updated", mode, r)
					}
					if mode == store.DryRun {
						continue
					}
					d := s.doc(t, id)
					profile, _ := bson.Marshal(d["profile"])
					bio, _ := bson.Raw(profile).Lookup("bio").StringValueOK()
					email, _ := bson.Raw(profile).Lookup("contact", "email").StringValueOK()
					if d["theme"] != "dark" || email != "ada@example.com" || tc.kept != (bio == "x") {
						t.Errorf("mode %d: got %v", mode, d)
					}
					if again := s.Write(t.Context(), writes[:1], store.Differing)[0]; again.Outcome != store.Unchanged {
						t.Errorf("mode %d: once more: %+v, want unchanged", mode, again)
					}
				}
			})
		}
	})
}

// TestNumbersOfAnotherType: a driver of another language reads a row and saves it with its own types of numbers, and
// with the fields of objects in another order.
func TestNumbersOfAnotherType(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		s := setup(t, db, nested())
		u := ada(1, metadata(`{"settings":{"a":1,"b":9007199254740993,"c":1e300,"d":[1,2.5,null],"e":{"x":1,"y":{}}}}`))
		if r := s.one(t, store.All, u, 1); r.Err != nil {
			t.Fatal(r.Err)
		}
		for name, tc := range map[string]struct {
			settings any
			same     bool
		}{
			"other types": {bson.D{
				{Key: "c", Value: 1e300},
				{Key: "b", Value: int64(9007199254740993)},
				{Key: "a", Value: 1.0},
				{Key: "d", Value: bson.A{int64(1), 2.5, nil}},
				{Key: "e", Value: bson.D{{Key: "y", Value: bson.D{}}, {Key: "x", Value: int32(1)}}},
			}, true},
			"a number that lost digits": {bson.D{
				{Key: "a", Value: 1},
				{Key: "b", Value: 9007199254740992.0},
				{Key: "c", Value: 1e300},
				{Key: "d", Value: bson.A{1, 2.5, nil}},
				{Key: "e", Value: bson.D{{Key: "x", Value: 1}, {Key: "y", Value: bson.D{}}}},
			}, false},
			"a field less": {bson.D{{Key: "a", Value: 1}}, false},
			"a text":       {"x", false},
			"null":         {nil, false},
		} {
			set := bson.D{{Key: "$set", Value: bson.D{{Key: "settings", Value: tc.settings}}}}
			if _, err := s.docs.UpdateOne(t.Context(), bson.D{{Key: "authId", Value: u.ID}}, set); err != nil {
				t.Fatal(err)
			}
			r := s.one(t, store.DryRun, u, 1)
			if r.Err != nil || (r.Outcome == store.Unchanged) != tc.same {
				t.Errorf("%s: got %+v, want that it is the same: %v", name, r, tc.same)
			}
		}
	})
}

// TestMetadataThatNoRowCanHold blocks no other user.
func TestMetadataThatNoRowCanHold(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		s := setup(t, db, nested())
		for i, settings := range []string{
			strings.Repeat(`{"a":`, 100) + "1" + strings.Repeat("}", 100), `{"n":1e999}`, `{"a\u0000b":1}`,
		} {
			id := fmt.Sprint("user_", i)
			writes := []store.Write{
				of(ada(1, metadata(`{"settings":`+settings+`}`), func(u *clerk.User) { u.ID = id })),
				of(ada(1, func(u *clerk.User) { u.ID, u.Username = id+" beside", "b"+id })),
			}
			results := s.Write(t.Context(), writes, store.All)
			if r := results[0]; !errors.Is(r.Err, store.ErrUnfit) || !strings.Contains(r.Err.Error(), "settings: ") {
				t.Errorf("%d: got %+v, want ErrUnfit", i, r)
			}
			if r := results[1]; r.Err != nil || r.Outcome != store.Created {
				t.Errorf("%d: the user beside: %+v", i, r)
			}
		}
		// These are odd, and MongoDB stores them. FerretDB v1 does not, and the others are written all the same.
		odd := ada(1, metadata(`{"settings":{"$set":1,"a.b":2,"":3,"__proto__":{"x":1}}}`))
		results := s.Write(t.Context(), []store.Write{of(ada(1, third("beside"))), of(odd)}, store.All)
		if results[0].Err != nil || !db.OneProcess && results[1].Err != nil {
			t.Errorf("got %v, %v", results[0].Err, results[1].Err)
		}
	})
}

// TestAnotherMap: the next full run writes the rows that were written with another map.
func TestAnotherMap(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		s := setup(t, db, members())
		s.one(t, store.All, ada(1), 1)
		m := members()
		m.Fields = append(m.Fields, mapping.Field{Path: "source", Value: "clerk"})
		changed := setup(t, db, m)
		r := changed.one(t, store.DryRun, ada(1), 1)
		if len(r.Fields) != 1 || r.Fields[0].Name != "clerk.map" || r.Outcome != store.Updated {
			t.Errorf("got %+v, want that clerk.map differs", r)
		}
		if r := changed.one(t, store.Differing, ada(1), 1); r.Outcome != store.Updated {
			t.Errorf("got %+v, want updated", r)
		}
		if d := changed.doc(t, "user_ada"); d["source"] != "clerk" {
			t.Errorf("got %v", d)
		}
		if r := changed.one(t, store.Differing, ada(1), 1); r.Outcome != store.Unchanged {
			t.Errorf("got %+v, want unchanged", r)
		}
		// A field that is written when a row is made concerns no row that is there.
		m.Fields = append(m.Fields, mapping.Field{Path: "since", From: mapping.Now, Create: true})
		if r := setup(t, db, m).one(t, store.Differing, ada(1), 1); r.Outcome != store.Unchanged {
			t.Errorf("a field of the creation: got %+v, want unchanged", r)
		}
	})
}

// TestDoubles: over rows with the same id of Clerk's no index is made, and the error names them.
func TestDoubles(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		s := mapped{store.NewUsers(db, members()), members(), db.Database.Collection("members")}
		var want []string
		for i := range 14 {
			id := bson.NewObjectID()
			s.put(t, bson.E{Key: "_id", Value: id}, bson.E{Key: "clerkId", Value: fmt.Sprintf("user_%02d", i/2)})
			s.put(t, bson.E{Key: "clerkId", Value: fmt.Sprintf("user_%02d is alone", i)})
			want = append(want, id.Hex())
		}
		err := s.Setup(t.Context())
		if err == nil || !strings.Contains(err.Error(), "the collection members has rows with the same clerkId: ") {
			t.Fatalf("got %v, want that the rows are named", err)
		}
		n := 0
		for _, id := range want {
			if strings.Contains(err.Error(), id) {
				n++
			}
		}
		if n != 10 || s.count(t) != 28 {
			t.Errorf("%d rows are named of %d, want 10 of 28: %v", n, s.count(t), err)
		}
		if _, err := s.docs.DeleteMany(t.Context(), bson.D{}); err != nil {
			t.Fatal(err)
		}
		if err := s.Setup(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestDoublesWithAddresses: an _id that may be personal is not named, for the error goes to the log.
func TestDoublesWithAddresses(t *testing.T) {
	t.Parallel()
	db := testenv.Embedded(t)
	s := mapped{store.NewUsers(db, members()), members(), db.Database.Collection("members")}
	for _, id := range []any{"ada@example.com", bson.D{{Key: "mail", Value: "ada@example.com"}}} {
		s.put(t, bson.E{Key: "_id", Value: id}, bson.E{Key: "clerkId", Value: "user_x"})
	}
	err := s.Setup(t.Context())
	if err == nil || !strings.Contains(err.Error(), "same clerkId") || strings.Contains(err.Error(), "ada") {
		t.Errorf("got %v, want the doubles without an address", err)
	}
}

// TestDoublesThatCameLater: if the index was dropped and rows with the same id of Clerk's were made, the one that the
// app finds is written, in a list of users as alone, and a deletion removes all.
func TestDoublesThatCameLater(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		m := members()
		s := mapped{store.NewUsers(db, m), m, db.Database.Collection(m.Collection)}
		s.one(t, store.All, ada(1), 1)
		s.put(t, bson.E{Key: "clerkId", Value: "user_ada"}, bson.E{Key: "plan", Value: "pro"})
		for i, step := range []struct {
			writes []store.Write
			want   string
		}{
			{[]store.Write{of(ada(2, named("Ada King")))}, "Ada King"},
			{[]store.Write{of(ada(3, named("Ada Byron"))), of(ada(1, third("c")))}, "Ada Byron"},
			{[]store.Write{of(ada(2, named("old"))), of(ada(2, third("c")))}, "Ada Byron"},
		} {
			for _, r := range s.Write(t.Context(), step.writes, store.All) {
				if r.Err != nil {
					t.Fatal(r.Err)
				}
			}
			if got := s.doc(t, "user_ada")["name"]; got != step.want {
				t.Errorf("write %d: the app finds %v, want %v", i, got, step.want)
			}
		}
		testenv.Delete(t, s.Users, "user_ada")
		if n := s.count(t); n != 1 {
			t.Errorf("%d documents after the deletion, want 1", n)
		}
	})
}

// TestKeyIndex: the key has a unique index of the app's, or else one of ours beside the app's own.
func TestKeyIndex(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		if db.OneProcess || !testenv.ListsIndexes(t, db) {
			t.Skip("it has no partial indexes, or does not list them")
		}
		for name, tc := range map[string]struct {
			app  *options.IndexOptionsBuilder // nil for none
			ours bool
		}{
			"none":   {nil, true},
			"unique": {options.Index().SetUnique(true), false},
			"partial": {
				options.Index().SetName("theirs").SetUnique(true).
					SetPartialFilterExpression(bson.D{{Key: "active", Value: true}}), true,
			},
		} {
			t.Run(name, func(t *testing.T) {
				m := members()
				m.Collection += "_" + name
				docs := db.Database.Collection(m.Collection)
				if tc.app != nil {
					index := mongo.IndexModel{Keys: bson.D{{Key: "clerkId", Value: 1}}, Options: tc.app}
					if _, err := docs.Indexes().CreateOne(t.Context(), index); err != nil {
						t.Fatal(err)
					}
				}
				s := store.NewUsers(db, m)
				has := func() bool {
					list, err := db.Collection(m.Collection).ListIndexes(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					ours := func(ix database.IndexInfo) bool { return ix.Name == store.KeyIndex }
					return slices.ContainsFunc(list, ours)
				}
				// The second time is the night after mongoose has dropped it.
				for _, do := range []func(context.Context) error{s.Setup, s.MendIndexes} {
					if err := do(t.Context()); err != nil {
						t.Fatal(err)
					}
					if lacks, err := s.LacksIndex(t.Context()); lacks || err != nil || has() != tc.ours {
						t.Errorf("lacks one: %v, %v; has ours: %v, want %v", lacks, err, has(), tc.ours)
					}
					if !tc.ours {
						return
					}
					if err := docs.Indexes().DropOne(t.Context(), store.KeyIndex); err != nil {
						t.Skip(err) // the database in memory drops none
					}
					if lacks, err := s.LacksIndex(t.Context()); !lacks || err != nil {
						t.Errorf("after it was dropped: %v, %v", lacks, err)
					}
				}
			})
		}
	})
}

// TestKeyIndexOfAnotherKey: an index that was made for the key before is named, for nobody would find it by the field.
func TestKeyIndexOfAnotherKey(t *testing.T) {
	t.Parallel()
	uri := testenv.NewMemory().Listen(t, func(command string) int32 {
		if command == "createIndexes" {
			return 86 // IndexKeySpecsConflict
		}
		return 0
	})
	err := store.NewUsers(testenv.Connect(t, uri, "test"), members()).Setup(t.Context())
	const want = "the collection members has another index named clerksync_key than the one on clerkId"
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
}

// TestAppsOwnMapInTheState: the app keeps something of its own in clerk.map, which the map without a file does not use.
func TestAppsOwnMapInTheState(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		s := setup(t, db, mapping.Default())
		own := bson.D{{Key: "zoom", Value: int32(3)}}
		s.put(t, bson.E{Key: "_id", Value: "user_ada"}, bson.E{Key: "clerk", Value: bson.D{{Key: "map", Value: own}}})
		for i, want := range []store.Outcome{store.Updated, store.Unchanged} {
			if r := s.one(t, store.Differing, ada(1), 1); r.Err != nil || r.Outcome != want {
				t.Errorf("write %d: got %+v, want %s", i, r, want)
			}
		}
		if n, err := s.Behind(t.Context()); n != 0 || err != nil {
			t.Errorf("behind the map: got %d, %v, want none", n, err)
		}
		for _, e := range s.doc(t, "user_ada")["clerk"].(bson.D) {
			if e.Key == "map" && cmp.Equal(e.Value, any(own)) {
				return
			}
		}
		t.Errorf("got %v, want the app's map", s.doc(t, "user_ada"))
	})
}

// TestSuffixOfDottedName: a comparison takes off the suffix of a user name once nobody else has the name, wherever in
// the document the name is. Before, every such name counted as free, and each night tried it again.
func TestSuffixOfDottedName(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		m := &mapping.Map{Collection: "people", Key: "authId", State: "_clerk", Fields: []mapping.Field{
			{Path: "profile.handle", From: "username", Unique: true},
		}}
		s := setup(t, db, m)
		double := bson.D{{Key: "profile", Value: bson.D{{Key: "handle", Value: "x"}}}}
		if _, err := s.docs.InsertMany(t.Context(), []any{double, double}); !database.IsDuplicate(err) {
			t.Skip("unique indexes of this server do not look into objects:", err)
		}
		own := func(u *clerk.User) { u.Username = "ada" }
		bob := func(u *clerk.User) { u.ID = "user_bob" }
		s.one(t, store.All, ada(1, own), 1)
		s.one(t, store.All, ada(1, own, bob), 1)
		if r := s.one(t, store.DryRun, ada(1, own, bob), 1); r.Err != nil || r.Outcome != store.Unchanged {
			t.Errorf("while the name is taken: got %+v, want unchanged", r)
		}
		testenv.Delete(t, s.Users, "user_ada")
		if r := s.one(t, store.Differing, ada(1, own, bob), 1); r.Err != nil || r.Outcome != store.Updated {
			t.Errorf("once it is free: got %+v, want updated", r)
		}
	})
}

// TestBehind counts the rows that another map has written.
func TestBehind(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		before := setup(t, db, members())
		before.one(t, store.All, ada(1), 1)
		before.one(t, store.All, ada(1, third("c")), 1)
		before.put(t, bson.E{Key: "clerkId", Value: "user_of_the_app"})
		m := members()
		m.Fields = m.Fields[:1]
		s := setup(t, db, m)
		for _, want := range []int{2, 1} {
			if n, err := s.Behind(t.Context()); n != want || err != nil {
				t.Errorf("got %d, %v, want %d", n, err, want)
			}
			if r := s.one(t, store.Differing, ada(1), 1); r.Err != nil || r.Behind != (want == 2) {
				t.Errorf("got %+v", r)
			}
		}
		if n, err := before.Behind(t.Context()); n != 1 || err != nil {
			t.Errorf("by the map before: got %d, %v, want 1", n, err)
		}
	})
}
