package store

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"clerksync/store/database"

	"go.mongodb.org/mongo-driver/v2/bson"
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

// Value is what a field of a row holds, for a person to read.
type Value struct{ Path, Text string }

// Values returns what the row's document holds, by dotted path. Times are in UTC.
func (r Row) Values() []Value { return values("", r.Doc) }

func values(path string, doc bson.D) (all []Value) {
	for _, e := range doc {
		at := strings.TrimPrefix(path+"."+e.Key, ".")
		value := e.Value
		if raw, is := value.(bson.RawValue); is {
			value = nil
			_ = raw.Unmarshal(&value) // the rows of the database are BSON
		}
		switch v := value.(type) {
		case bson.D:
			all = append(all, values(at, v)...)
		case bson.DateTime:
			all = append(all, Value{at, v.Time().UTC().Format("2006-01-02 15:04:05.000 UTC")})
		case bson.ObjectID:
			all = append(all, Value{at, v.Hex()})
		case nil:
			all = append(all, Value{at, "null"})
		default:
			all = append(all, Value{at, fmt.Sprint(v)})
		}
	}
	return all
}
