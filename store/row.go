package store

import (
	"time"

	"clerksync/clerk"
	"clerksync/store/database"
	"clerksync/store/mapping"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Row is the row of a user.
type Row struct {
	ID string // Clerk's id of the user
	// Doc has what the document holds in _id, in its key and in the fields that clerksync writes, its own state among
	// them. What the app has added is left out.
	Doc   bson.D
	Clerk State
}

// Text returns the text in a field of the row, such as "profile.name", or "" if there is no text.
func (r Row) Text(path string) string {
	raw, err := bson.Marshal(r.Doc)
	if err != nil {
		return ""
	}
	return database.Text(raw, path)
}

// State is clerksync's own state in a row.
type State struct {
	Version       string    `bson:"version"` // see Write.version; "" if clerksync never wrote the row
	CreatedAt     time.Time `bson:"created_at,omitempty"`
	SyncedAt      time.Time `bson:"synced_at"`
	Banned        bool      `bson:"banned"`
	Locked        bool      `bson:"locked"`
	Deprovisioned bool      `bson:"deprovisioned"`
	EmailVerified bool      `bson:"email_verified"`
	Map           string    `bson:"map,omitempty"` // which fields were written, see mapping.Fields.Hash
}

func (s *Users) newState(u clerk.User, version string) State {
	return State{
		Version:       version,
		CreatedAt:     u.CreatedAt.Time(),
		SyncedAt:      time.Now().UTC().Truncate(time.Millisecond),
		Banned:        u.Banned,
		Locked:        u.Locked,
		Deprovisioned: u.Deprovisioned,
		EmailVerified: u.EmailVerified,
		Map:           s.fields.Hash,
	}
}

// ownFields returns the fields of State, in the order of State.values.
func ownFields() []mapping.Own {
	return []mapping.Own{
		// A version of another type counts as the oldest, see readState.
		{Name: "version", Kind: mapping.Text, Optional: true, Free: true, Lenient: true},
		{Name: "created_at", Kind: mapping.Date, Optional: true},
		{Name: "synced_at", Kind: mapping.Date, Optional: true, Free: true},
		{Name: "banned", Kind: mapping.Bool},
		{Name: "locked", Kind: mapping.Bool},
		{Name: "deprovisioned", Kind: mapping.Bool},
		{Name: "email_verified", Kind: mapping.Bool},
		{Name: "map", Kind: mapping.Text, Optional: true, Lenient: true}, // the app may have one of its own
	}
}

func (s State) values() []any {
	var created, hash any // nil means that the row must not have it
	if !s.CreatedAt.IsZero() {
		created = bson.NewDateTimeFromTime(s.CreatedAt)
	}
	if s.Map != "" {
		hash = s.Map
	}
	return []any{
		s.Version, created, bson.NewDateTimeFromTime(s.SyncedAt), s.Banned, s.Locked, s.Deprovisioned, s.EmailVerified,
		hash,
	}
}

// readState reads the state of a row. It never fails, so that one damaged row blocks neither its own user nor the other
// rows: a value of another type counts as absent, and so does a version that does not have the form of one.
func readState(v bson.RawValue) (s State) {
	doc, _ := v.DocumentOK()
	s.Version, _ = doc.Lookup("version").StringValueOK()
	s.CreatedAt, _ = doc.Lookup("created_at").TimeOK()
	s.SyncedAt, _ = doc.Lookup("synced_at").TimeOK()
	s.Banned, _ = doc.Lookup("banned").BooleanOK()
	s.Locked, _ = doc.Lookup("locked").BooleanOK()
	s.Deprovisioned, _ = doc.Lookup("deprovisioned").BooleanOK()
	s.EmailVerified, _ = doc.Lookup("email_verified").BooleanOK()
	s.Map, _ = doc.Lookup("map").StringValueOK()
	if !isVersion(s.Version) {
		s.Version = ""
	}
	s.CreatedAt, s.SyncedAt = s.CreatedAt.UTC(), s.SyncedAt.UTC()
	return s
}

// found is a row as it was read from the collection.
type found struct {
	there    bool
	raw      bson.Raw
	state    State
	username string // "" if the row has none, or if the map has no such field
	// guard is the part of an update's filter that says that the row is still the one that was read, with exactly the
	// version that it had.
	guard bson.D
}

// read reads what the write path needs of a row.
func (s *Users) read(raw bson.Raw) found {
	state := raw.Lookup(s.m.State)
	f := found{there: true, raw: raw, state: readState(state)}
	if s.fields.Username != "" {
		f.username = database.Text(raw, s.fields.Username)
	}
	version := s.m.State + ".version"
	if state.Type != 0 && state.Type != bson.TypeEmbeddedDocument { // an update replaces it as a whole
		version = s.m.State
	}
	if f.guard = database.Guard(raw, version); s.m.Key != mapping.IDField {
		f.guard = append(bson.D{{Key: mapping.IDField, Value: raw.Lookup(mapping.IDField)}}, f.guard...)
	}
	return f
}

// row returns the row for those outside.
func (s *Users) row(id string, f found) Row {
	return Row{ID: id, Doc: s.fields.Read(f.raw), Clerk: f.state}
}

// planned is what a row is to be.
type planned struct {
	values  mapping.Values
	state   State
	differs []Field // in which the row differs, besides the version and the time of the sync
}

// isOurs tells whether the row is still as this process wrote it in p.
func (f found) isOurs(p planned) bool {
	return f.state.Version == p.state.Version && f.state.SyncedAt.Equal(p.state.SyncedAt)
}

// Field is a field whose value in the row differs from Clerk's.
type Field = mapping.Difference
