package adopt

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"clerksync/clerk"
	"clerksync/store/database"
	"clerksync/store/mapping"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// key is the field that holds Clerk's id of the user whose row it is.
type key struct {
	*field
	ids     map[string][]int // the rows that have an id, by id
	rows    int              // how many rows have one
	unique  bool             // the app has a unique index on it alone
	matches int              // how many rows have something of the user there is at Clerk under this id
	known   int              // how many of the ids Clerk knows
}

// doubled tells whether several rows have the same id.
func (k *key) doubled() bool { return len(k.ids) < k.rows }

// nested tells whether the field lies inside another one.
func (k *key) nested() bool { return strings.Contains(k.path, ".") }

// mostlyOne tells whether a user has one row, apart from a few mistakes.
func (k *key) mostlyOne() bool { return 10*len(k.ids) >= 8*k.rows }

// doubles returns the _ids of rows that share an id, at most ten.
func (k *key) doubles(rows []bson.Raw) (ids []string) {
	const most = 10
	for _, id := range sorted(k.ids) {
		for _, row := range k.ids[id] {
			if len(k.ids[id]) > 1 && len(ids) < most {
				ids = append(ids, database.RowID(rows[row]))
			}
		}
	}
	return ids
}

// findKey returns the field with Clerk's id, or a Question if no field is clearly the one.
func findKey(c *Collection) (*key, error) {
	fields := survey(c.Rows)
	var keys []*key
	for _, f := range fields {
		if k := newKey(c, f); k.rows > 0 {
			keys = append(keys, k)
		}
	}
	if len(keys) == 0 {
		return nil, noKey(c, fields)
	}
	for _, k := range keys {
		k.matches = k.matching(c, fields)
	}
	slices.SortStableFunc(keys, func(a, b *key) int { return -a.compare(b) })
	best := keys[0]
	switch {
	case len(keys) > 1 && best.compare(keys[1]) == 0:
		return nil, Question(fmt.Sprintf("which field of %s says whose row it is? Both %s and %s hold an id of "+
			"Clerk's, "+
			"another in each row: begin a clerksync.yaml with collection: %s and key: with that field",
			c.Name, show(best.path), show(keys[1].path), show(c.Name)))
	case isReference(best.path):
		return nil, Question(fmt.Sprintf("is a row of %s a user? Clerk's ids are only in %s, which seems to say who "+
			"did "+
			"something to the row: if it is whose row it is, begin a clerksync.yaml with key: %s; if not, say "+
			"--collection NAME with another collection", c.Name, show(best.path), show(best.path)))
	case best.nested():
		top, _, _ := strings.Cut(best.path, ".")
		return nil, Question(fmt.Sprintf("can %s have Clerk's id in a field of its own? It is in %s, inside %s, where "+
			"clerksync cannot keep it: add a field such as clerkId with the same ids, then run this again", c.Name,
			show(best.path), show(top)))
	case !best.mostlyOne():
		return nil, Question(fmt.Sprintf("is a row of %s a user? %d rows have an id of Clerk's in %s, but only %d "+
			"different ones, so it seems to hold things of users: say --collection NAME with another collection",
			c.Name, best.rows, show(best.path), len(best.ids)))
	}
	return best, nil
}

func newKey(c *Collection, f *field) *key {
	k := &key{field: f, ids: map[string][]int{}}
	for row, v := range f.values {
		if isID(v) {
			id, _ := v.v.(string)
			k.ids[id] = append(k.ids[id], row)
			k.rows++
		}
	}
	for _, index := range c.Indexes {
		if index.Unique && slices.Equal(index.Fields, []string{f.path}) {
			k.unique = true
		}
	}
	for id := range k.ids {
		if _, ok := c.Users[id]; ok {
			k.known++
		}
	}
	return k
}

// matching returns how many rows have a value that belongs to the user whom Clerk has under their id.
func (k *key) matching(c *Collection, fields []*field) (n int) {
	for id, rows := range k.ids {
		u, ok := c.Users[id]
		if !ok {
			continue
		}
		of := []string{u.Email, u.ImageURL, u.FullName, u.Username}
		for _, row := range rows {
			if slices.ContainsFunc(fields, func(f *field) bool {
				text := f.values[row].text()
				return text != "" && slices.ContainsFunc(of, func(s string) bool { return strings.EqualFold(s, text) })
			}) {
				n++
			}
		}
	}
	return n
}

// compare returns more than 0 if k is rather the key than other, and 0 if nobody could tell.
func (k *key) compare(other *key) int {
	return cmp.Or(
		// Values decide: a row with a user's address is that user's.
		clearly(k.matches, other.matches),
		cmp.Compare(yes(!isReference(k.path)), yes(!isReference(other.path))),
		cmp.Compare(yes(k.mostlyOne()), yes(other.mostlyOne())),
		cmp.Compare(yes(!k.doubled()), yes(!other.doubled())),
		clearly(k.rows, other.rows),
		cmp.Compare(yes(!k.nested()), yes(!other.nested())),
		cmp.Compare(yes(k.path == mapping.IDField), yes(other.path == mapping.IDField)),
		cmp.Compare(yes(k.unique), yes(other.unique)),
		cmp.Compare(yes(hasWord(k.path, "clerk")), yes(hasWord(other.path, "clerk"))),
		cmp.Compare(yes(isKeyName(k.path)), yes(isKeyName(other.path))),
		yesIf(k.sameAs(other), cmp.Compare(other.path, k.path)),
	)
}

// clearly compares two numbers of rows, if they differ by more than a tenth.
func clearly(a, b int) int {
	if 10*min(a, b) < 9*max(a, b) {
		return cmp.Compare(a, b)
	}
	return 0
}

// sameAs tells whether both fields hold the same id wherever they hold one.
func (k *key) sameAs(other *key) bool {
	for row, v := range k.values {
		if o := other.values[row]; isID(v) && isID(o) && v.v != o.v {
			return false
		}
	}
	return true
}

func yes(b bool) int { return yesIf(b, 1) }

func yesIf(b bool, n int) int {
	if b {
		return n
	}
	return 0
}

// isKeyName tells whether apps use to keep Clerk's id under this name.
func isKeyName(path string) bool {
	return isNamed(path, []string{"id", "userid", "authid", "uid", "sub", "externalid", "authuserid", "useruid"})
}

// noKey returns the question about a collection in which no field holds an id of Clerk's alone.
func noKey(c *Collection, fields []*field) Question {
	for _, f := range fields {
		for _, v := range f.values {
			if s, ok := v.v.(string); ok && holdsID(s) {
				return Question(fmt.Sprintf("%s of %s holds an id of Clerk's inside a longer text, and clerksync "+
					"needs a "+
					"field with the id alone: can you add one, such as clerkId? Then run this again",
					show(f.path), c.Name))
			}
			if list, ok := v.v.(bson.A); ok && listHoldsID(list, maxDepth) {
				return Question(fmt.Sprintf("%s of %s is a list with ids of Clerk's, and clerksync needs a field "+
					"with the "+
					"one id of the user whose row it is: can you add one, such as clerkId? Then run this again",
					show(f.path), c.Name))
			}
		}
	}
	return Question(fmt.Sprintf("which field of %s has Clerk's ids? None of its %d sampled rows has one (user_ and 27 "+
		"letters or digits): name another collection, or add a field such as clerkId with the ids first; clerksync "+
		"links nobody by an address", c.Name, len(c.Rows)))
}

// holdsID tells whether there is an id of Clerk's somewhere in a text.
func holdsID(s string) bool {
	const length = len(clerk.UserIDPrefix) + 27
	for {
		i := strings.Index(s, clerk.UserIDPrefix)
		if i < 0 || len(s) < i+length {
			return false
		}
		if clerk.IsUserID(s[i : i+length]) {
			return true
		}
		s = s[i+1:]
	}
}

func listHoldsID(list bson.A, levels int) bool {
	return levels > 0 && slices.ContainsFunc(list, func(e any) bool {
		switch e := e.(type) {
		case string:
			return holdsID(e)
		case bson.A:
			return listHoldsID(e, levels-1)
		case bson.D:
			var values bson.A
			for _, f := range e {
				values = append(values, f.Value)
			}
			return listHoldsID(values, levels-1)
		}
		return false
	})
}
