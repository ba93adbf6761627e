package adopt

import (
	"regexp"
	"slices"
	"strings"

	"clerksync/clerk"
	"clerksync/store/mapping"

	"go.mongodb.org/mongo-driver/v2/bson"
)

const (
	// maxDepth is how deep fields are looked for: "profile.name" is at depth 2.
	maxDepth = 3
	// maxFields bounds how many different paths are kept, and maxBelow how many of them below one field. Rows with an
	// object by date or id may have any number of them. Paths with an id of Clerk's are kept beyond that.
	maxFields, maxBelow = 500, 50
	// maxPath is less than the 1024 characters that a name in YAML may have.
	maxPath = 500
)

// value is what a row has at a path.
type value struct {
	there bool
	v     any // as bson decodes it; bson.D and bson.A for what is not a single value
}

// text returns the value without spaces around it if it is a text.
func (v value) text() string {
	s, _ := v.v.(string)
	return strings.TrimSpace(s)
}

// filled tells whether there is something besides null and an empty text.
func (v value) filled() bool { return v.v != nil && v.v != "" }

// field is a path of the rows, with what each row has there.
type field struct {
	path   string
	values []value // one for each row
}

// survey returns the paths that the rows have, in the order in which they were met. Paths that no update could name are
// left out, and lists are not looked into.
func survey(rows []bson.Raw) []*field {
	var fields []*field
	byPath, below := map[string]*field{}, map[string]int{}
	var walk func(row int, doc bson.D, parent string, depth int)
	walk = func(row int, doc bson.D, parent string, depth int) {
		for _, e := range doc {
			path := parent + e.Key
			f := byPath[path]
			if f == nil {
				full := len(fields) >= maxFields || parent != "" && below[parent] >= maxBelow
				if full && (len(fields) >= 2*maxFields || !isID(value{true, e.Value})) ||
					!isName(e.Key) || len(path) > maxPath {
					continue
				}
				below[parent]++
				f = &field{path: path, values: make([]value, len(rows))}
				fields, byPath[path] = append(fields, f), f
			}
			f.values[row] = value{true, e.Value}
			if sub, ok := e.Value.(bson.D); ok && depth < maxDepth {
				walk(row, sub, path+".", depth+1)
			}
		}
	}
	for i, raw := range rows {
		var doc bson.D
		if bson.Unmarshal(raw, &doc) == nil { // what cannot be read says nothing
			walk(i, doc, "", 1)
		}
	}
	return fields
}

// isName tells whether an update can name a field so.
func isName(name string) bool {
	return (name == mapping.IDField || mapping.IsPath(name)) && !strings.Contains(name, ".")
}

// find returns the field with a path, or one without values.
func find(fields []*field, path string) *field {
	if i := slices.IndexFunc(fields, func(f *field) bool { return f.path == path }); i >= 0 {
		return fields[i]
	}
	return &field{path: path}
}

// count returns for how many rows is holds.
func (f *field) count(is func(value) bool) (n int) {
	for _, v := range f.values {
		n += yes(is(v))
	}
	return n
}

// like is how many rows have a text for which is holds.
func (f *field) like(is func(string) bool) int {
	return f.count(func(v value) bool { return is(v.text()) })
}

func (f *field) filled() int { return f.count(value.filled) }

func (f *field) texts() int { return f.like(func(s string) bool { return s != "" }) }

func (f *field) hasIDs() bool { return f.count(isID) > 0 }

func isID(v value) bool {
	id, ok := v.v.(string)
	return ok && clerk.IsUserID(id)
}

// ofType is how many rows have a value of a type.
func ofType[T any](f *field) int {
	return f.count(func(v value) bool { _, ok := v.v.(T); return ok })
}

// common returns the value that most rows have, of those that a map can write, and how many have it.
func (f *field) common() (v any, n int) {
	counts := map[any]int{}
	for _, at := range f.values {
		switch at.v.(type) {
		case bool, int32, int64, string:
			counts[at.v]++
			if c := counts[at.v]; c > n {
				v, n = at.v, c
			}
		}
	}
	return v, n
}

// distinct tells whether no two rows have the same text.
func (f *field) distinct() bool {
	had := map[string]bool{}
	for _, v := range f.values {
		had[v.text()] = true
	}
	delete(had, "")
	return len(had) == f.texts()
}

// isAddress tells whether a text has the shape of an e-mail address.
func isAddress(s string) bool {
	local, domain, ok := strings.Cut(s, "@")
	return ok && local != "" && len(s) <= 254 && strings.Contains(strings.Trim(domain, "."), ".") &&
		!strings.ContainsAny(s, " \t\r\n<>") && !strings.Contains(domain, "@")
}

// isURL tells whether a text is the address of a picture or a page.
func isURL(s string) bool { return regexp.MustCompile(`^https?://\w`).MatchString(s) }

// isClerkPicture tells whether a text is the address of a picture that Clerk gives to a user.
func isClerkPicture(s string) bool {
	return regexp.MustCompile(`^https://((img|images)\.clerk\.(com|dev)|www\.gravatar\.com)/`).MatchString(s)
}
