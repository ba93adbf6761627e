package testenv

import (
	"testing"

	"clerksync/store"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Row is a row as the default map has it.
type Row struct {
	ID             string      `bson:"_id"`
	Email          string      `bson:"email,omitempty"`
	FullName       string      `bson:"full_name"`
	ProfilePicture string      `bson:"profile_picture"`
	Username       string      `bson:"username"`
	Clerk          store.State `bson:"clerk"`
}

// RowOf returns a row of the default map.
func RowOf(t testing.TB, r store.Row) (row Row) {
	t.Helper()
	b, err := bson.Marshal(r.Doc)
	if err != nil {
		t.Fatal(err)
	}
	if err := bson.Unmarshal(b, &row); err != nil {
		t.Fatal(err)
	}
	return row
}

// Get returns the row of a user, of the default map.
func Get(t testing.TB, users *store.Users, id string) (Row, error) {
	t.Helper()
	r, err := users.Get(t.Context(), id)
	if err != nil {
		return Row{}, err
	}
	return RowOf(t, r), nil
}
