// Package store keeps the users collection: the version rule, the tombstones and the user names live here and nowhere
// else.
package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"clerksync/store/database"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// ErrNotFound says that there is no row.
var ErrNotFound = errors.New("no such user")

// Users is the collection users with its tombstones. It is safe for concurrent use.
type Users struct {
	db         *database.DB
	rows       *mongo.Collection
	tombstones *mongo.Collection
	locks      *database.Locks // by user id
}

// NewUsers returns the users of db. Call Setup once before the first write.
func NewUsers(db *database.DB) *Users {
	return &Users{
		db:         db,
		rows:       db.Collection("users"),
		tombstones: db.Collection("clerksync_deleted_users"),
		locks:      db.Locks("users"),
	}
}

// Setup makes the indexes. It can be repeated.
func (s *Users) Setup(ctx context.Context) error {
	username, deletedAt := s.indexes()
	return errors.Join(database.EnsureIndex(ctx, s.db.Logger(), s.rows, username), database.EnsureIndex(ctx, s.db.Logger(), s.tombstones, deletedAt))
}

// LackIndexes tells whether Setup has something to do.
func (s *Users) LackIndexes(ctx context.Context) (bool, error) {
	username, deletedAt := s.indexes()
	rows, err := database.LacksIndex(ctx, s.rows, username)
	if rows || err != nil {
		return rows, err
	}
	return database.LacksIndex(ctx, s.tombstones, deletedAt)
}

func (s *Users) indexes() (username, deletedAt database.Index) {
	username = database.Index{Field: "username", Unique: true}
	deletedAt = database.Index{Field: "deleted_at"}
	if !s.db.OneProcess { // FerretDB v1 has no TTL indexes, and its unique ones are sparse
		username.Options = options.Index().SetSparse(true) // rows of the app which have no user name yet do not clash
		deletedAt.Options = options.Index().SetExpireAfterSeconds(int32(TombstoneRetention / time.Second))
	}
	return username, deletedAt
}

// Get returns the row of a user, or ErrNotFound.
func (s *Users) Get(ctx context.Context, id string) (Row, error) {
	rows, err := s.GetMany(ctx, []string{id})
	if err != nil {
		return Row{}, err
	}
	r, ok := rows[id]
	if !ok {
		return Row{}, ErrNotFound
	}
	return r, nil
}

// GetMany returns the rows of those users who have one, by id.
func (s *Users) GetMany(ctx context.Context, ids []string) (map[string]Row, error) {
	all, err := s.find(ctx, ids)
	if err != nil {
		return nil, err
	}
	rows := make(map[string]Row, len(all))
	for id, f := range all {
		rows[id] = f.Row
	}
	return rows, nil
}

// find returns the rows of those users who have one as they are, by id.
func (s *Users) find(ctx context.Context, ids []string) (map[string]found, error) {
	raws, err := s.db.FindMany(ctx, s.rows, ids)
	if err != nil {
		return nil, fmt.Errorf("read users: %w", database.Redact(err))
	}
	rows := make(map[string]found, len(raws))
	for id, raw := range raws {
		rows[id] = readRow(id, raw)
	}
	return rows, nil
}

// ForeignUnique returns the names of the app's own unique indexes on users. Such an index refuses a user who has the
// same value as another, as Clerk's users may: two sign-ups with one address, or no value at all.
func (s *Users) ForeignUnique(ctx context.Context) ([]string, error) {
	unique, err := s.db.UniqueIndexes(ctx, s.rows)
	maps.DeleteFunc(unique, func(_ string, fields []string) bool { return slices.Equal(fields, []string{"username"}) })
	return slices.Sorted(maps.Keys(unique)), err
}
