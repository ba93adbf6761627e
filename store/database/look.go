package database

import (
	"context"
	"errors"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// This file has what looks at an app's collection without knowing what is in it.

// CollectionInfo is what a database says of one of its collections.
type CollectionInfo struct {
	Name      string
	View      bool     // a view or a time series: rows cannot be changed in it
	Capped    bool     // of a fixed size: the oldest rows go when new ones come
	Validator bson.Raw // what documents must be like; nil for none
	Lenient   bool     // what the validator does not like is only logged
}

// Collections returns the collections of the database, those of the app too, in no particular order. listed is false if
// it failed, and for servers that speak MongoDB's protocol but cannot list collections.
func (db *DB) Collections(ctx context.Context) (infos []CollectionInfo, listed bool, _ error) {
	specs, err := db.ListCollectionSpecifications(ctx, bson.D{})
	if hasCode(err, 59) { // CommandNotFound
		return nil, false, nil
	}
	for _, s := range specs {
		var o struct {
			Capped    bool     `bson:"capped"`
			Validator bson.Raw `bson:"validator"`
			Action    string   `bson:"validationAction"`
		}
		_ = bson.Unmarshal(s.Options, &o) // options in a form that we do not know are none
		infos = append(infos, CollectionInfo{
			Name: s.Name, View: s.Type != "" && s.Type != "collection", Capped: o.Capped, Validator: o.Validator,
			Lenient: o.Action == "warn",
		})
	}
	return infos, err == nil, Redact(err)
}

// IsForbidden tells whether the database refused because its user lacks a right.
func IsForbidden(err error) bool { return hasCode(err, 13) } // Unauthorized

// Sample returns at most limit different rows chosen at random, or the first ones if the database cannot choose. It
// stops when it has read maxBytes. all tells whether the collection has no more rows than these.
func (c *Collection) Sample(ctx context.Context, limit, maxBytes int) (rows []bson.Raw, all bool, _ error) {
	pipeline := mongo.Pipeline{{{Key: "$sample", Value: bson.D{{Key: "size", Value: limit}}}}}
	cur, err := c.Aggregate(ctx, pipeline, options.Aggregate().SetBatchSize(batch))
	rows, all, err = readSome(ctx, cur, err, limit, maxBytes)
	// FerretDB v1 has no $sample, and on a large collection it may take too long.
	if err != nil && !IsForbidden(err) && ctx.Err() == nil {
		cur, err = c.Find(ctx, bson.D{}, options.Find().SetLimit(int64(limit)).SetBatchSize(batch))
		rows, all, err = readSome(ctx, cur, err, limit, maxBytes)
	}
	return rows, all, c.failed("read", err)
}

// Without returns at most limit rows that have nothing or null in a field. It stops when it has read maxBytes.
func (c *Collection) Without(ctx context.Context, field string, limit, maxBytes int) ([]bson.Raw, error) {
	cur, err := c.Find(ctx, bson.D{{Key: field, Value: nil}}, options.Find().SetLimit(int64(limit)).SetBatchSize(batch))
	rows, _, err := readSome(ctx, cur, err, limit, maxBytes)
	return rows, c.failed("read", err)
}

// batch is how many rows one answer of the database has, so that little more than maxBytes is read.
const batch = 100

// readSome returns the rows of a cursor, each once: $sample may return a row twice. err is that of opening the cursor.
func readSome(
	ctx context.Context, cur *mongo.Cursor, err error, limit, maxBytes int,
) (rows []bson.Raw, all bool, _ error) {
	if err != nil {
		return nil, false, err
	}
	n, size, had := 0, 0, map[string]bool{}
	for size < maxBytes && cur.Next(ctx) {
		n, size = n+1, size+len(cur.Current)
		if id := cur.Current.Lookup("_id").String(); !had[id] {
			had[id] = true
			rows = append(rows, append(bson.Raw(nil), cur.Current...)) // the cursor uses its memory again
		}
	}
	return rows, n < limit && size < maxBytes, errors.Join(cur.Err(), cur.Close(ctx))
}

// Having returns at most limit rows that have one of the texts in a field.
func (c *Collection) Having(ctx context.Context, field string, texts []string, limit int) (rows []bson.Raw, _ error) {
	err := c.findAll(ctx, oneOf(field, texts), options.Find().SetLimit(int64(limit)), &rows)
	return rows, err
}
