package testenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"clerksync/store/database"
	"clerksync/store/mapping"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// MapsEnv is the environment variable that has the proofs run with each of Apps, if it is "all". Else they run with the
// first alone.
const MapsEnv = "CLERKSYNC_TEST_MAPS"

// App is an app with its collection. How a user's document must be in the end is written here by hand for each app,
// because a test that asked the code which it tests would not find what is wrong with it.
type App struct {
	Name string
	Map  *mapping.Map
	// Names is the field with a user name of the row's own, "" if there is none.
	Names string
	// UniqueEmail says that a unique index of the app's does not let two documents have one address. Addresses go from
	// one user to another then.
	UniqueEmail bool

	want func(u *user) bson.M // by dotted path
}

// The values in what an app wants that are no values of one kind only.
type (
	anyDate     struct{}
	anyText     struct{}
	anyObjectID struct{}
	ownName     struct{} // the row's own user name
	atCreation  struct{ value any }
)

// Apps returns the apps that the proofs run with: the first has the map that is used without a file.
func Apps() []App {
	text := func(s string) mapping.Absent { return mapping.Absent{Text: &s} }
	return []App{
		{
			Name: "users", Map: mapping.Default(), Names: "username",
			want: func(u *user) bson.M {
				return u.with("clerk", bson.M{
					"_id": u.h.UserID, "email": orMissing(u.email()), "full_name": u.fullName(),
					"profile_picture": u.image, "username": ownName{},
				})
			},
		},
		{
			Name: "members", Map: &mapping.Map{
				Collection: "members", Key: "clerkId", State: "clerk", Fields: []mapping.Field{
					{Path: "name", From: "full_name"},
					{Path: "image", From: "image_url"},
					{Path: "email", From: "primary_email", Absent: mapping.Absent{Null: true}},
					{Path: "phone", From: "primary_phone", Absent: text("none")},
					{Path: "plan", From: "public_metadata.plan"},
					{Path: "role", From: "public_metadata.role", Absent: text("member"), Create: true},
					{Path: "isActive", Value: true, Create: true},
					{Path: "createdAt", From: mapping.Now, Create: true},
					{Path: "updatedAt", From: mapping.Now},
				},
			},
			want: func(u *user) bson.M {
				return u.with("clerk", bson.M{
					"_id": anyObjectID{}, "clerkId": u.h.UserID, "name": orMissing(u.fullName()), "image": u.image,
					"email": orNull(u.email()), "phone": orText(u.phone, "none"), "plan": orMissing(u.plan),
					"role": atCreation{orText(u.role, "member")}, "isActive": atCreation{true},
					"createdAt": atCreation{anyDate{}}, "updatedAt": anyDate{}, "clerk.map": anyText{},
				})
			},
		},
		{
			Name: "people", Names: "handle", UniqueEmail: true, Map: &mapping.Map{
				Collection: "people", Key: "auth_id", State: "_sync", Fields: []mapping.Field{
					{Path: "email", From: "primary_email"},
					{Path: "handle", From: "username", Unique: true},
					{Path: "profile.firstName", From: "first_name"},
					{Path: "profile.lastName", From: "last_name", Absent: text("")},
					{Path: "profile.avatar", From: "image_url"},
					{Path: "blocked", From: "banned"},
					{Path: "joinedAt", From: "created_at"},
				},
			},
			want: func(u *user) bson.M {
				return u.with("_sync", bson.M{
					"_id": anyObjectID{}, "auth_id": u.h.UserID, "email": orMissing(u.email()), "handle": ownName{},
					"profile.firstName": orMissing(strings.TrimSpace(u.first)),
					"profile.lastName":  strings.TrimSpace(u.last), "profile.avatar": u.image, "blocked": u.banned,
					"joinedAt": bson.DateTime(u.created), "_sync.map": anyText{},
				})
			},
		},
	}
}

// EachApp runs the test with the app that has the map which is used without a file, and with the other apps too if
// MapsEnv says so. part of the rounds is what a test makes: those of the other apps are fewer.
func EachApp(t *testing.T, f func(t *testing.T, app App, rounds func(n int) int)) {
	t.Helper()
	apps := Apps()
	switch v := os.Getenv(MapsEnv); v {
	case "":
		apps = apps[:1]
	case "all":
	default:
		t.Fatalf(`%s=%s: want "all" or nothing`, MapsEnv, v)
	}
	for i, app := range apps {
		t.Run(app.Name, func(t *testing.T) {
			f(t, app, func(n int) int {
				if i > 0 {
					n = max(n/10, 1)
				}
				return n
			})
		})
	}
}

// Prepare makes the app's collection in the database, with the app's own index.
func (a App) Prepare(t testing.TB, db *database.DB) {
	t.Helper()
	ctx := t.Context()
	if err := errors.Join(makeCollection(ctx, db, a.Map.Collection), db.IndexIDs(ctx)); err != nil {
		t.Fatal(err)
	}
	if !a.UniqueEmail {
		return
	}
	opts := options.Index().SetUnique(true)
	if !db.OneProcess { // FerretDB v1 has no partial indexes; its unique ones leave out what is missing
		opts.SetPartialFilterExpression(bson.D{{Key: "email", Value: bson.D{{Key: "$type", Value: "string"}}}})
	}
	if _, err := db.Database.Collection(a.Map.Collection).Indexes().CreateOne(ctx, mongo.IndexModel{
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
	err := db.Database.Collection(a.Map.Collection).FindOne(ctx, bson.D{{Key: a.Map.Key, Value: userID}}).Decode(&d)
	if errors.Is(err, mongo.ErrNoDocuments) {
		return nil, nil
	}
	return Doc(d), err
}

// Doc is a document as it lies in the app's collection.
type Doc bson.D

// Text returns the text at a dotted path, or "".
func (d Doc) Text(path string) string {
	s, _ := get(bson.D(d), path).(string)
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

// expect returns what the document with these values must be. Where any value of a kind will do, it is the document's
// own.
func expect(want, got bson.M, linked bool) bson.M {
	is := bson.M{}
	for path, w := range want {
		if c, only := w.(atCreation); only {
			if linked {
				continue
			}
			w = c.value
		}
		g, there := got[path]
		var ok bool
		switch w.(type) {
		case anyDate:
			d, isDate := g.(bson.DateTime)
			ok = isDate && d > 0
		case anyText, ownName:
			s, isText := g.(string)
			ok = isText && s != ""
		case anyObjectID:
			id, isID := g.(bson.ObjectID)
			ok = isID && !id.IsZero()
		case missing:
			continue
		default:
			is[path] = w
			continue
		}
		if is[path] = fmt.Sprintf("%T", w); ok && there {
			is[path] = g
		}
	}
	return is
}

type missing struct{}

func orMissing(s string) any {
	if s == "" {
		return missing{}
	}
	return s
}

func orText(s, absent string) string {
	if s == "" {
		return absent
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
