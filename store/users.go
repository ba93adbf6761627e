// Package store writes the collection users. The version rule, the tombstones and the choice of user names are here and
// nowhere else.
package store

import (
	"context"
	"errors"

	"clerksync/clerk"
	"clerksync/store/database"
	"clerksync/store/mapping"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// ErrNotFound says that a user has no row.
var ErrNotFound = errors.New("no such user")

// Users is the collection users with its tombstones. It is safe for concurrent use.
type Users struct {
	m          *mapping.Map
	fields     *mapping.Fields
	rows       *database.Collection
	tombstones retention
	watch      func(context.Context, []Change) error // nil if nobody watches
}

// NewUsers returns the users of db, in the collection that m describes. Call Setup once before the first write.
func NewUsers(db *database.DB, m *mapping.Map) *Users {
	rows := db.Collection(m.Collection).KeyedBy(m.Key)
	tombstones := db.Collection("clerksync_deleted_users").LockedWith(rows)
	return &Users{
		m: m, fields: mapping.Compile(m, ownFields()), rows: rows,
		tombstones: retention{tombstones, database.Index{Field: "deleted_at", TTL: TombstoneRetention}},
	}
}

// KeyIndex is the name of the unique index on the key, if that is another field than _id.
const KeyIndex = "clerksync_key"

// indexes returns the unique indexes of the rows. Rows without a user name or without an id of Clerk's, which the app
// may have, do not clash.
func (s *Users) indexes() (all []database.Index) {
	if s.m.Key != mapping.IDField {
		all = append(all, database.Index{Field: s.m.Key, Name: KeyIndex, Unique: true, Texts: true})
	}
	if s.fields.Username != "" {
		all = append(all, database.Index{Field: s.fields.Username, Unique: true})
	}
	return all
}

// Setup makes the indexes. It may be called again. If rows have the same key, it makes no index on it; the error names
// the first of them.
func (s *Users) Setup(ctx context.Context) error {
	var errs []error
	for _, ix := range s.indexes() {
		errs = append(errs, s.rows.EnsureIndex(ctx, ix))
	}
	return errors.Join(append(errs, s.tombstones.Setup(ctx))...)
}

// LacksIndex tells whether Setup has something to do.
func (s *Users) LacksIndex(ctx context.Context) (bool, error) {
	for _, ix := range s.indexes() {
		if lacks, err := s.rows.LacksIndex(ctx, ix); lacks || err != nil {
			return lacks, err
		}
	}
	return s.tombstones.LacksIndex(ctx)
}

// MendIndexes makes those of the indexes that somebody has dropped, and does nothing if all are there.
func (s *Users) MendIndexes(ctx context.Context) error {
	if lacks, err := s.LacksIndex(ctx); !lacks || err != nil {
		return err
	}
	return s.Setup(ctx)
}

// Behind returns how many rows clerksync wrote with a map of other fields. It reads the whole collection.
func (s *Users) Behind(ctx context.Context) (int, error) {
	hash := bson.D{{Key: "$type", Value: "string"}} // anything else is the app's
	if s.fields.Hash != "" {
		hash = bson.D{{Key: "$ne", Value: s.fields.Hash}}
	}
	return s.rows.Count(ctx, bson.D{
		{Key: s.m.State + ".version", Value: bson.D{{Key: "$gt", Value: ""}}}, {Key: s.m.State + ".map", Value: hash},
	})
}

// Get returns the row of a user; the error is ErrNotFound if there is none.
func (s *Users) Get(ctx context.Context, id string) (Row, error) {
	rows, err := s.find(ctx, []string{id})
	switch {
	case err != nil:
		return Row{}, err
	case !rows[id].there:
		return Row{}, ErrNotFound
	}
	return s.row(id, rows[id]), nil
}

// find returns the rows of those users who have one, by id.
func (s *Users) find(ctx context.Context, ids []string) (map[string]found, error) {
	raws, err := s.rows.FindMany(ctx, ids)
	rows := make(map[string]found, len(raws))
	for id, raw := range raws {
		rows[id] = s.read(raw)
	}
	return rows, err
}

// Map returns the map that the rows are written by.
func (s *Users) Map() *mapping.Map { return s.m }

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

// Estimate returns about how many rows and tombstones there are, without reading them. Rows of the app's that are no
// users are among them.
func (s *Users) Estimate(ctx context.Context) (users, tombstones int, err error) {
	if users, err = s.rows.Estimate(ctx); err == nil {
		tombstones, err = s.tombstones.rows.Estimate(ctx)
	}
	return users, tombstones, err
}

// RowID is the id of a row.
type RowID struct {
	ID   string
	Ours bool // clerksync has written the row: it has a version
}

// IDs returns the sorted ids of at most limit rows: those ids that begin as Clerk's do and are greater than after,
// which is "" for the first page.
func (s *Users) IDs(ctx context.Context, after string, limit int) ([]RowID, error) {
	ids, versions, err := s.rows.IDs(ctx, s.m.State+".version", max(after, clerk.UserIDPrefix), afterUserID, limit)
	rows := make([]RowID, len(ids))
	for i, id := range ids {
		rows[i] = RowID{ID: id, Ours: isVersion(versions[i])}
	}
	return rows, err
}

// MapID differs for maps that have the rows in other places or write other fields.
func (s *Users) MapID() string {
	return s.m.Collection + " by " + s.m.Key + " with " + s.m.State + " " + s.fields.Hash
}
