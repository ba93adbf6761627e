package database

import (
	"context"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// UniqueIndex is a unique index of a collection.
type UniqueIndex struct {
	Name   string
	Fields []string // paths; no two rows may have the same values in all of them
	sparse bool     // rows without all of the fields do not clash
	// partial is the filter of the rows that the index is about; nil means all.
	partial   bson.Raw
	collation *options.Collation // nil means that texts are compared byte by byte
}

// UniqueIndexes returns the unique indexes of the collection, or none if the server cannot list its indexes.
func (c *Collection) UniqueIndexes(ctx context.Context) ([]UniqueIndex, error) {
	cur, err := c.Indexes().List(ctx)
	var specs []struct {
		Name      string   `bson:"name"`
		Key       bson.D   `bson:"key"`
		Unique    bool     `bson:"unique"`
		Sparse    bool     `bson:"sparse"`
		Partial   bson.Raw `bson:"partialFilterExpression"`
		Collation *struct {
			Locale          string `bson:"locale"`
			CaseLevel       bool   `bson:"caseLevel"`
			CaseFirst       string `bson:"caseFirst"`
			Strength        int    `bson:"strength"`
			NumericOrdering bool   `bson:"numericOrdering"`
			Alternate       string `bson:"alternate"`
			MaxVariable     string `bson:"maxVariable"`
			Normalization   bool   `bson:"normalization"`
			Backwards       bool   `bson:"backwards"`
		} `bson:"collation"`
	}
	if err == nil {
		err = cur.All(ctx, &specs)
	}
	if hasCode(err, 26, 59) { // NamespaceNotFound, CommandNotFound
		return nil, nil
	}
	var unique []UniqueIndex
	for _, s := range specs {
		if !s.Unique {
			continue
		}
		ix := UniqueIndex{Name: s.Name, sparse: s.Sparse, partial: s.Partial}
		for _, key := range s.Key {
			ix.Fields = append(ix.Fields, key.Key)
		}
		if s.Collation != nil {
			collation := options.Collation(*s.Collation)
			ix.collation = &collation
		}
		unique = append(unique, ix)
	}
	return unique, c.failed("list the indexes of", err)
}

// Clash returns another row that has these values in the fields of the index, or nil if there is none. values are in
// the order of ix.Fields; nil stands for null and for no value, between which an index makes no difference. The row of
// id itself is no clash. For this FerretDB v1 reads the whole collection.
func (c *Collection) Clash(ctx context.Context, ix UniqueIndex, values []any, id string) (bson.Raw, error) {
	if ix.sparse && !slices.ContainsFunc(values, func(v any) bool { return v != nil }) {
		return nil, nil
	}
	filter := bson.D{{Key: "_id", Value: bson.D{{Key: "$ne", Value: id}}}}
	for i, field := range ix.Fields {
		filter = append(filter, bson.E{Key: field, Value: bson.D{{Key: "$eq", Value: values[i]}}})
	}
	if ix.partial != nil {
		filter = append(filter, bson.E{Key: "$and", Value: bson.A{ix.partial}})
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
