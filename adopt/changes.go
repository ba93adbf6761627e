package adopt

import (
	"cmp"
	"time"

	"clerksync/store/database"
	"clerksync/store/mapping"
)

// Changes is what the first backfill would change in a row.
type Changes struct {
	Row    string // its _id
	User   string
	Fields []mapping.Difference
}

// changes returns the sampled rows that the first backfill would change, besides giving them clerksync's state and the
// time of the write.
func changes(c *Collection, m *mapping.Map) (all []Changes) {
	fields := mapping.Compile(m, nil)
	for _, raw := range c.Rows {
		id, _ := lookup(raw, m.Key).StringValueOK()
		u, ok := c.Users[id]
		if !ok {
			continue
		}
		// A row keeps its user name if Clerk has none for the user.
		own, _ := lookup(raw, fields.Username).StringValueOK()
		values, err := fields.Values(u, cmp.Or(u.Username, own), time.Now(), false)
		if err != nil {
			continue // metadata that cannot be stored: the backfill says so
		}
		if differences := fields.Differences(raw, values); len(differences) > 0 {
			all = append(all, Changes{Row: database.RowID(raw), User: id, Fields: differences})
		}
	}
	return all
}
