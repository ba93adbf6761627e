package database

import (
	"context"
	"errors"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// collation has the fields of options.Collation, which the driver can write and not read.
type collation struct {
	Locale          string `bson:"locale"`
	CaseLevel       bool   `bson:"caseLevel"`
	CaseFirst       string `bson:"caseFirst"`
	Strength        int    `bson:"strength"`
	NumericOrdering bool   `bson:"numericOrdering"`
	Alternate       string `bson:"alternate"`
	MaxVariable     string `bson:"maxVariable"`
	Normalization   bool   `bson:"normalization"`
	Backwards       bool   `bson:"backwards"`
}

// Clash returns a row, other than the one with this key, that has these values in the fields of a unique index, or nil
// if there is none. values are in the order of ix.Fields; nil stands for null and for no value, which are the same to
// an index. For this FerretDB v1 reads the whole collection.
func (c *Collection) Clash(ctx context.Context, ix IndexInfo, values []any, key string) (bson.Raw, error) {
	filter := bson.D{{Key: c.key, Value: bson.D{{Key: "$ne", Value: key}}}}
	absent := true
	for i, field := range ix.Fields {
		if values[i] == nil {
			filter = append(filter, bson.E{Key: field, Value: nil})
			continue
		}
		filter, absent = append(filter, bson.E{Key: field, Value: bson.D{{Key: "$eq", Value: values[i]}}}), false
	}
	if ix.Sparse && absent {
		return nil, nil
	}
	if ix.filter != nil {
		filter = append(filter, bson.E{Key: "$and", Value: bson.A{ix.filter}})
	}
	find := options.Find().SetLimit(1)
	if ix.collation != nil {
		find.SetCollation(ix.collation)
	}
	var rows []bson.Raw
	if err := c.findAll(ctx, filter, find, &rows); err != nil || len(rows) == 0 {
		return nil, err
	}
	return rows[0], nil
}

// DuplicateFields returns the fields of the unique index that refused a write, or nil if the server does not say it.
// MongoDB does since version 4.4, in a field of its own; its text quotes values.
func DuplicateFields(err error) (fields []string) {
	var we mongo.BulkWriteError
	if !errors.As(err, &we) {
		return nil
	}
	pattern, _ := we.Raw.Lookup("keyPattern").DocumentOK()
	elements, _ := pattern.Elements()
	for _, e := range elements {
		fields = append(fields, e.Key())
	}
	return fields
}
