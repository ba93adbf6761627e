// Package adopt looks at a collection that an app has made, and proposes the map with which clerksync keeps it. It
// knows a field by its values, where Clerk's users can be had for comparison, and otherwise by its name and the shape
// of its values. It writes nothing. Where it cannot tell, it asks a question in words instead of guessing.
package adopt

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"clerksync/clerk"
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

// Collection is what was seen of a collection.
type Collection struct {
	database.CollectionInfo
	Indexes []database.IndexInfo
	Rows    []bson.Raw // a sample
	All     bool       // it is all rows that there are
	// Asked says that Clerk was asked for the users of the rows. Users are those that it has, by id.
	Asked bool
	Users map[string]clerk.User
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

// Look looks at the collection and proposes a map. A Question says what a person has to decide first.
func Look(ctx context.Context, o Options) (*Report, error) {
	infos, listed, err := o.DB.Collections(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the collections: %w", err)
	}
	if !listed {
		infos = []database.CollectionInfo{{Name: cmp.Or(o.Collection, mapping.Default().Collection)}}
	}
	l := looker{Options: o, listed: listed, infos: slices.DeleteFunc(infos, func(i database.CollectionInfo) bool {
		return strings.HasPrefix(i.Name, "system.") || strings.HasPrefix(i.Name, "clerksync_")
	})}
	slices.SortFunc(l.infos, func(a, b database.CollectionInfo) int { return cmp.Compare(a.Name, b.Name) })
	r := &Report{}
	if l.Collection == "" {
		if l.Collection, r.Others, err = l.choose(ctx); err != nil {
			return nil, err
		}
	}
	if r.Collection, err = l.collection(ctx); err != nil {
		return nil, err
	}
	key, err := findKey(&r.Collection)
	if err != nil {
		return nil, err
	}
	r.Proposal = propose(&r.Collection, key)
	if len(r.Map.Fields) == 0 {
		return nil, noFields(r)
	}
	if _, err := mapping.Parse(r.Name, r.File()); err != nil {
		return nil, Question(fmt.Sprintf("no map for %s can be proposed, for the service would refuse it: %v",
			r.Name, err))
	}
	r.Changes = changes(&r.Collection, &r.Map)
	return r, l.strays(ctx, r)
}

// noFields returns the question about a collection in which nothing seems to be Clerk's.
func noFields(r *Report) Question {
	help := "with CLERK_SECRET_KEY set, their values tell"
	if r.Matched > 0 {
		help = "their values are not those of Clerk's users, so say it in a clerksync.yaml of your own, docs/mapping.md"
	}
	return Question(fmt.Sprintf("which fields of %s hold what Clerk knows of a user? Clerk's ids are in %s, but of "+
		"%s none "+
		"has such a name: %s", r.Name, show(r.Map.Key), list(r.Apps), help))
}

// looker is a Look in progress.
type looker struct {
	Options
	infos  []database.CollectionInfo
	listed bool // infos are all collections
}

// choose returns the collection whose rows seem to be Clerk's users, and the others that have Clerk's ids.
func (l *looker) choose(ctx context.Context) (name string, others []string, _ error) {
	var users, ids []string // the collections that seem to have users, and all with Clerk's ids
	var doubts []error
	rows := 0
	for _, info := range l.infos[:min(len(l.infos), maxGlances)] {
		if info.View {
			continue
		}
		glance := Collection{CollectionInfo: info}
		var err error
		glance.Rows, glance.All, err = l.DB.Collection(info.Name).Sample(ctx, glanceRows, sampleBytes)
		if err != nil {
			return "", nil, err
		}
		rows += len(glance.Rows)
		fields := survey(glance.Rows)
		if !slices.ContainsFunc(fields, (*field).hasIDs) {
			continue
		}
		ids = append(ids, info.Name)
		switch _, err := findKey(&glance); {
		case err != nil:
			doubts = append(doubts, err)
		case slices.ContainsFunc(fields, (*field).isPersonal):
			users = append(users, info.Name)
		}
	}
	switch {
	case len(users) == 1:
		return users[0], slices.DeleteFunc(ids, func(n string) bool { return n == users[0] }), nil
	case len(users) > 1:
		return "", nil, Question("which collection has the users? Clerk's ids, one for each row, are in " +
			list(users) +
			": say --collection NAME")
	case len(ids) == 1 && len(doubts) == 1:
		return "", nil, doubts[0]
	case len(ids) == 1:
		return ids[0], nil, nil
	case len(ids) > 0:
		return "", nil, Question("which collection has the users? Clerk's ids are in " + list(ids) +
			", but none of them has names, pictures or addresses beside them, one row for each user: " +
			"say --collection NAME")
	case rows == 0 && !l.listed:
		return "", nil, Question("which collection has your app's users? This database does not list its " +
			"collections, and " + l.infos[0].Name + " has no rows: say --collection NAME")
	case rows == 0:
		return "", nil, Question("the database " + l.DB.Name() + " has no rows: is it the one of your app? " +
			"MONGODB_DATABASE names it. A new app needs no map: clerksync makes the collection users")
	}
	return "", nil, Question("where does your app keep Clerk's ids? None of " + list(names(l.infos)) +
		" has any (user_ and 27 letters or digits): is " + l.DB.Name() + " the database of your app " +
		"(MONGODB_DATABASE)? If your rows have no ids of Clerk's yet, add a field such as clerkId to them first; " +
		"clerksync links nobody by an address")
}

func names(infos []database.CollectionInfo) []string {
	all := make([]string, len(infos))
	for i, info := range infos {
		all[i] = info.Name
	}
	return all
}

// collection looks at the collection that is named.
func (l *looker) collection(ctx context.Context) (Collection, error) {
	i := slices.IndexFunc(l.infos, func(i database.CollectionInfo) bool { return i.Name == l.Collection })
	switch {
	case i < 0 && len(l.infos) == 0:
		return Collection{}, Question("there is no collection " + l.Collection + ", and no other in the database " +
			l.DB.Name() + ": is it the one of your app (MONGODB_DATABASE)?")
	case i < 0:
		return Collection{}, Question("there is no collection " + l.Collection + ": the database " + l.DB.Name() +
			" has " + list(names(l.infos)))
	case l.infos[i].View:
		return Collection{}, Question(l.Collection + " is a view or a time series, whose rows cannot be changed: " +
			"name another collection")
	}
	c := Collection{CollectionInfo: l.infos[i]}
	rows := l.DB.Collection(l.Collection)
	var err error
	if c.Rows, c.All, err = rows.Sample(ctx, sampleRows, sampleBytes); err != nil {
		return c, err
	}
	if len(c.Rows) == 0 {
		return c, Question(l.Collection + " has no rows yet, so there is nothing to learn from: let one user sign " +
			"up, or write the map by hand")
	}
	if c.Indexes, err = rows.ListIndexes(ctx); err != nil || l.API == nil {
		return c, err
	}
	ids := map[string]bool{}
	for _, f := range survey(c.Rows) {
		for _, v := range f.values {
			if id, ok := v.v.(string); ok && clerk.IsUserID(id) && len(ids) < 2*sampleRows {
				ids[id] = true
			}
		}
	}
	c.Asked, c.Users = true, map[string]clerk.User{}
	for some := range slices.Chunk(sorted(ids), clerk.MaxIDs) {
		users, err := l.API.ListUsers(ctx, some)
		if err != nil {
			return c, err
		}
		for _, u := range users {
			c.Users[u.ID] = u
		}
	}
	return c, nil
}

// strays finds the rows that have the address of one of Clerk's users but no id of Clerk's.
func (l *looker) strays(ctx context.Context, r *Report) error {
	path := ""
	for _, line := range r.Lines {
		if line.Field.From == "primary_email" && !line.Off {
			path = line.Field.Path
			break
		}
	}
	without := func(row bson.Raw) bool {
		id, _ := lookup(row, r.Map.Key).StringValueOK()
		return !clerk.IsUserID(id)
	}
	for _, row := range r.Rows {
		r.Strange += yes(without(row))
	}
	if path == "" || l.API == nil {
		return nil
	}
	rows := r.Rows
	if !r.All {
		var err error
		rows, err = l.DB.Collection(r.Name).Without(ctx, r.Map.Key, sampleRows, sampleBytes)
		if err != nil {
			return err
		}
	}
	addresses := map[string]string{} // the _id of the row, by address
	for _, row := range rows {
		if address, ok := lookup(row, path).StringValueOK(); ok && isAddress(address) && without(row) {
			addresses[strings.ToLower(address)] = database.RowID(row)
		}
	}
	for some := range slices.Chunk(sorted(addresses), clerk.MaxIDs) {
		users, err := l.API.ListByAddress(ctx, some)
		if err != nil {
			return err
		}
		for _, u := range users {
			if row, ok := addresses[strings.ToLower(u.Email)]; ok {
				r.Strays = append(r.Strays, Stray{Row: row, User: u.ID})
			}
		}
	}
	ids := make([]string, len(r.Strays))
	for i, s := range r.Strays {
		ids[i] = s.User
	}
	own, err := l.DB.Collection(r.Name).Taken(ctx, r.Map.Key, ids)
	for i := range r.Strays {
		r.Strays[i].Own = own[r.Strays[i].User]
	}
	slices.SortFunc(r.Strays, func(a, b Stray) int { return cmp.Compare(a.Row, b.Row) })
	return err
}

// IsForbidden tells whether Look failed because the database's user may not look.
func IsForbidden(err error) bool { return !errors.As(err, new(Question)) && database.IsForbidden(err) }

// sorted returns the keys of a map, sorted.
func sorted[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// list returns names as a sentence has them: at most ten.
func list(names []string) string {
	const most = 10
	more := ""
	if len(names) > most {
		names, more = names[:most], fmt.Sprintf(" and %d more", len(names)-most)
	}
	return strings.Join(names, ", ") + more
}
