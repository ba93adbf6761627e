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
