package adopt

import (
	"cmp"
	"regexp"
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
}

// doubled tells whether several rows have the same id.
func (k *key) doubled() bool { return len(k.ids) < k.rows }

// nested tells whether the field lies inside another one.
func (k *key) nested() bool { return strings.Contains(k.path, ".") }

// mostlyOne tells whether a user has one row, apart from a few mistakes.
func (k *key) mostlyOne() bool { return 10*len(k.ids) >= 8*k.rows }

// doubles returns the _ids of rows that share an id.
func (k *key) doubles(rows []bson.Raw) (ids []string) {
	for _, id := range sorted(k.ids) {
		for _, row := range k.ids[id] {
			if len(k.ids[id]) > 1 {
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
		if f.hasIDs() {
			keys = append(keys, newKey(c, f, fields))
		}
	}
	if len(keys) == 0 {
		return nil, noKey(c, fields)
	}
	slices.SortStableFunc(keys, func(a, b *key) int { return -a.compare(b) })
	best := keys[0]
	path := mapping.Quote(best.path)
	switch {
	case len(keys) > 1 && best.compare(keys[1]) == 0:
		return nil, question("which field of %s says whose row it is? Both %s and %s hold an id of Clerk's, another "+
			"in each row: begin a clerksync.yaml with collection: %s and key: with that field",
			c.Name, path, mapping.Quote(keys[1].path), mapping.Quote(c.Name))
	case isReference(best.path):
		return nil, question("is a row of %s a user? Clerk's ids are only in %s, which seems to say who did "+
			"something to the row: if it is whose row it is, begin a clerksync.yaml with key: %s; if not, say "+
			"--collection NAME with another collection", c.Name, path, path)
	case best.nested():
		top, _, _ := strings.Cut(best.path, ".")
		return nil, question("can %s have Clerk's id in a field of its own? It is in %s, inside %s, where clerksync "+
			"cannot keep it: add a field such as clerkId with the same ids, then run this again",
			c.Name, path, mapping.Quote(top))
	case !best.mostlyOne():
		return nil, question("is a row of %s a user? %d rows have an id of Clerk's in %s, but only %d different "+
			"ones, so it seems to hold things of users: say --collection NAME with another collection",
			c.Name, best.rows, path, len(best.ids))
	}
	return best, nil
}

func newKey(c *Collection, f *field, fields []*field) *key {
	k := &key{field: f, ids: map[string][]int{}, unique: c.uniqueOn(f.path)}
	for row, v := range f.values {
		if !isID(v) {
			continue
		}
		id := v.text()
		k.ids[id] = append(k.ids[id], row)
		k.rows++
		if u, ok := c.Users[id]; ok && hasOne(fields, row, u.Email, u.ImageURL, u.FullName, u.Username) {
			k.matches++
		}
	}
	return k
}

// uniqueOn tells whether there is a unique index on a field alone.
func (c *Collection) uniqueOn(path string) bool {
	return slices.ContainsFunc(c.Indexes, func(x database.IndexInfo) bool {
		return x.Unique && slices.Equal(x.Fields, []string{path})
	})
}

// hasOne tells whether a row has one of the texts in any field.
func hasOne(fields []*field, row int, texts ...string) bool {
	return slices.ContainsFunc(fields, func(f *field) bool {
		has := f.values[row].text()
		return slices.ContainsFunc(texts, func(s string) bool { return s != "" && strings.EqualFold(s, has) })
	})
}

// compare returns more than 0 if k is rather the key than other, and 0 if nobody could tell.
func (k *key) compare(other *key) int {
	return cmp.Or(
		clearly(k.matches, other.matches), // values decide: a row with a user's address is that user's
		cmp.Compare(k.sense(), other.sense()),
		clearly(k.rows, other.rows),
		cmp.Compare(k.custom(), other.custom()),
	)
}

// sense says how well the field could be the key by its values, and custom how usual it were as one.
func (k *key) sense() int { return weigh(!isReference(k.path), k.mostlyOne(), !k.doubled()) }

func (k *key) custom() int {
	return weigh(!k.nested(), k.path == mapping.IDField, k.unique, hasWord(k.path, "clerk"),
		mapping.Named(last(k.path)) == "id")
}

// weigh returns a number in which each condition weighs more than all those after it.
func weigh(conditions ...bool) (n int) {
	for _, c := range conditions {
		n = 2*n + yes(c)
	}
	return n
}

// clearly compares two numbers of rows, if they differ by more than a tenth.
func clearly(a, b int) int {
	if 10*min(a, b) < 9*max(a, b) {
		return cmp.Compare(a, b)
	}
	return 0
}

func yes(b bool) int {
	if b {
		return 1
	}
	return 0
}

// noKey returns the question about a collection in which no field holds an id of Clerk's alone.
func noKey(c *Collection, fields []*field) error {
	id := regexp.MustCompile(clerk.UserIDPrefix + "[0-9A-Za-z]{27}")
	for _, f := range fields {
		if f.like(id.MatchString) > 0 {
			return question("%s of %s holds an id of Clerk's inside a longer text, and clerksync needs a field with "+
				"the id alone: can you add one, such as clerkId? Then run this again", mapping.Quote(f.path), c.Name)
		}
	}
	return question("which field of %s has Clerk's ids? None of its %d sampled rows has one (user_ and 27 letters or "+
		"digits): name another collection, or add a field such as clerkId with the ids first; clerksync links nobody "+
		"by an address", c.Name, len(c.Rows))
}
