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

// Row has the fields that clerksync writes to a user's row in the collection users. All other fields of the row belong
// to the app.
type Row struct {
	ID             string `bson:"_id"`
	Email          string `bson:"email,omitempty"` // absent for a phone-only user
	FullName       string `bson:"full_name"`
	ProfilePicture string `bson:"profile_picture"`
	Username       string `bson:"username"`
	Clerk          State  `bson:"clerk"`
}

// State has what clerksync itself needs, and Clerk's flags.
type State struct {
	Version       string    `bson:"version"` // see Write.version; "" if clerksync never wrote the row
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

// field is a field of the row that clerksync writes.
type field struct {
	name     string
	value    any // a pointer
	is       bson.Type
	optional bool // a row that clerksync wrote may lack it
}

// fields returns all fields that clerksync writes, except _id.
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

func (f field) get() any { return reflect.ValueOf(f.value).Elem().Interface() }

// found is a row as it was read from the collection.
type found struct {
	Row
	there bool
	// odd are the fields that are missing or hold a value of another type, because the app or one of its tools changed
	// them. They always count as different from what Clerk says.
	odd []string
	// guard is the part of an update's filter that says that the version is still exactly the value that was read.
	guard bson.D
	// whole says that an update must replace the whole field clerk, because it is not an object.
	whole bool
}

// readRow reads the fields that clerksync writes, and no others. It never fails, so that one damaged row blocks neither
// its own user nor the other rows: a value of another type counts as absent, and so does a version that does not have
// the form of one.
func readRow(id string, raw bson.Raw) found {
	f := found{Row: Row{ID: id}, there: true}
	for _, own := range f.fields() {
		v, missing := raw.LookupErr(strings.Split(own.name, ".")...)
		// A version of another type counts as the oldest, see below, and not as odd.
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

// changes returns the update that turns f into r. It touches only the fields that clerksync writes.
func (f found) changes(r Row) bson.D {
	var set, unset bson.D
	for _, own := range r.fields() {
		switch value := own.get(); {
		case f.whole && strings.HasPrefix(own.name, "clerk."): // set below, as a whole
		case own.optional && reflect.ValueOf(value).IsZero():
			unset = append(unset, bson.E{Key: own.name, Value: ""})
		default: // one by one, so that fields of the app in clerk stay
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

// isOurs tells whether the row is still as this process wrote it in r.
func (f found) isOurs(r Row) bool {
	return f.Clerk.Version == r.Clerk.Version && f.Clerk.SyncedAt.Equal(r.Clerk.SyncedAt)
}

// Field is a field whose value in the row differs from Clerk's.
type Field struct{ Name, Row, Clerk string }

// differs returns the fields in which the row differs from r. It ignores the version and the time of the sync.
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
