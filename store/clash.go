package store

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"clerksync/store/database"
	"clerksync/store/mapping"
)

// Clash is a unique index of the app's that will refuse rows which the map makes: each such user becomes a dead letter.
type Clash struct {
	Index   string
	Refused bool   // two users are enough, so the service must not start
	Text    string // one line that names the index and says what to do
}

// Clashes compares the map with the indexes of its collection. others are the names of the app's other unique indexes:
// Clerk's users may have the same value, such as one address in two sign-ups. Whoever wrote a map knows of them, so
// with a file there are none. If the server cannot list its indexes, both are empty.
func (s *Users) Clashes(ctx context.Context) (clashes []Clash, others []string, _ error) {
	indexes, err := s.rows.ListIndexes(ctx)
	for _, ix := range indexes {
		isOurs := len(ix.Fields) == 1 && slices.Contains([]string{s.m.Key, s.fields.Username}, ix.Fields[0])
		if c := clashOf(s.m, ix); c != nil {
			clashes = append(clashes, *c)
		} else if s.m.File == "" && ix.Unique && !isOurs {
			others = append(others, ix.Name)
		}
	}
	return clashes, others, err
}

// clashOf returns the clash of the map with an index, or nil.
func clashOf(m *mapping.Map, ix database.IndexInfo) *Clash {
	if !ix.Unique || slices.ContainsFunc(ix.Fields, func(path string) bool { return isDistinct(m, path) }) {
		return nil
	}
	if len(ix.Fields) == 1 {
		if c := refusedBy(m, ix); c != nil {
			return c
		}
	}
	leftOut := func(path string) bool {
		f := fieldAt(m, path)
		return f == nil || f.From != "" && isOptional(f) && !f.Absent.Null && f.Absent.Text == nil
	}
	if ix.Sparse || ix.Partial || !slices.ContainsFunc(ix.Fields, leftOut) {
		return nil
	}
	who := "a second user without " + strings.Join(ix.Fields, " and ")
	if len(ix.Fields) == 1 && fieldAt(m, ix.Fields[0]) == nil {
		who = fmt.Sprintf("a second new user, because the map does not write %s", ix.Fields[0])
	}
	return &Clash{Index: ix.Name, Text: fmt.Sprintf("the unique index %s on %s refuses %s: "+
		"make it partial in mongosh, %s", ix.Name, m.Collection, who, partialCommand(m, ix))}
}

// refusedBy returns the clash with an index on one field that gets the same value for several users.
func refusedBy(m *mapping.Map, ix database.IndexInfo) *Clash {
	path := ix.Fields[0]
	f := fieldAt(m, path)
	if f == nil {
		return nil
	}
	what, do := "", "remove absent"
	if m.File == "" {
		do = "write a map without absent for it"
	}
	switch {
	case f.From == "":
		what, do = "the value is the same for every user", "remove the field from the map, or drop the index"
	case f.Absent.Text != nil && isOptional(f):
		what = fmt.Sprintf("absent: %q is the same for every user without it", *f.Absent.Text)
	case f.Absent.Null && isOptional(f) && ix.Nulls:
		what = "absent: null is the same for every user without it"
	default:
		return nil
	}
	switch partial := "make the index partial in mongosh, " + partialCommand(m, ix); {
	case f.From == "" || ix.Sparse || ix.Partial:
	case f.Absent.Null:
		do = partial
	default:
		do += ", and " + partial
	}
	// Without a file the service ran with such an index before there were maps, so it goes on.
	return &Clash{Index: ix.Name, Refused: m.File != "", Text: fmt.Sprintf("%s: %s: %s, and the unique index %s on %s "+
		"refuses the second: %s", m.Place(*f), path, what, ix.Name, m.Collection, do)}
}

// isDistinct tells whether no two rows that the map makes have the same value at the path.
func isDistinct(m *mapping.Map, path string) bool {
	f := fieldAt(m, path)
	return path == mapping.IDField || path == m.Key || f != nil && (f.Unique || f.From == "id")
}

func isOptional(f *mapping.Field) bool {
	source, _ := mapping.LookUp(f.From)
	return source.Optional
}

func fieldAt(m *mapping.Map, path string) *mapping.Field {
	for i := range m.Fields {
		if m.Fields[i].Path == path {
			return &m.Fields[i]
		}
	}
	return nil
}

// partialCommand returns what makes an index leave out the rows without its fields, for mongosh. The model that
// 'clerksync types' prints has the same index. Of a field that the map writes it holds the texts, and so no null.
func partialCommand(m *mapping.Map, ix database.IndexInfo) string {
	var keys, filter []string
	for _, path := range ix.Fields {
		name := path
		if !regexp.MustCompile(`^[A-Za-z_]\w*$`).MatchString(path) {
			name = fmt.Sprintf("%q", path)
		}
		keys = append(keys, name+": 1")
		if fieldAt(m, path) == nil {
			filter = append(filter, name+`: {$exists: true}`)
		} else {
			filter = append(filter, name+`: {$gt: ""}`)
		}
	}
	return fmt.Sprintf(`db.getCollection(%[1]q).dropIndex(%[2]q); db.getCollection(%[1]q).createIndex({%[3]s}, `+
		`{name: %[2]q, unique: true, partialFilterExpression: {%[4]s}})`,
		m.Collection, ix.Name, strings.Join(keys, ", "), strings.Join(filter, ", "))
}
