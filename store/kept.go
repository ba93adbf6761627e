package store

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"clerksync/store/database"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Document returns the whole row of a user, with what the app has added, as MongoDB's extended JSON
// (https://www.mongodb.com/docs/manual/reference/mongodb-extended-json/). The error is ErrNotFound if there is none.
func (s *Users) Document(ctx context.Context, id string) (json.RawMessage, error) {
	return document(ctx, s.rows, id)
}

// Written returns the names of the fields of a row that clerksync writes. All others are the app's.
func (s *Users) Written() []string {
	m := s.Map()
	names := []string{m.Key}
	for _, f := range m.Fields {
		names = append(names, f.Path)
	}
	return append(names, m.State)
}

// DeletedAt returns when a user's tombstone was made, and whether there is one.
func (s *Users) DeletedAt(ctx context.Context, id string) (at time.Time, there bool, err error) {
	stone, there, err := database.Get[bson.Raw](ctx, s.tombstones.rows, id)
	at, _ = stone.Lookup("deleted_at").TimeOK() // a tombstone counts even if a tool has damaged its time
	return at.UTC(), there, err
}

// Document returns what is kept of a user's welcome mail, as MongoDB's extended JSON. The error is ErrNotFound if there
// is nothing.
func (w *Welcomes) Document(ctx context.Context, userID string) (json.RawMessage, error) {
	return document(ctx, w.rows, userID)
}

// Remove removes what is kept of a user's welcome mail, and tells whether there was anything. Only the user's tombstone
// then keeps a function from sending the mail again.
func (w *Welcomes) Remove(ctx context.Context, userID string) (bool, error) {
	defer w.rows.Lock(userID)()
	return w.rows.DeleteIf(ctx, userID, nil)
}

// document returns the row with an id as extended JSON, or ErrNotFound.
func document(ctx context.Context, c *database.Collection, id string) (json.RawMessage, error) {
	rows, err := c.FindMany(ctx, []string{id})
	switch {
	case err != nil:
		return nil, err
	case rows[id] == nil:
		return nil, ErrNotFound
	}
	text, err := bson.MarshalExtJSON(rows[id], false, false)
	if err != nil {
		return nil, errors.New("the row cannot be written as JSON") // the driver's error may quote a value
	}
	return text, nil
}
