// Package adopt looks at a collection that an app has made, and proposes the map with which clerksync keeps it. It
// knows a field by its values, where Clerk's users can be had for comparison, and otherwise by its name and the shape
// of its values. It writes nothing. Where it cannot tell, it asks a question in words instead of guessing.
package adopt

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"clerksync/clerk"
	"clerksync/store"
	"clerksync/store/database"
	"clerksync/store/mapping"

	"go.mongodb.org/mongo-driver/v2/bson"
)

const (
	// sampleRows and sampleBytes bound what is read of the collection. A row of an app is 1 to 10 KB.
	sampleRows  = 1000
	sampleBytes = 16 << 20
	// glanceRows bounds what is read of each collection to find the one with Clerk's ids.
	glanceRows = 50
	// maxGlances is how many collections are looked at for that.
	maxGlances = 200
	// most is how many names a sentence has.
	most = 10
)

// Options is what Look needs.
type Options struct {
	DB         *database.DB
	API        *clerk.API // nil: fields are known by their names and shapes only
	Collection string     // "" means the one with Clerk's ids
}

// Question is an error that only a person can end. Its text asks for what is missing.
type Question string

func (q Question) Error() string { return string(q) }

func question(format string, args ...any) error { return Question(fmt.Sprintf(format, args...)) }

// Collection is what was seen of a collection.
type Collection struct {
	database.CollectionInfo
	Indexes []database.IndexInfo
	Rows    []bson.Raw            // a sample
	All     bool                  // it is all rows that there are
	Users   map[string]clerk.User // Clerk's users of the rows, by id; nil if it was not asked
}

// Report is what Look has found, with the proposal.
type Report struct {
	Collection
	Proposal
	Others  []string  // other collections with Clerk's ids
	Strays  []Stray   // rows without an id of Clerk's that have the address of one of its users
	Strange int       // rows of the sample without an id of Clerk's
	Changes []Changes // what the first backfill would change in sampled rows
}

// Stray is a row without an id of Clerk's that has the address of one of its users.
type Stray struct {
	Row, User string
	Own       bool // another row has the user's id
}

// Changes is what the first backfill would change in a row.
type Changes struct {
	Row    string // its _id
	User   string
	Fields []mapping.Difference
}

// Look looks at the collection and proposes a map. A Question says what a person has to decide first.
func Look(ctx context.Context, o Options) (*Report, error) {
	l := looker{Options: o}
	r := &Report{}
	err := l.list(ctx)
	if err == nil && l.Collection == "" {
		l.Collection, r.Others, err = l.choose(ctx)
	}
	if err != nil {
		return nil, err
	}
	if r.Collection, err = l.collection(ctx); err != nil {
		return nil, err
	}
	key, err := findKey(&r.Collection)
	if err != nil {
		return nil, err
	}
	r.Strange = len(r.Rows) - key.rows
	r.Proposal = propose(&r.Collection, key)
	if len(r.Map.Fields) == 0 {
		help := "write a clerksync.yaml yourself, as docs/mapping.md says"
		if l.API == nil {
			help = "with CLERK_SECRET_KEY set, their values tell, or " + help
		}
		return nil, question("which fields of %s hold what Clerk knows of a user? Clerk's ids are in %s, but of %s "+
			"none has such a name and such values: %s", r.Name, mapping.Quote(key.path), list(r.Apps, most), help)
	}
	m, err := mapping.Parse("clerksync.yaml", r.File())
	if err != nil {
		return nil, question("no map for %s can be proposed, for the service would refuse it: %v", r.Name, err)
	}
	clashes, _, err := store.NewUsers(o.DB, m).Clashes(ctx)
	if err != nil {
		return nil, err
	}
	for _, c := range clashes {
		r.Clashes = append(r.Clashes, c.Text)
	}
	r.Changes = changes(&r.Collection, &r.Map)
	return r, l.strays(ctx, r)
}

// looker is a Look in progress.
type looker struct {
	Options
	infos map[string]database.CollectionInfo // the app's collections, by name
}

func (l *looker) list(ctx context.Context) error {
	infos, listed, err := l.DB.Collections(ctx)
	if err != nil {
		return fmt.Errorf("list the collections: %w", err)
	}
	switch {
	case !listed && l.Collection == "":
		return question("which collection has your app's users? This database does not list its collections: " +
			"say --collection NAME")
	case !listed:
		infos = []database.CollectionInfo{{Name: l.Collection}}
	}
	l.infos = map[string]database.CollectionInfo{}
	for _, i := range infos {
		if !strings.HasPrefix(i.Name, "system.") && !strings.HasPrefix(i.Name, "clerksync_") {
			l.infos[i.Name] = i
		}
	}
	return nil
}

// choose returns the collection whose rows seem to be Clerk's users, and the others that have Clerk's ids.
func (l *looker) choose(ctx context.Context) (name string, others []string, _ error) {
	var users, ids []string // the collections that seem to have users, and all with Clerk's ids
	rows := 0
	names := sorted(l.infos)
	for _, name := range names[:min(len(names), maxGlances)] {
		glance := Collection{CollectionInfo: l.infos[name]}
		if glance.View {
			continue
		}
		var err error
		if glance.Rows, _, err = l.DB.Collection(name).Sample(ctx, glanceRows, sampleBytes); err != nil {
			return "", nil, err
		}
		rows += len(glance.Rows)
		fields := survey(glance.Rows)
		if slices.ContainsFunc(fields, (*field).hasIDs) {
			ids = append(ids, name)
			if _, err := findKey(&glance); err == nil && slices.ContainsFunc(fields, (*field).isPersonal) {
				users = append(users, name)
			}
		}
	}
	switch {
	case len(users) == 1:
		return users[0], slices.DeleteFunc(ids, func(n string) bool { return n == users[0] }), nil
	case len(users) > 1:
		return "", nil, question("which collection has the users? Clerk's ids, one for each row, are in %s: "+
			"say --collection NAME", list(users, most))
	case len(ids) == 1:
		return ids[0], nil, nil // what is odd about it will be asked
	case len(ids) > 1:
		return "", nil, question("which collection has the users? Clerk's ids are in %s, but none seems to have one "+
			"row for each user: say --collection NAME", list(ids, most))
	case rows == 0:
		return "", nil, question("the database %s has no rows: is it the one of your app? MONGODB_DATABASE names it. "+
			"A new app needs no map: clerksync makes the collection users", l.DB.Name())
	}
	return "", nil, question("where does your app keep Clerk's ids? None of %s has any (user_ and 27 letters or "+
		"digits): is %s the database of your app (MONGODB_DATABASE)? If your rows have no ids of Clerk's yet, add a "+
		"field such as clerkId to them first; clerksync links nobody by an address", list(names, most), l.DB.Name())
}

// collection looks at the collection that is named.
func (l *looker) collection(ctx context.Context) (c Collection, err error) {
	info, there := l.infos[l.Collection]
	switch {
	case !there:
		return c, question("there is no collection %s: the database %s has %s",
			l.Collection, l.DB.Name(), cmp.Or(list(sorted(l.infos), most), "none: is it the one of your app?"))
	case info.View:
		return c, question("%s is a view or a time series, whose rows cannot be changed: name another collection",
			l.Collection)
	}
	c.CollectionInfo = info
	rows := l.DB.Collection(l.Collection)
	if c.Rows, c.All, err = rows.Sample(ctx, sampleRows, sampleBytes); err != nil {
		return c, err
	}
	if len(c.Rows) == 0 {
		return c, question("%s has no rows yet, so there is nothing to learn from: let one user sign up, or write "+
			"the map by hand", l.Collection)
	}
	if c.Indexes, err = rows.ListIndexes(ctx); err != nil || l.API == nil {
		return c, err
	}
	ids := map[string]bool{}
	for _, f := range survey(c.Rows) {
		for _, v := range f.values {
			if isID(v) && len(ids) < 2*sampleRows {
				ids[v.text()] = true
			}
		}
	}
	c.Users = map[string]clerk.User{}
	users, err := ask(ctx, l.API.ListUsers, sorted(ids))
	for _, u := range users {
		c.Users[u.ID] = u
	}
	return c, err
}

// ask asks Clerk for users by any number of ids or addresses.
func ask(
	ctx context.Context, of func(context.Context, []string) ([]clerk.User, error), names []string,
) (all []clerk.User, _ error) {
	for some := range slices.Chunk(names, clerk.MaxIDs) {
		users, err := of(ctx, some)
		if err != nil {
			return nil, err
		}
		all = append(all, users...)
	}
	return all, nil
}

// strays finds the rows that have the address of one of Clerk's users but no id of Clerk's.
func (l *looker) strays(ctx context.Context, r *Report) error {
	email := fieldFrom(&r.Map, "primary_email")
	if email == nil || l.API == nil {
		return nil
	}
	rows, err := r.Rows, error(nil)
	if !r.All {
		rows, err = l.DB.Collection(r.Name).Without(ctx, r.Map.Key, sampleRows, sampleBytes)
	}
	if err != nil {
		return err
	}
	byAddress := map[string]string{} // the _id of the row
	for _, row := range rows {
		if address := textAt(row, email.Path); isAddress(address) && !clerk.IsUserID(textAt(row, r.Map.Key)) {
			byAddress[strings.ToLower(address)] = database.RowID(row)
		}
	}
	users, err := ask(ctx, l.API.ListByAddress, sorted(byAddress))
	if err != nil {
		return err
	}
	var ids []string
	for _, u := range users {
		if row, ok := byAddress[strings.ToLower(u.Email)]; ok {
			r.Strays, ids = append(r.Strays, Stray{Row: row, User: u.ID}), append(ids, u.ID)
		}
	}
	own, err := l.DB.Collection(r.Name).Taken(ctx, r.Map.Key, ids)
	for i := range r.Strays {
		r.Strays[i].Own = own[r.Strays[i].User]
	}
	slices.SortFunc(r.Strays, func(a, b Stray) int { return cmp.Compare(a.Row, b.Row) })
	return err
}

// changes returns the sampled rows that the first backfill would change, besides giving them clerksync's state and the
// time of the write.
func changes(c *Collection, m *mapping.Map) (all []Changes) {
	fields := mapping.Compile(m, nil)
	for _, raw := range c.Rows {
		u, ok := c.Users[textAt(raw, m.Key)]
		if !ok {
			continue
		}
		// A row keeps its user name if Clerk has none for the user.
		values, err := fields.Values(u, cmp.Or(u.Username, textAt(raw, fields.Username)), time.Now(), false)
		if err != nil {
			continue // metadata that cannot be stored: the backfill says so
		}
		if differences := fields.Differences(raw, values); len(differences) > 0 {
			all = append(all, Changes{Row: database.RowID(raw), User: u.ID, Fields: differences})
		}
	}
	return all
}

// IsForbidden tells whether Look failed because the database's user may not look.
func IsForbidden(err error) bool { return !errors.As(err, new(Question)) && database.IsForbidden(err) }

// fieldFrom returns the first field from a source, or nil.
func fieldFrom(m *mapping.Map, source string) *mapping.Field {
	if i := slices.IndexFunc(m.Fields, func(f mapping.Field) bool { return f.From == source }); i >= 0 {
		return &m.Fields[i]
	}
	return nil
}

// textAt returns the text that a row has at a path, or "".
func textAt(row bson.Raw, path string) string {
	s, _ := row.Lookup(strings.Split(path, ".")...).StringValueOK()
	return s
}

// sorted returns the keys of a map, sorted.
func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// list returns names as a sentence has them: at most so many.
func list(names []string, most int) string {
	var shown []string
	for _, name := range names[:min(len(names), most)] {
		shown = append(shown, mapping.Quote(name))
	}
	if more := len(names) - most; more > 0 {
		shown = append(shown, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(shown, ", ")
}
