package database

import (
	"context"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// ListIDs returns the _ids between two others in a collection, in their order, and with each the text that its row has at a path; ""
// where there is no text.
func (db *DB) ListIDs(ctx context.Context, c *mongo.Collection, path, after, before string, limit int) (ids, texts []string, _ error) {
	if db.IDs != nil {
		return db.IDs(ctx, c.Name(), path, after, before, limit)
	}
	between := bson.D{{Key: "_id", Value: bson.D{{Key: "$gt", Value: after}, {Key: "$lt", Value: before}}}}
	id := bson.E{Key: "_id", Value: 1}
	cur, err := c.Find(ctx, between, options.Find().SetProjection(bson.D{id, {Key: path, Value: 1}}).SetSort(bson.D{id}).SetLimit(int64(limit)))
	if err != nil {
		return nil, nil, Redact(err)
	}
	var all []bson.Raw
	if err := cur.All(ctx, &all); err != nil {
		return nil, nil, Redact(err)
	}
	for _, row := range all {
		text, _ := row.Lookup(strings.Split(path, ".")...).StringValueOK()
		ids, texts = append(ids, row.Lookup("_id").StringValue()), append(texts, text)
	}
	return ids, texts, nil
}
