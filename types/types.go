// Package types prints the documents that clerksync writes as code for the app: a mongoose model, or TypeScript.
package types

import (
	"encoding/json"
	"strconv"
	"strings"
	"unicode"

	"clerksync/store/mapping"
)

// node is a field of a document.
type node struct {
	name   string
	kind   mapping.Kind
	fields []*node // of an object
	about  string
	// What a document may be that clerksync has written. The app's own documents may be anything.
	absent, null bool
	text         bool // it may be a text instead
	once         bool // clerksync writes it only into a new document
}

// object is the kind of a field with fields.
const object mapping.Kind = "object"

// document returns what clerksync writes to a document: the key, the mapped fields, and its own state.
func document(m *mapping.Map) *node {
	doc := &node{kind: object}
	doc.add(m.Key, node{kind: mapping.Text, about: "Clerk's id of the user"})
	for _, f := range m.Fields {
		doc.add(f.Path, fromField(f))
	}
	state := []node{ // docs/your-app.md says more
		{name: "version", kind: mapping.Text, about: "the order of Clerk's changes"},
		{name: "map", kind: mapping.Text, absent: true, about: "the map that it was written by"},
		{name: "created_at", kind: mapping.Date, absent: true, about: "when the user signed up at Clerk"},
		{name: "synced_at", kind: mapping.Date, about: "when clerksync last wrote the document"},
		{name: "banned", kind: mapping.Bool, about: "banned at Clerk: check it where you let users in"},
		{name: "locked", kind: mapping.Bool, about: "locked at Clerk, after failed sign-ins for example"},
		{name: "deprovisioned", kind: mapping.Bool, about: "removed by a directory (SCIM): check it likewise"},
		{name: "email_verified", kind: mapping.Bool, about: "the primary e-mail address is verified"},
	}
	for _, n := range state {
		doc.add(m.State+"."+n.name, n)
	}
	return doc
}

func fromField(f mapping.Field) node {
	n := node{kind: f.Kind(), null: f.Value == nil, absent: f.Create, once: f.Create, about: "a constant"}
	if source, ok := mapping.LookUp(f.From); ok {
		n.null, n.about = false, source.Note
		if source.Optional && !f.Unique {
			n.null = f.Absent.Null
			n.text = f.Absent.Text != nil && source.Kind == mapping.Date
			n.absent = f.Create || !f.Absent.Null && f.Absent.Text == nil
		}
	}
	switch {
	case f.Unique:
		n.about = "unique, and never empty"
	case f.From == mapping.Now && f.Create:
		n.about = "when clerksync has made the document"
	case f.From == mapping.Now:
		n.about = "when clerksync has last changed the document"
	case n.kind == mapping.Any && f.From != "":
		n.about = f.From + " of Clerk's user"
	}
	if f.Create { // a document that the app has made does not get it
		n.about += "; set once by clerksync, then yours"
	}
	return n
}

// add puts a field at a dotted path below n.
func (n *node) add(path string, field node) {
	name, rest, deep := strings.Cut(path, ".")
	if !deep {
		field.name = name
		n.fields = append(n.fields, &field)
		return
	}
	for _, f := range n.fields {
		if f.name == name {
			f.add(rest, field)
			return
		}
	}
	parent := &node{name: name, kind: object}
	parent.add(rest, field)
	n.fields = append(n.fields, parent)
}

// mayLack tells whether a document that clerksync has written may lack n.
func (n *node) mayLack() bool {
	for _, f := range n.fields {
		if !f.mayLack() {
			return false
		}
	}
	return n.absent || n.kind == object
}

// comment returns a text for a comment of one line. It may hold a path into the metadata, which may hold anything.
func comment(s string) string {
	s = strings.ReplaceAll(s, "*/", "* /")
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		s = strconv.QuoteToASCII(s)
	}
	return s
}

// property returns the name of a field as JavaScript has it before a colon.
func property(name string) string {
	for i, r := range name {
		letter := r == '_' || r == '$' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
		if !letter && (i == 0 || r < '0' || r > '9') {
			return text(name)
		}
	}
	return name
}

// text returns a text as JavaScript has it.
func text(s string) string {
	b, _ := json.Marshal(s) // a string always can be
	return string(b)
}
