// Package mapping says which fields of the app's documents clerksync writes, and what of Clerk's user it writes there.
// Without a file it is the default map, docs/mapping.md.
package mapping

// Map describes the app's collection. A Map is not changed after it is made.
type Map struct {
	File       string // where it was read from, "" for the default map
	Collection string
	Key        string  // the field that holds Clerk's id of the user: "_id", or a path such as "clerkId"
	State      string  // the field in which clerksync keeps its own state
	Fields     []Field // in the order of the file
}

// Field is a field of the app's documents that clerksync writes.
type Field struct {
	Path   string // dotted, such as "profile.name"
	From   string // the name of a source, see Sources; "" if Value is written
	Value  any    // a constant that bson can marshal
	Absent Absent // what is written if Clerk's user has no such value
	Create bool   // written only when the row is made
	Unique bool   // only with the source username: the field gets a user name that no other row has
	Line   int    // where it is in the file, for messages; 0 in the default map
}

// Absent is what a field gets if Clerk's user does not have the value. The zero Absent removes the field.
type Absent struct {
	Null bool
	Text *string
}

// IDField is the field that identifies a document in MongoDB.
const IDField = "_id"

// Default returns the map that is used without a file.
func Default() *Map {
	return &Map{
		Collection: "users",
		Key:        IDField,
		State:      "clerk",
		Fields: []Field{
			{Path: "email", From: "primary_email"},
			{Path: "full_name", From: "full_name", Absent: Absent{Text: new("")}},
			{Path: "profile_picture", From: "image_url", Absent: Absent{Text: new("")}},
			{Path: "username", From: "username", Unique: true},
		},
	}
}

// Username returns the path of the field with the unique user name, or "" if the map has none.
func (m *Map) Username() string {
	for _, f := range m.Fields {
		if f.Unique {
			return f.Path
		}
	}
	return ""
}

// Compared tells whether reconcile compares the field: it holds a value of Clerk's that is kept up to date.
func (f Field) Compared() bool { return f.From != "" && f.From != Now && !f.Create }
