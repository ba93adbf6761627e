package store

import (
	"context"
	"fmt"
	"strings"

	"clerksync/clerk"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// afterUserID is behind all of Clerk's ids of users, which begin with clerk.UserIDPrefix.
const afterUserID = "user`"

// Count returns how many rows of Clerk's users there are: those with an id of its form.
func (s *Users) Count(ctx context.Context) (n int, err error) {
	const page = 10_000
	for after := ""; ; {
		rows, err := s.IDs(ctx, after, page)
		if err != nil {
			return 0, fmt.Errorf("count the users: %w", err)
		}
		for _, r := range rows {
			if clerk.IsUserID(r.ID) {
				n++
			}
		}
		if len(rows) < page {
			return n, nil
		}
		after = rows[page-1].ID
	}
}

// RowID is the id of a row.
type RowID struct {
	ID   string
	Ours bool // the row has a version, so clerksync has written it
}

// IDs returns the ids of rows in their order, those that begin as Clerk's do: those after after, which is "" at first, limit at the most.
func (s *Users) IDs(ctx context.Context, after string, limit int) ([]RowID, error) {
	ids, versions, err := listIDs(ctx, s.db, s.rows, "clerk.version", max(after, clerk.UserIDPrefix), afterUserID, limit)
	if err != nil {
		return nil, fmt.Errorf("list the ids of users: %w", err)
	}
	rows := make([]RowID, len(ids))
	for i, id := range ids {
		rows[i] = RowID{ID: id, Ours: isVersion(versions[i])}
	}
	return rows, nil
}

// listIDs returns the _ids between two others in a collection, in their order, and with each the text that its row has at a path; ""
// where there is no text.
func listIDs(ctx context.Context, db *DB, c *mongo.Collection, path, after, before string, limit int) (ids, texts []string, _ error) {
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
