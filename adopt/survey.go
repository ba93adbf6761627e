package adopt

import (
	"net/url"
	"strings"

	"clerksync/clerk"

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

// text returns the value if it is a text that says something.
func (v value) text() string {
	s, _ := v.v.(string)
	return strings.TrimSpace(s)
}

// blank tells whether there is nothing: no value, null or an empty text.
func (v value) blank() bool { return v.v == nil || v.v == "" }

// field is a path of the rows, with what each row has there.
type field struct {
	path   string
	values []value // one for each row
}

// survey returns the paths that the rows have, in the order in which they were met. Paths that no update could name,
// such as with a dot in a name, are left out, and lists are not looked into.
func survey(rows []bson.Raw) []*field {
	var fields []*field
	byPath, below := map[string]*field{}, map[string]int{}
	var walk func(row int, doc bson.D, parent string, depth int)
	walk = func(row int, doc bson.D, parent string, depth int) {
		for _, e := range doc {
			if e.Key == "" || strings.ContainsAny(e.Key, ".\x00") || strings.HasPrefix(e.Key, "$") {
				continue
			}
			path := parent + e.Key
			if len(path) > maxPath {
				continue
			}
			f := byPath[path]
			if f == nil {
				full := len(fields) >= maxFields || parent != "" && below[parent] >= maxBelow
				if full && (len(fields) >= 2*maxFields || !isID(value{true, e.Value})) {
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

// count returns for how many rows is holds.
func (f *field) count(is func(value) bool) (n int) {
	for _, v := range f.values {
		if is(v) {
			n++
		}
	}
	return n
}

// filled is how many rows have something there.
func (f *field) filled() int { return f.count(func(v value) bool { return !v.blank() }) }

// texts is how many rows have a text there that says something.
func (f *field) texts() int { return f.count(func(v value) bool { return v.text() != "" }) }

func (f *field) hasIDs() bool { return f.count(isID) > 0 }

func isID(v value) bool {
	id, ok := v.v.(string)
	return ok && clerk.IsUserID(id)
}

// single tells whether the rows have single values there, neither documents nor lists.
func (f *field) single() bool {
	return f.count(func(v value) bool {
		switch v.v.(type) {
		case bson.D, bson.A:
			return true
		}
		return false
	}) == 0
}

// doubles returns how many rows have a text that an earlier row has too.
func (f *field) doubles() (n int) {
	had := map[string]bool{}
	for _, v := range f.values {
		if s, ok := v.v.(string); ok && s != "" {
			if had[s] {
				n++
			}
			had[s] = true
		}
	}
	return n
}

// common returns the value that most rows have, of those that a map can write, and how many have it.
func (f *field) common() (v any, n int) {
	counts := map[any]int{}
	for _, at := range f.values {
		switch at.v.(type) {
		case bool, int32, int64, float64, string:
			counts[at.v]++
			if c := counts[at.v]; c > n {
				v, n = at.v, c
			}
		}
	}
	return v, n
}

// isAddress tells whether a text has the shape of an e-mail address.
func isAddress(s string) bool {
	local, domain, ok := strings.Cut(s, "@")
	return ok && local != "" && len(s) <= 254 && strings.Contains(strings.Trim(domain, "."), ".") &&
		!strings.ContainsAny(s, " \t\r\n<>") && !strings.Contains(domain, "@")
}

// isURL tells whether a text is the address of a picture or a page.
func isURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != ""
}

// isClerkPicture tells whether a text is the address of a picture at Clerk.
func isClerkPicture(s string) bool {
	u, err := url.Parse(s)
	return err == nil && isURL(s) && (u.Host == "img.clerk.com" || u.Host == "img.clerk.dev" ||
		u.Host == "images.clerk.com" || u.Host == "images.clerk.dev" || u.Host == "www.gravatar.com")
}

// lookup returns what a row has at a dotted path.
func lookup(row bson.Raw, path string) bson.RawValue {
	if path == "" {
		return bson.RawValue{}
	}
	return row.Lookup(strings.Split(path, ".")...)
}
