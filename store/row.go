package store

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"clerksync/clerk"
	"clerksync/store/database"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Row is what this project keeps of a user in the collection users. Whatever else is in the row is the app's.
type Row struct {
	ID             string `bson:"_id"`
	Email          string `bson:"email,omitempty"` // absent for a phone-only user
	FullName       string `bson:"full_name"`
	ProfilePicture string `bson:"profile_picture"`
	Username       string `bson:"username"`
	Clerk          State  `bson:"clerk"`
}

// State is what the sync itself needs, and Clerk's flags.
type State struct {
	Version       string    `bson:"version"` // see Write.version; "" of a row that was never written by us
	CreatedAt     time.Time `bson:"created_at,omitempty"`
	SyncedAt      time.Time `bson:"synced_at"`
	Banned        bool      `bson:"banned"`
	Locked        bool      `bson:"locked"`
	Deprovisioned bool      `bson:"deprovisioned"`
	EmailVerified bool      `bson:"email_verified"`
}

func newRow(u clerk.User, username, version string) Row {
	return Row{
		ID:             u.ID,
		Email:          u.Email,
		FullName:       u.FullName,
		ProfilePicture: u.ImageURL,
		Username:       username,
		Clerk: State{
			Version:       version,
			CreatedAt:     u.CreatedAt.Time(),
			SyncedAt:      time.Now().UTC().Truncate(time.Millisecond),
			Banned:        u.Banned,
			Locked:        u.Locked,
			Deprovisioned: u.Deprovisioned,
			EmailVerified: u.EmailVerified,
		},
	}
}

// field is one of ours in a row.
type field struct {
	name     string
	value    any // a pointer
	is       bson.Type
	optional bool // a row of ours may be without it
}

// fields are all of ours, but for the _id.
func (r *Row) fields() []field {
	return []field{
		{"email", &r.Email, bson.TypeString, true},
		{"full_name", &r.FullName, bson.TypeString, false},
		{"profile_picture", &r.ProfilePicture, bson.TypeString, false},
		{"username", &r.Username, bson.TypeString, false},
		{"clerk.version", &r.Clerk.Version, bson.TypeString, true},
		{"clerk.created_at", &r.Clerk.CreatedAt, bson.TypeDateTime, true},
		{"clerk.synced_at", &r.Clerk.SyncedAt, bson.TypeDateTime, true},
		{"clerk.banned", &r.Clerk.Banned, bson.TypeBoolean, false},
		{"clerk.locked", &r.Clerk.Locked, bson.TypeBoolean, false},
		{"clerk.deprovisioned", &r.Clerk.Deprovisioned, bson.TypeBoolean, false},
		{"clerk.email_verified", &r.Clerk.EmailVerified, bson.TypeBoolean, false},
	}
}

// get returns the value.
func (f field) get() any { return reflect.ValueOf(f.value).Elem().Interface() }

// found is a row as it is in the collection.
type found struct {
	Row
	there bool
	// odd are fields of ours that are not there or hold a value of another type: the app, or a tool of its, made them
	// so. They count as different from whatever Clerk says.
	odd []string
	// guard has to be in the filter of an update: the exact value that stood where the version is to be.
	guard bson.D
	// whole says that clerk is to be set as a whole, because it is no object.
	whole bool
}

// readRow reads our own fields of a row and no others. It never fails: what is of another type counts as absent, and so
// does a version that is not of our form, so that one odd row blocks neither its user nor the neighbours.
func readRow(id string, raw bson.Raw) found {
	f := found{Row: Row{ID: id}, there: true}
	for _, own := range f.fields() {
		v, missing := raw.LookupErr(strings.Split(own.name, ".")...)
		// What is no version counts as an old one.
		ok := v.Type == own.is && v.Unmarshal(own.value) == nil
		if !ok && (missing == nil || !own.optional) && own.name != "clerk.version" {
			f.odd = append(f.odd, own.name)
		}
	}
	f.guard = database.Guard(raw, "clerk.version")
	if value, err := raw.LookupErr("clerk"); err == nil && value.Type != bson.TypeEmbeddedDocument {
		f.whole, f.guard = true, database.Guard(raw, "clerk")
	}
	if !isVersion(f.Clerk.Version) {
		f.Clerk.Version = ""
	}
	return f
}

// changes is the update that makes a row of f. It touches only our own fields.
func (f found) changes(r Row) bson.D {
	var set, unset bson.D
	for _, own := range r.fields() {
		switch value := own.get(); {
		case f.whole && strings.HasPrefix(own.name, "clerk."): // below
		case own.optional && reflect.ValueOf(value).IsZero():
			unset = append(unset, bson.E{Key: own.name, Value: ""})
		default: // what the app keeps in clerk stays
			set = append(set, bson.E{Key: own.name, Value: value})
		}
	}
	if f.whole {
		set = append(set, bson.E{Key: "clerk", Value: r.Clerk})
	}
	update := bson.D{{Key: "$set", Value: set}}
	if len(unset) > 0 {
		update = append(update, bson.E{Key: "$unset", Value: unset})
	}
	return update
}

// isOurs tells whether the row is the one that a write has made.
func (f found) isOurs(r Row) bool {
	return f.Clerk.Version == r.Clerk.Version && f.Clerk.SyncedAt.Equal(r.Clerk.SyncedAt)
}

// Field is one that differs.
type Field struct{ Name, Row, Clerk string }

// differs returns in which fields the row differs from r; when each was written does not matter.
func (f found) differs(r Row) []Field {
	var all []Field
	was := f.fields()
	for i, own := range r.fields() {
		row, clerk := was[i].get(), own.get()
		switch at, isTime := row.(time.Time); {
		case slices.Contains(f.odd, own.name):
			row = "(missing, or of another type)"
		case own.name == "clerk.version" || own.name == "clerk.synced_at":
			continue
		case row == clerk || isTime && at.Equal(clerk.(time.Time)):
			continue
		}
		all = append(all, Field{own.name, fmt.Sprint(row), fmt.Sprint(clerk)})
	}
	return all
}
