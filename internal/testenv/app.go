package testenv

import (
	"cmp"
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"clerksync/store"
	"clerksync/store/database"
	"clerksync/store/mapping"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// MapsEnv is the environment variable that has the proofs run with each of Apps, if it is "all". Otherwise they run
// with the first alone.
const MapsEnv = "CLERKSYNC_TEST_MAPS"

// App is an app with its collection. How a user's document must be in the end is written here by hand for each app,
// because a test that asked the code which it tests would not find what is wrong with it.
type App struct {
	Collection string
	File       string // its map, as YAML; "" for the map that is used without a file
	Map        *mapping.Map
	// Names is the field with a user name that no other document has, "" if there is none; FullName has the whole name.
	Names, FullName string
	// UniqueEmail says that a unique index of the app's does not let two documents have one address. Addresses go from
	// one user to another then.
	UniqueEmail bool
	// Extra says that only MapsEnv has the proofs run with it.
	Extra bool

	want func(u *user) bson.M // by dotted path
}

// The values in what an app wants that are not known beforehand.
type (
	anyDate     struct{}
	anyText     struct{}
	anyObjectID struct{}
	missing     struct{}            // the field must not be there
	atCreation  struct{ value any } // missing if the app has made the document
)

const membersFile = `
collection: members
key: clerkId
fields:
  name: full_name
  image: image_url
  email: {from: primary_email, absent: null}
  phone: {from: primary_phone, absent: none}
  plan: public_metadata.plan
  role: {from: public_metadata.role, absent: member, when: create}
  isActive: {value: true, when: create}
  createdAt: {from: now, when: create}
  updatedAt: {from: now}
`

const peopleFile = `
collection: people
key: auth_id
state: _sync
fields:
  email: primary_email
  handle: {from: username, unique: true}
  profile.name: {from: full_name, absent: ""}
  profile.first: first_name
  profile.avatar: image_url
  blocked: banned
  joinedAt: created_at
`

// Apps returns the apps that the proofs run with. The first has the map that is used without a file.
func Apps(t testing.TB) []App {
	t.Helper()
	fromFile := func(text string) *mapping.Map {
		m, err := mapping.Parse("clerksync.yaml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	return []App{
		DefaultApp(),
		{
			Collection: "members", FullName: "name", Extra: true, File: membersFile, Map: fromFile(membersFile),
			want: func(u *user) bson.M {
				return u.with("clerk", bson.M{
					"_id": anyObjectID{}, "clerkId": u.h.UserID, "name": orMissing(u.fullName()), "image": u.image,
					"email": orNull(u.email()), "phone": cmp.Or(u.phone, "none"), "plan": orMissing(u.plan),
					"role": atCreation{cmp.Or(u.role, "member")}, "isActive": atCreation{true},
					"createdAt": atCreation{anyDate{}}, "updatedAt": anyDate{}, "clerk.map": anyText{},
				})
			},
		},
		{
			Collection: "people", Names: "handle", FullName: "profile.name", UniqueEmail: true, Extra: true,
			File: peopleFile, Map: fromFile(peopleFile),
			want: func(u *user) bson.M {
				return u.with("_sync", bson.M{
					"_id": anyObjectID{}, "auth_id": u.h.UserID, "email": orMissing(u.email()), "handle": anyText{},
					"profile.name": u.fullName(), "profile.first": orMissing(strings.TrimSpace(u.first)),
					"profile.avatar": u.image, "blocked": u.banned, "joinedAt": bson.DateTime(u.created),
					"_sync.map": anyText{},
				})
			},
		},
	}
}

// DefaultApp returns the app with the map that is used without a file.
func DefaultApp() App {
	return App{
		Collection: "users", Names: "username", FullName: "full_name", Map: mapping.Default(),
		want: func(u *user) bson.M {
			return u.with("clerk", bson.M{
				"_id": u.h.UserID, "email": orMissing(u.email()), "full_name": u.fullName(),
				"profile_picture": u.image, "username": anyText{},
			})
		},
	}
}

// EachApp runs the test with the first of Apps, and with the others too if MapsEnv says so.
func EachApp(t *testing.T, f func(t *testing.T, app App)) {
	t.Helper()
	extra := os.Getenv(MapsEnv)
	if extra != "" && extra != "all" {
		t.Fatalf(`%s=%s: want "all" or nothing`, MapsEnv, extra)
	}
	for _, app := range Apps(t) {
		if !app.Extra || extra != "" {
			t.Run(app.Collection, func(t *testing.T) { f(t, app) })
		}
	}
}

// Rounds returns how many of n random rounds a test is to make: a tenth with an extra app, a twentieth with -short, and
// a fifth of that with the race detector, which makes each seven times as long.
func (a App) Rounds(n int) int {
	if a.Extra {
		n /= 10
	}
	if testing.Short() {
		n /= 20
	}
	if testing.Short() && Race {
		n /= 5
	}
	return max(n, 1)
}

// Users returns the users of the app as the store writes them, ready for the first write.
func (a App) Users(t testing.TB, db *database.DB) *store.Users {
	t.Helper()
	users := store.NewUsers(db, a.Map)
	if err := users.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	return users
}

// Prepare makes the app's collection in the database, with the app's own index.
func (a App) Prepare(t testing.TB, db *database.DB) {
	t.Helper()
	ctx := t.Context()
	if err := errors.Join(makeCollection(ctx, db, a.Collection), db.IndexIDs(ctx)); err != nil {
		t.Fatal(err)
	}
	if !a.UniqueEmail {
		return
	}
	opts := options.Index().SetUnique(true)
	if !db.OneProcess { // FerretDB v1 has no partial indexes; its unique ones leave out what is missing
		opts.SetPartialFilterExpression(bson.D{{Key: "email", Value: bson.D{{Key: "$type", Value: "string"}}}})
	}
	if _, err := db.Database.Collection(a.Collection).Indexes().CreateOne(ctx, mongo.IndexModel{
		Keys: bson.D{{Key: "email", Value: 1}}, Options: opts,
	}); err != nil {
		t.Fatal(err)
	}
}

// Own returns a document that the app itself has made for a user.
func (a App) Own(userID string, fields ...bson.E) bson.D {
	return append(bson.D{{Key: a.Map.Key, Value: userID}}, fields...)
}

// Find returns the user's document in the database, or nil.
func (a App) Find(ctx context.Context, db *database.DB, userID string) (Doc, error) {
	var d bson.D
	err := db.Database.Collection(a.Collection).FindOne(ctx, bson.D{{Key: a.Map.Key, Value: userID}}).Decode(&d)
	if errors.Is(err, mongo.ErrNoDocuments) {
		return nil, nil
	}
	return Doc(d), err
}

// Doc is a document as it lies in the app's collection.
type Doc bson.D

// Get returns what is at a dotted path, or nil.
func (d Doc) Get(path string) any { return get(bson.D(d), path) }

// Text returns the text at a dotted path, or "".
func (d Doc) Text(path string) string {
	s, _ := d.Get(path).(string)
	return s
}

// Without returns the document without what is at a dotted path.
func (d Doc) Without(path string) Doc { return Doc(unset(bson.D(d), path)) }

// flat returns the values of a document by dotted path.
func flat(d bson.D) bson.M {
	m := bson.M{}
	for _, e := range d {
		sub, nested := e.Value.(bson.D)
		if !nested {
			m[e.Key] = e.Value
			continue
		}
		for path, v := range flat(sub) {
			m[e.Key+"."+path] = v
		}
	}
	return m
}

// expect returns what a document must be. Of what is not known beforehand it takes the document's own value, if that is
// of the right kind. linked says that the app has made the document.
func expect(want, got bson.M, linked bool) bson.M {
	is := bson.M{}
	for path, w := range want {
		if c, ok := w.(atCreation); ok {
			if w = c.value; linked {
				w = missing{}
			}
		}
		ok := false
		switch w.(type) {
		case missing:
			continue
		case anyDate:
			d, isDate := got[path].(bson.DateTime)
			ok = isDate && d > 0
		case anyText:
			s, isText := got[path].(string)
			ok = isText && s != ""
		case anyObjectID:
			id, isID := got[path].(bson.ObjectID)
			ok = isID && !id.IsZero()
		}
		if is[path] = w; ok {
			is[path] = got[path]
		}
	}
	return is
}

func orMissing(s string) any {
	if s == "" {
		return missing{}
	}
	return s
}

// with adds what clerksync keeps for itself, in the field state.
func (u *user) with(state string, doc bson.M) bson.M {
	e, _ := u.address()
	own := bson.M{
		"version": anyText{}, "created_at": bson.DateTime(u.created), "synced_at": anyDate{}, "banned": u.banned,
		"locked": u.locked, "deprovisioned": u.deprovisioned, "email_verified": e.verified,
	}
	for name, v := range own {
		doc[state+"."+name] = v
	}
	return doc
}
