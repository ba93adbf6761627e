// Package store writes the collection users. The version rule, the tombstones and the choice of user names are here and
// nowhere else.
package store

import (
	"context"
	"errors"

	"clerksync/clerk"
	"clerksync/store/database"
	"clerksync/store/mapping"
)

// ErrNotFound says that a user has no row.
var ErrNotFound = errors.New("no such user")

// Users is the collection users with its tombstones. It is safe for concurrent use.
type Users struct {
	fields     *mapping.Map
	rows       *database.Collection
	tombstones retention
}

// NewUsers returns the users of db, in the collection that m describes. Call Setup once before the first write.
func NewUsers(db *database.DB, m *mapping.Map) *Users {
	rows := db.Collection(m.Collection)
	tombstones := db.Collection("clerksync_deleted_users").LockedWith(rows)
	return &Users{m, rows, retention{tombstones, database.Index{Field: "deleted_at", TTL: TombstoneRetention}}}
}

// usernames returns the unique index on the user names. Rows without a user name, which the app may have, do not clash.
func usernames() database.Index { return database.Index{Field: "username", Unique: true} }

// Setup makes the indexes. It may be called again.
func (s *Users) Setup(ctx context.Context) error {
	return errors.Join(s.rows.EnsureIndex(ctx, usernames()), s.tombstones.Setup(ctx))
}

// LacksIndex tells whether Setup has something to do.
func (s *Users) LacksIndex(ctx context.Context) (bool, error) {
	if lacks, err := s.rows.LacksIndex(ctx, usernames()); lacks || err != nil {
		return lacks, err
	}
	return s.tombstones.LacksIndex(ctx)
}

// Get returns the row of a user; the error is ErrNotFound if there is none.
func (s *Users) Get(ctx context.Context, id string) (Row, error) {
	rows, err := s.find(ctx, []string{id})
	if err == nil && !rows[id].there {
		err = ErrNotFound
	}
	return rows[id].Row, err
}

// find returns the rows of those users who have one, by id.
func (s *Users) find(ctx context.Context, ids []string) (map[string]found, error) {
	raws, err := s.rows.FindMany(ctx, ids)
	rows := make(map[string]found, len(raws))
	for id, raw := range raws {
		rows[id] = readRow(id, raw)
	}
	return rows, err
}

// ForeignUnique returns the names of the app's own unique indexes on users. Such an index refuses a row with the same
// value as another row. Clerk's users may have the same value, such as one address in two sign-ups, or no value at all.
func (s *Users) ForeignUnique(ctx context.Context) ([]string, error) {
	return s.rows.ForeignUnique(ctx, usernames().Field)
}

// Indexes returns the indexes of the collection, ours and the app's; none if the server cannot list them.
func (s *Users) Indexes(ctx context.Context) ([]database.IndexInfo, error) {
	return s.rows.ListIndexes(ctx)
}

// Map returns the map that the rows are written by.
func (s *Users) Map() *mapping.Map { return s.fields }

// afterUserID sorts after all user ids of Clerk, which begin with clerk.UserIDPrefix.
const afterUserID = "user`"

// Count returns how many rows have an id in the form that Clerk gives its users.
func (s *Users) Count(ctx context.Context) (n int, err error) {
	const page = 10_000
	for after := ""; ; {
		rows, err := s.IDs(ctx, after, page)
		if err != nil {
			return 0, err
		}
		for _, r := range rows {
			if clerk.IsUserID(r.ID) {
				n++
			}
		}
		if len(rows) < page {
			return n, nil
		}
		after = rows[page-1].ID
	}
}

// RowID is the id of a row.
type RowID struct {
	ID   string
	Ours bool // clerksync has written the row: it has a version
}

// IDs returns the sorted ids of at most limit rows: those ids that begin as Clerk's do and are greater than after,
// which is "" for the first page.
func (s *Users) IDs(ctx context.Context, after string, limit int) ([]RowID, error) {
	ids, versions, err := s.rows.IDs(ctx, "clerk.version", max(after, clerk.UserIDPrefix), afterUserID, limit)
	rows := make([]RowID, len(ids))
	for i, id := range ids {
		rows[i] = RowID{ID: id, Ours: isVersion(versions[i])}
	}
	return rows, err
}
