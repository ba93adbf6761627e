package mapping

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"clerksync/clerk"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// This file is what store asks of a map: what the fields of a row must hold, how a row differs from that, and which
// update makes it so.

// Own is a field of clerksync's own state, which lies in the field that Map.State names.
type Own struct {
	Name     string
	Kind     Kind
	Optional bool // a row that clerksync wrote may lack it
	Free     bool // its value is never a difference, but a value of another type is
	Lenient  bool // a value of another type is no difference either, and stays if the field must not be there
}

// Fields are the fields that clerksync writes to a row: those of a map, and those of its own state. They are made once
// from a map, so that no write looks for a source or cuts a path. They are safe for concurrent use.
type Fields struct {
	// Username is the path of the field with the unique user name, "" if the map has none.
	Username string
	// Hash differs for maps with different fields. It is "" for the fields of the default map. Fields that are written
	// only when the row is made do not count, because no later write changes them.
	Hash string

	all   []target // those of the map, and from place own on those of the state
	own   int
	key   []string // the path of the key; nil if it is _id
	state []string // the path of the state
}

// target is a field of the row.
type target struct {
	Field
	name     string   // of a field of the state
	keys     []string // the parts of its path
	kind     Kind
	optional bool // the row may lack it
	compared bool // another value is a difference
	strict   bool // a value of another type is a difference
	get      func(*user) (any, error)
}

// Values are what the fields of one row must hold.
type Values []any

// unset is the value of a field that must not be there.
type unset struct{}

// Difference is a field whose value in the row differs from Clerk's.
type Difference struct{ Name, Row, Clerk string }

// Compile returns the fields of a map and of clerksync's own state.
func Compile(m *Map, own []Own) *Fields {
	f := &Fields{
		Username: m.Username(), Hash: hash(m.Fields), own: len(m.Fields), state: strings.Split(m.State, "."),
	}
	if m.Key != IDField {
		f.key = strings.Split(m.Key, ".")
	}
	if f.Hash == hash(Default().Fields) {
		f.Hash = ""
	}
	for _, field := range m.Fields {
		t := target{
			Field: field, keys: strings.Split(field.Path, "."), kind: Any,
			optional: field.Absent == Absent{} && !field.Unique, compared: field.Compared(), strict: field.Compared(),
		}
		if s, ok := LookUp(field.From); ok {
			t.kind, t.get = s.Kind, s.value
		}
		f.all = append(f.all, t)
	}
	for _, o := range own {
		t := target{name: o.Name, kind: o.Kind, optional: o.Optional, compared: !o.Free, strict: !o.Lenient}
		t.Path = m.State + "." + o.Name
		t.keys = strings.Split(t.Path, ".")
		f.all = append(f.all, t)
	}
	return f
}

func hash(fields []Field) string {
	var lines []string
	for _, f := range fields {
		if f.Create {
			continue
		}
		absent := fmt.Sprint(f.Absent.Null)
		if f.Absent.Text != nil {
			absent = fmt.Sprintf("%q", *f.Absent.Text)
		}
		value, _ := bson.Marshal(bson.D{{Key: "", Value: f.Value}}) // "1" is another constant than 1
		lines = append(lines, fmt.Sprintf("%q %q %q %s %v", f.Path, f.From, value, absent, f.Unique))
	}
	slices.Sort(lines)
	sum := sha256.Sum256([]byte(strings.Join(lines, "\n")))
	return hex.EncodeToString(sum[:4])
}

// Values returns what the fields of a user's row must hold. username is for the field with the unique user name, now is
// the time of the write, and insert says that there is no row yet. own are the values of the state's fields, nil for
// one that must not be there. The error says which source has something that no row can hold, without quoting it.
func (f *Fields) Values(u clerk.User, username string, now time.Time, insert bool, own ...any) (Values, error) {
	values := make(Values, len(f.all))
	from := &user{User: u, now: now}
	for i := range f.all[:f.own] {
		t := &f.all[i]
		switch {
		case t.Unique:
			values[i] = username
		case t.Create && !insert:
			values[i] = unset{} // Update leaves it alone
		case t.get == nil:
			values[i] = t.Value
		default:
			v, err := t.get(from)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", t.Path, err)
			}
			values[i] = t.orAbsent(v)
		}
	}
	for i, v := range own {
		if v == nil {
			v = unset{}
		}
		values[f.own+i] = v
	}
	return values, nil
}

// orAbsent returns v, or what is written if v is nil because Clerk's user does not have it.
func (t *target) orAbsent(v any) any {
	switch {
	case v != nil || t.Absent.Null:
		return v
	case t.Absent.Text != nil:
		return *t.Absent.Text
	}
	return unset{}
}

// Rename puts another user name into the values.
func (f *Fields) Rename(values Values, username string) {
	for i := range f.all[:f.own] {
		if f.all[i].Unique {
			values[i] = username
		}
	}
}

// New returns the document of a new row. _id is the user's id, unless the map has another key for it: then _id is a new
// ObjectID.
func (f *Fields) New(id string, values Values) bson.D {
	doc := append(make(bson.D, 0, len(f.all)+2), bson.E{Key: IDField, Value: id})
	if f.key != nil {
		doc[0].Value = bson.NewObjectID()
		doc = put(doc, f.key, id)
	}
	for i := range f.all[:f.own] {
		if values[i] != (unset{}) {
			doc = put(doc, f.all[i].keys, values[i])
		}
	}
	state := make(bson.D, 0, len(f.all)-f.own)
	for i := f.own; i < len(f.all); i++ {
		if values[i] != (unset{}) {
			state = append(state, bson.E{Key: f.all[i].name, Value: values[i]})
		}
	}
	return put(doc, f.state, state)
}

// Read returns what a row holds in _id, in its key and in the fields that clerksync writes, and nothing else.
func (f *Fields) Read(row bson.Raw) bson.D {
	doc := bson.D{}
	for _, keys := range [][]string{{IDField}, f.key} {
		if v, there := lookup(row, keys); there {
			doc = put(doc, keys, v)
		}
	}
	for i := range f.all {
		if v, there := lookup(row, f.all[i].keys); there {
			doc = put(doc, f.all[i].keys, v)
		}
	}
	return doc
}

// put sets the value at a path in a document, and makes the objects on the way to it.
func put(doc bson.D, keys []string, v any) bson.D {
	i := slices.IndexFunc(doc, func(e bson.E) bool { return e.Key == keys[0] })
	if i < 0 {
		i, doc = len(doc), append(doc, bson.E{Key: keys[0]})
	}
	if len(keys) > 1 {
		inner, _ := doc[i].Value.(bson.D)
		v = put(inner, keys[1:], v)
	}
	doc[i].Value = v
	return doc
}

// lookup returns the value at a path that leads through objects alone.
func lookup(row bson.Raw, keys []string) (v bson.RawValue, there bool) {
	for i := range keys {
		var err error
		if v, err = row.LookupErr(keys[i : i+1]...); err != nil {
			return bson.RawValue{}, false
		}
		if i < len(keys)-1 {
			if v.Type != bson.TypeEmbeddedDocument {
				return bson.RawValue{}, false
			}
			row = v.Document()
		}
	}
	return v, len(keys) > 0
}

// Update returns the update that makes a row hold the values. It touches only the fields that clerksync writes. changes
// says that the row differs, see Differences: only then the fields from "now" get the time.
//
// nulls are the paths that must still be null when the update is done, because it replaces them by objects. The error
// names the path of a value that is no object, so that the row has no place for a field. The state replaces anything.
func (f *Fields) Update(row bson.Raw, values Values, changes bool) (update bson.D, nulls []string, _ error) {
	var set, remove bson.D
	for i := range f.all {
		t := &f.all[i]
		if t.Create || t.From == Now && !changes {
			continue
		}
		v := values[i]
		if v == (unset{}) {
			if was, there := lookup(row, t.keys); there && (t.strict || t.fits(was)) {
				remove = append(remove, bson.E{Key: t.Path, Value: ""})
			}
			continue
		}
		n, kind := blocked(row, t.keys)
		switch parent := strings.Join(t.keys[:n], "."); {
		case n == 0: // the fields are set one by one, so that fields of the app beside them stay
			set = append(set, bson.E{Key: t.Path, Value: v})
		case kind == bson.TypeNull || i >= f.own && n == len(f.state):
			set = put(set, append([]string{parent}, t.keys[n:]...), v)
			if kind == bson.TypeNull && !slices.Contains(nulls, parent) {
				nulls = append(nulls, parent)
			}
		default:
			return nil, nil, fmt.Errorf("%s is of type %s, so %s cannot be set: make it an object, or remove it",
				parent, kind, t.Path)
		}
	}
	update = bson.D{{Key: "$set", Value: set}}
	if len(remove) > 0 {
		update = append(update, bson.E{Key: "$unset", Value: remove})
	}
	return update, nulls, nil
}

// blocked looks for the first parent on a path that is there and is no object. It returns how many parts the parent's
// own path has, and its type. n is 0 if there is no such parent.
func blocked(row bson.Raw, keys []string) (n int, kind bson.Type) {
	for i := range keys[:len(keys)-1] {
		v, err := row.LookupErr(keys[i : i+1]...)
		switch {
		case err != nil:
			return 0, 0
		case v.Type != bson.TypeEmbeddedDocument:
			return i + 1, v.Type
		}
		row = v.Document()
	}
	return 0, 0
}
