package adopt

import (
	"slices"
	"strings"
	"time"

	"clerksync/clerk"
	"clerksync/store/mapping"
)

// roleSource is the one path into metadata that is compared.
const roleSource = mapping.Public + ".role"

// evidence has, for each source, what Clerk's users of the rows have there.
type evidence struct {
	texts  []string         // the sources with texts
	values map[string][]any // by source: for each row, nil for none
	user   []*clerk.User    // for each row, nil if Clerk does not know its user
	users  int              // how many rows have a user at Clerk
}

// gather reads what Clerk says of the users of the rows.
func gather(c *Collection, k *key) *evidence {
	e := &evidence{values: map[string][]any{}, user: make([]*clerk.User, len(c.Rows))}
	for id, rows := range k.ids {
		u, ok := c.Users[id]
		if !ok {
			continue
		}
		for _, row := range rows {
			e.user[row] = &u
			e.users++
		}
	}
	probe := &mapping.Map{Key: mapping.IDField}
	role, _ := mapping.LookUp(roleSource)
	for _, s := range append(mapping.Sources(), role) {
		if s.Kind == mapping.Text && s.Name != "id" {
			e.texts = append(e.texts, s.Name)
		}
		e.values[s.Name] = make([]any, len(c.Rows))
		probe.Fields = append(probe.Fields, mapping.Field{From: s.Name, Absent: mapping.Absent{Null: true}})
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
		for i, f := range probe.Fields {
			e.values[f.From][row] = values[i]
		}
	}
	return e
}

// match says how well a field fits a source, over the rows whose user is at Clerk.
type match struct {
	source   string
	has      int // Clerk has a value
	filled   int // and the row has one too
	equal    int // and they are equal
	distinct int // different ones among the equal
	lacks    int // Clerk has none
}

// share returns how much of what could be compared is equal, in percent.
func (m match) share() int { return 100 * m.equal / max(m.filled, 1) }

// match compares the single values of a field with a source.
func (e *evidence) match(f *field, source string) match {
	m := match{source: source}
	different := map[any]bool{}
	for row, want := range e.values[source] {
		switch v := f.values[row]; {
		case e.user[row] == nil:
		case want == nil:
			m.lacks++
		default:
			m.has++
			m.filled += yes(v.filled())
			if same(v, want, source) {
				m.equal++
				different[want] = true
			}
		}
	}
	m.distinct = len(different)
	return m
}

// best returns the match of the source that fits best, of those with texts. Another source than the one that the field
// is named after has to fit clearly better.
func (e *evidence) best(f *field, named string) match {
	best := match{}
	for _, source := range e.texts {
		m := e.match(f, source)
		if m.share() > best.share() || m.share() == best.share() && m.equal > best.equal {
			best = m
		}
	}
	if own := e.match(f, named); named != "" && own.share() >= best.share()-5 {
		return own
	}
	return best
}

// same tells whether a row has what Clerk says, apart from how apps write it down.
func same(row value, want any, source string) bool {
	text, isText := want.(string)
	if _, both := row.v.(string); !isText || !both {
		return row.v == want
	}
	switch source {
	case "primary_email":
		return strings.EqualFold(row.text(), text)
	case "full_name":
		return strings.EqualFold(cleaned(row.text()), cleaned(text))
	}
	return row.text() == strings.TrimSpace(text)
}

// cleaned returns a name without what `${user.firstName} ${user.lastName}` makes of a missing name.
func cleaned(name string) string {
	return strings.Join(slices.DeleteFunc(strings.Fields(name), func(w string) bool {
		return w == "null" || w == "undefined"
	}), " ")
}
