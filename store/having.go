package store

import (
	"context"
	"errors"
	"strings"

	"clerksync/store/database"
)

// ErrNoField says that the map writes no field from a source.
var ErrNoField = errors.New("the map writes no field with that")

// Having returns at most limit rows that have a text, as it is or in small letters, in the field that is written from a
// source, such as "primary_email". A row that the app has made may have no id. Without an index on the field the
// database reads all rows, so ctx should have a deadline. The error is ErrNoField if the map has no such field.
func (s *Users) Having(ctx context.Context, source, text string, limit int) ([]Row, error) {
	path := ""
	for _, f := range s.m.Fields {
		if f.From == source && (path == "" || f.Compared()) {
			path = f.Path
		}
	}
	if path == "" {
		return nil, ErrNoField
	}
	raws, err := s.rows.Having(ctx, path, []string{text, strings.ToLower(text)}, limit)
	rows := make([]Row, len(raws))
	for i, raw := range raws {
		rows[i] = s.row(database.Text(raw, s.m.Key), s.read(raw))
	}
	return rows, err
}
