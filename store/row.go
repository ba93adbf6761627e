package store

import (
	"fmt"
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

func newRow(u clerk.User, version string) Row {
	return Row{
		ID:             u.ID,
		Email:          u.Email,
		FullName:       u.FullName,
		ProfilePicture: u.ImageURL,
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
	text := func(key string, optional bool) string {
		v, err := raw.LookupErr(key)
		s, ok := v.StringValueOK()
		if err == nil && !ok || err != nil && !optional {
			f.odd = append(f.odd, key)
		}
		return s
	}
	f.Email = text("email", true)
	f.FullName, f.ProfilePicture, f.Username = text("full_name", false), text("profile_picture", false), text("username", false)

	value, err := raw.LookupErr("clerk")
	state, isObject := value.DocumentOK()
	f.whole = err == nil && !isObject
	version, _ := state.LookupErr("version")
	f.Clerk.Version, _ = version.StringValueOK()
	f.guard = database.Guard(raw, "clerk.version")
	if f.whole {
		f.guard = database.Guard(raw, "clerk")
	}
	if !isVersion(f.Clerk.Version) {
		f.Clerk.Version = ""
	}
	flag := func(key string) bool {
		b, ok := state.Lookup(key).BooleanOK()
		if !ok {
			f.odd = append(f.odd, "clerk."+key)
		}
		return b
	}
	f.Clerk.Banned, f.Clerk.Locked = flag("banned"), flag("locked")
	f.Clerk.Deprovisioned, f.Clerk.EmailVerified = flag("deprovisioned"), flag("email_verified")
	date := func(key string) time.Time {
		v, err := state.LookupErr(key)
		t, ok := v.TimeOK()
		if err != nil {
			return time.Time{}
		}
		if !ok {
			f.odd = append(f.odd, "clerk."+key)
			return time.Time{}
		}
		return t.UTC()
	}
	f.Clerk.CreatedAt, f.Clerk.SyncedAt = date("created_at"), date("synced_at")
	return f
}

// changes is the update that makes a row of f. It touches only our own fields.
func (f found) changes(r Row) bson.D {
	set := bson.D{
		{Key: "full_name", Value: r.FullName},
		{Key: "profile_picture", Value: r.ProfilePicture},
		{Key: "username", Value: r.Username},
	}
	var unset bson.D
	put := func(key string, v any, absent bool) {
		if absent {
			unset = append(unset, bson.E{Key: key, Value: ""})
		} else {
			set = append(set, bson.E{Key: key, Value: v})
		}
	}
	put("email", r.Email, r.Email == "")
	if f.whole {
		set = append(set, bson.E{Key: "clerk", Value: r.Clerk})
	} else { // what the app keeps in it stays
		c := r.Clerk
		put("clerk.version", c.Version, false)
		put("clerk.created_at", c.CreatedAt, c.CreatedAt.IsZero())
		put("clerk.synced_at", c.SyncedAt, false)
		put("clerk.banned", c.Banned, false)
		put("clerk.locked", c.Locked, false)
		put("clerk.deprovisioned", c.Deprovisioned, false)
		put("clerk.email_verified", c.EmailVerified, false)
	}
	update := bson.D{{Key: "$set", Value: set}}
	if len(unset) > 0 {
		update = append(update, bson.E{Key: "$unset", Value: unset})
	}
	return update
}

// same tells whether a row has the values of r already; when each was written does not matter.
func (f found) same(r Row) bool {
	was := f.Row
	if len(f.odd) > 0 || !was.Clerk.CreatedAt.Equal(r.Clerk.CreatedAt) {
		return false
	}
	was.Clerk.Version, was.Clerk.CreatedAt, was.Clerk.SyncedAt = r.Clerk.Version, r.Clerk.CreatedAt, r.Clerk.SyncedAt
	return was == r
}

// isOurs tells whether the row is the one that a write has made.
func (f found) isOurs(r Row) bool {
	return f.there && f.Clerk.Version == r.Clerk.Version && f.Clerk.SyncedAt.Equal(r.Clerk.SyncedAt)
}

// Field is one that differs.
type Field struct{ Name, Row, Clerk string }

// fields returns in which fields the row differs from r.
func (f found) fields(r Row) []Field {
	var all []Field
	odd := map[string]bool{}
	for _, name := range f.odd {
		odd[name] = true
	}
	add := func(name string, row, clerk any) {
		switch {
		case odd[name]:
			all = append(all, Field{name, "(missing, or of another type)", fmt.Sprint(clerk)})
		case row != clerk:
			all = append(all, Field{name, fmt.Sprint(row), fmt.Sprint(clerk)})
		}
	}
	was := f.Row
	add("email", was.Email, r.Email)
	add("full_name", was.FullName, r.FullName)
	add("profile_picture", was.ProfilePicture, r.ProfilePicture)
	add("username", was.Username, r.Username)
	add("clerk.created_at", was.Clerk.CreatedAt, r.Clerk.CreatedAt)
	add("clerk.synced_at", true, true)
	add("clerk.banned", was.Clerk.Banned, r.Clerk.Banned)
	add("clerk.locked", was.Clerk.Locked, r.Clerk.Locked)
	add("clerk.deprovisioned", was.Clerk.Deprovisioned, r.Clerk.Deprovisioned)
	add("clerk.email_verified", was.Clerk.EmailVerified, r.Clerk.EmailVerified)
	return all
}
