package database

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// idField is the field by which MongoDB itself identifies a row.
const idField = "_id"

// KeyedBy returns the collection with another key than _id: the path of a field that holds a text. Its methods then
// find rows by this text. FerretDB v1 reads the whole collection for that.
func (c *Collection) KeyedBy(path string) *Collection {
	return &Collection{c.Collection, c.db, c.locks, path}
}

// keyOf returns the key of a row. ok is false if the key is no text, or lies in a list: a filter finds such rows of the
// app's too.
func (c *Collection) keyOf(row bson.Raw) (id string, ok bool) {
	return lookup(row, c.key).StringValueOK()
}

// findKeyed returns the rows with these keys. If fields are named, it reads only these, the key and the _id.
func (c *Collection) findKeyed(ctx context.Context, ids, fields []string) ([]bson.Raw, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	if len(fields) > 0 {
		fields = append(slices.Clone(fields), c.key)
	}
	filter := c.byKeys(ids)
	if len(ids) == 1 {
		filter = c.byKey(ids[0])
	}
	var rows []bson.Raw
	err := c.findAll(ctx, filter, options.Find().SetProjection(only(fields)), &rows)
	return slices.DeleteFunc(rows, func(row bson.Raw) bool { _, ok := c.keyOf(row); return !ok }), err
}

// deleteKeyed removes those of the rows that exist. It reads them first, so that it does not remove a row of the app's
// with a list that has one of the keys.
func (c *Collection) deleteKeyed(ctx context.Context, ids []string) error {
	rows, err := c.findKeyed(ctx, ids, []string{idField})
	if err != nil || len(rows) == 0 {
		return err
	}
	of := bson.A{}
	for _, row := range rows {
		of = append(of, row.Lookup(idField))
	}
	if c.db.OneProcess {
		return sideBySide(len(of), func(i int) error {
			_, err := c.DeleteOne(ctx, bson.D{{Key: idField, Value: of[i]}})
			return err
		})
	}
	_, err = c.DeleteMany(ctx, append(c.byKeys(ids), bson.E{Key: idField, Value: bson.D{{Key: "$in", Value: of}}}))
	return err
}

// refuseDoubles returns an error that names rows with the same text in a field, or nil if there are none.
func (c *Collection) refuseDoubles(ctx context.Context, field string) error {
	ctx, cancel := context.WithTimeout(ctx, indexTimeout)
	defer cancel()
	find := options.Find().SetSort(bson.D{{Key: field, Value: 1}}).SetProjection(bson.D{{Key: field, Value: 1}})
	if !c.db.OneProcess {
		find.SetAllowDiskUse(true)
	}
	cur, err := c.Find(ctx, bson.D{{Key: field, Value: bson.D{{Key: "$gt", Value: ""}}}}, find)
	if err != nil {
		return c.failed("read", err)
	}
	defer cur.Close(ctx)
	var doubles []string
	var last bson.Raw
	named := false // last is in doubles
	for cur.Next(ctx) && len(doubles) < maxDoubles {
		text, ok := lookup(cur.Current, field).StringValueOK()
		if !ok {
			continue
		}
		switch before, _ := lookup(last, field).StringValueOK(); {
		case last == nil || text != before:
			named = false
		case named:
			doubles = append(doubles, RowID(cur.Current))
		default:
			doubles, named = append(doubles, RowID(last), RowID(cur.Current)), true
		}
		last = slices.Clone(cur.Current)
	}
	if err := cur.Err(); err != nil || len(doubles) == 0 {
		return c.failed("read", err)
	}
	return fmt.Errorf("the collection %s has rows with the same %s: %s: leave one row for each of them, nothing is "+
		"merged", c.Name(), field, strings.Join(doubles, ", "))
}

// maxDoubles is how many rows refuseDoubles names.
const maxDoubles = 10

// RowID returns the _id of a row for a message, unless it may be personal data, such as an address.
func RowID(row bson.Raw) string {
	id := row.Lookup(idField)
	if oid, ok := id.ObjectIDOK(); ok {
		return oid.Hex()
	}
	if text, ok := id.StringValueOK(); ok && regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]{0,99}$`).MatchString(text) {
		return text
	}
	return "a row whose _id is not shown here"
}
