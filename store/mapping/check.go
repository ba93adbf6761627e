package mapping

import (
	"fmt"
	"strings"
	"unicode"
)

// The functions below return what is wrong with a part of a map and what to do, as the end of a sentence that begins
// with the name of the part, or "" if nothing is wrong.

// maxCollection leaves room for the name of the database: MongoDB allows both together 255 bytes.
const maxCollection = 190

func checkCollection(name string) string {
	switch {
	case name == "":
		return "it is empty: name the app's collection of users"
	case strings.HasPrefix(name, "clerksync_"), strings.HasPrefix(name, "system."):
		return Quote(name) + " is not the app's: name the app's collection of users"
	case hidden(name) != "" && !strings.Contains(name, "\x00"):
		return hidden(name)
	case strings.ContainsAny(name, "$\x00"), strings.HasPrefix(name, "."), strings.HasSuffix(name, "."),
		len(name) > maxCollection:
		return Quote(name) + " is no name of a collection in MongoDB: take one without $, of at most 190 bytes, " +
			"that neither begins nor ends with a dot"
	}
	return ""
}

func checkKey(name string) string {
	if name == IDField {
		return ""
	}
	if s, ok := LookUp(name); ok && s.Name != "id" && s.Name != "external_id" {
		return name + " is what a field is made from, and not where Clerk's id is kept: " +
			"name the app's field that holds Clerk's id of the user, such as clerkId"
	}
	return checkTop(name)
}

func checkState(name string) string {
	if name == IDField {
		return "_id cannot hold it: name a field of its own, such as _clerk"
	}
	return checkTop(name)
}

// checkTop checks the name of a field at the top of a document.
func checkTop(name string) string {
	if strings.Contains(name, ".") {
		return Quote(name) + " lies inside another field: name a field of its own, without a dot"
	}
	return checkPath(name)
}

// maxSteps is how deep a field may lie, so that metadata below it stays within MongoDB's 100 levels.
const maxSteps = 8

// checkPath checks the path of a field that is to be written.
func checkPath(path string) string {
	steps := strings.Split(path, ".")
	if len(steps) > maxSteps {
		return fmt.Sprintf("it lies more than %d levels deep: choose a field further up", maxSteps)
	}
	for _, s := range steps {
		switch {
		case s == "":
			return "a name in it is empty: write names with single dots between them"
		case strings.HasPrefix(s, "$"):
			return "a name in it begins with $, which MongoDB takes for an operator: choose another field"
		case strings.ContainsRune(s, 0):
			return "it holds a NUL, which MongoDB cannot store: choose another field"
		case hidden(s) != "":
			return hidden(s)
		case s == "__proto__":
			return "JavaScript cannot have a field named __proto__: choose another field"
		case strings.Trim(s, "0123456789") == "":
			return "a name in it is a number, which would write into a list: choose a field that is in no list"
		}
	}
	if steps[0] == IDField {
		return "_id is never written: with 'key: _id' it is Clerk's id, with another key MongoDB's own"
	}
	return ""
}

// IsPath tells whether a field at this path can be mapped.
func IsPath(path string) bool { return checkPath(path) == "" }

// hidden says that a name holds a character that nobody sees, which comes along with copied text: the name would be
// another one than that of the app's field. The two joiners are part of words in some languages.
func hidden(name string) string {
	const nonJoiner, joiner = '\u200c', '\u200d'
	for _, r := range name {
		if r != ' ' && r != nonJoiner && r != joiner && (!unicode.IsGraphic(r) || unicode.IsSpace(r)) {
			return fmt.Sprintf("it holds %U, which cannot be seen: write the name by hand", r)
		}
	}
	return ""
}

// checkSource checks the name of a source.
func checkSource(name string) string {
	root, path, deep := strings.Cut(name, ".")
	if Plain(root) == Plain(private) {
		return "private_metadata cannot be mapped: it never leaves Clerk; use public_metadata"
	}
	_, ok := LookUp(name)
	if ok && deep {
		for step := range strings.SplitSeq(path, ".") {
			if step == "" {
				return Quote(name) + " has an empty name in it: write single dots between names"
			}
		}
	}
	if ok {
		return ""
	}
	return Quote(name) + " is no source: " + suggestSource(name)
}

// private is the metadata that must not reach the app's rows.
const private = "private_metadata"

// checkPlaces notes all that the file writes to the same place, or inside one another.
func (r *reader) checkPlaces(m *Map) {
	type place struct {
		what, path string
		line       int
	}
	places := []place{{"key", m.Key, r.line["key"]}, {"state", m.State, r.line["state"]}}
	for _, f := range m.Fields {
		what := "the field"
		if f.Line == 0 {
			what = "the default field"
		}
		places = append(places, place{what, f.Path, f.Line})
	}
	for i, a := range places {
		for j, b := range places {
			switch line := max(a.line, b.line); {
			case i > j && a.path == b.path:
				r.wrong(line, "%s and %s are both %s: choose another field for one of them",
					a.what, b.what, Quote(a.path))
			case strings.HasPrefix(a.path, b.path+"."):
				r.wrong(line, "%s lies inside %s (%s): choose fields that lie apart",
					Quote(a.path), Quote(b.path), b.what)
			}
		}
	}
	first := 0
	for _, f := range m.Fields {
		if f.Unique && first > 0 {
			r.wrong(f.Line, "%s: unique is in line %d already, and there can be one unique user name: "+
				"remove one of them", Quote(f.Path), first)
		} else if f.Unique {
			first = max(f.Line, 1)
		}
	}
}

// Place names the line of the file that says what to write to a field.
func (m *Map) Place(f Field) string {
	if f.Line == 0 {
		return "the default map"
	}
	return at(m.File, f.Line)
}

// Warnings returns a line for each field that does what whoever wrote the map may not expect.
func (m *Map) Warnings() []string {
	var lines []string
	for _, f := range m.Fields {
		warn := func(text string) {
			lines = append(lines, fmt.Sprintf("%s: %s: %s", m.Place(f), Quote(f.Path), text))
		}
		s, _ := LookUp(f.From)
		if s.Warn != "" {
			warn(f.From + ": " + s.Warn)
		}
		if s.Kind == Date && f.Absent.Text != nil {
			warn("absent: a text in a field of dates, which most models refuse: take unset or null")
		}
		if f.Create && f.From != "" && f.From != Now {
			warn("when: create: Clerk's " + f.From + " is written when the row is made and is then never updated")
		}
	}
	return lines
}
