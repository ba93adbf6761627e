package store

import (
	"context"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// Clerk's user ids begin with the one and come before the other. A row with another id is the app's own business.
const (
	firstUserID = "user_"
	afterUserID = "user`"
)

// Count returns how many rows of Clerk's users there are.
func (s *Users) Count(ctx context.Context) (int, error) {
	n, err := s.rows.CountDocuments(ctx, bson.D{{Key: "_id", Value: bson.D{{Key: "$gt", Value: firstUserID}, {Key: "$lt", Value: afterUserID}}}})
	if err != nil {
		return 0, fmt.Errorf("count the users: %w", Redact(err))
	}
	return int(n), nil
}

// IDs returns the ids of the rows of Clerk's users in their order: those after after, which is "" at first, limit at the most.
func (s *Users) IDs(ctx context.Context, after string, limit int) ([]string, error) {
	after = max(after, firstUserID)
	if s.db.IDs != nil {
		ids, err := s.db.IDs(ctx, s.rows.Name(), after, afterUserID, limit)
		if err != nil {
			return nil, fmt.Errorf("list the ids of users: %w", err)
		}
		return ids, nil
	}
	filter := bson.D{{Key: "_id", Value: bson.D{{Key: "$gt", Value: after}, {Key: "$lt", Value: afterUserID}}}}
	id := bson.D{{Key: "_id", Value: 1}}
	cur, err := s.rows.Find(ctx, filter, options.Find().SetProjection(id).SetSort(id).SetLimit(int64(limit)))
	if err != nil {
		return nil, fmt.Errorf("list the ids of users: %w", Redact(err))
	}
	var all []struct {
		ID string `bson:"_id"`
	}
	if err := cur.All(ctx, &all); err != nil {
		return nil, fmt.Errorf("list the ids of users: %w", Redact(err))
	}
	ids := make([]string, len(all))
	for i, d := range all {
		ids[i] = d.ID
	}
	return ids, nil
}
