package adopt

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"clerksync/clerk"
	"clerksync/store/mapping"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// evidence has, for each source, what Clerk's users of the rows have there.
type evidence struct {
	sources []string
	values  map[string][]any // by source: for each row, nil for none
	user    []*clerk.User    // for each row, nil if Clerk does not know its user
	users   int              // how many rows have a user at Clerk
}

// maxPaths bounds how many paths into metadata are compared.
const maxPaths = 50

// gather reads what Clerk says of the users of the rows.
func gather(c *Collection, k *key) *evidence {
	e := &evidence{values: map[string][]any{}, user: make([]*clerk.User, len(c.Rows))}
	paths := map[string]bool{}
	for id, rows := range k.ids {
		u, ok := c.Users[id]
		if !ok {
			continue
		}
		for _, row := range rows {
			e.user[row] = &u
			e.users++
		}
		details := u.Details()
		metadataPaths(paths, mapping.Public, details.PublicMetadata, 2)
		metadataPaths(paths, mapping.Unsafe, details.UnsafeMetadata, 2)
	}
	probe, sourceOf := &mapping.Map{Key: mapping.IDField}, map[string]string{}
	add := func(source string) {
		e.sources = append(e.sources, source)
		e.values[source] = make([]any, len(c.Rows))
		path := fmt.Sprint("field", len(sourceOf))
		sourceOf[path] = source
		probe.Fields = append(probe.Fields, mapping.Field{Path: path, From: source})
	}
	for _, s := range mapping.Sources() {
		if s.Name != mapping.Now && s.Name != "id" {
			add(s.Name)
		}
	}
	for _, path := range sorted(paths)[:min(len(paths), maxPaths)] {
		add(path)
	}
	all := mapping.Compile(probe, nil)
	for row, u := range e.user {
		if u == nil {
			continue
		}
		values, err := all.Values(*u, "", time.Time{}, true)
		if err != nil {
			continue // metadata that could not be stored says nothing
		}
		for _, field := range all.New(u.ID, values) {
			if source, ok := sourceOf[field.Key]; ok {
				e.values[source][row] = field.Value
			}
		}
	}
	return e
}

// metadataPaths adds the paths of single values in metadata.
func metadataPaths(paths map[string]bool, root string, object json.RawMessage, levels int) {
	var at map[string]json.RawMessage
	if levels == 0 || json.Unmarshal(object, &at) != nil {
		return
	}
	for name, v := range at {
		if name == "" || strings.ContainsAny(name, ".\x00") || len(v) == 0 {
			continue
		}
		switch v[0] {
		case '{':
			metadataPaths(paths, root+"."+name, v, levels-1)
		case '[', 'n':
		default:
			paths[root+"."+name] = true
		}
	}
}

// match says how well a field fits a source, over the rows whose user is at Clerk.
type match struct {
	source   string
	has      int // Clerk has a value
	filled   int // and the row has one too
	equal    int // and they are equal
	distinct int // different ones among the equal
	lacks    int // Clerk has none
	extra    int // and the row has one nevertheless
}

// share returns how much of what could be compared is equal, in percent.
func (m match) share() int {
	if m.filled == 0 {
		return 0
	}
	return 100 * m.equal / m.filled
}

// differs is how many rows the backfill would change.
func (m match) differs() int { return m.has - m.equal }

func (e *evidence) match(f *field, source string) match {
	m := match{source: source}
	different := map[any]bool{}
	for row, want := range e.values[source] {
		v := f.values[row]
		switch {
		case e.user[row] == nil:
		case want == nil:
			m.lacks++
			m.extra += yes(!v.blank())
		default:
			m.has++
			m.filled += yes(!v.blank())
			if same(v.v, want, source) {
				m.equal++
				if key, ok := comparable(want); ok {
					different[key] = true
				}
			}
		}
	}
	m.distinct = len(different)
	return m
}

// comparable returns a value that can be the key of a map.
func comparable(v any) (any, bool) {
	switch v.(type) {
	case string, bool, int32, int64, float64, bson.DateTime:
		return v, true
	}
	return nil, false
}

// same tells whether a row has what Clerk says, apart from how apps write it down.
func same(row, want any, source string) bool {
	text, isText := row.(string)
	is, wantsText := want.(string)
	switch {
	case isText && wantsText && source == "primary_email":
		return strings.EqualFold(strings.TrimSpace(text), is)
	case isText && wantsText && source == "full_name":
		return strings.EqualFold(cleaned(text), cleaned(is))
	case isText && wantsText:
		return strings.TrimSpace(text) == strings.TrimSpace(is)
	}
	switch n := want.(type) {
	case int64:
		is32, ok := row.(int32)
		return row == want || ok && int64(is32) == n || row == float64(n)
	case float64:
		return row == want
	case bool, bson.DateTime:
		return row == want
	}
	return false
}

// cleaned returns a name without what `${user.firstName} ${user.lastName}` makes of a missing name.
func cleaned(name string) string {
	return strings.Join(slices.DeleteFunc(strings.Fields(name), func(w string) bool {
		return w == "null" || w == "undefined"
	}), " ")
}
