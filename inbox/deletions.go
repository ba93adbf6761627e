package inbox

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"clerksync/clerk"
	"clerksync/store/database"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Deletions returns the ids of the events in the collection clerksync_inbox that say that a user is deleted: of those
// that wait for their function, and of those that are dead letters and were not dropped. It reads all deletions that
// are there.
func Deletions(ctx context.Context, db *database.DB, userID string) (waiting, dead []string, _ error) {
	cur, err := newTable(db).rows.Find(ctx, bson.D{{Key: "name", Value: "clerk/" + clerk.UserDeleted}})
	if err != nil {
		return nil, nil, fmt.Errorf("look for the user's deletion: %w", database.Redact(err))
	}
	for cur.Next(ctx) {
		var r row
		if err = cur.Decode(&r); err != nil {
			break
		}
		id, bad := clerk.ParseDeleted(clerk.Unwrap(json.RawMessage(r.Data)).User)
		switch {
		case bad != nil || id != userID: // another's, or nobody's
		case r.Failure == nil:
			waiting = append(waiting, r.ID)
		case r.Failure.DroppedAt.IsZero():
			dead = append(dead, r.ID)
		}
	}
	if err == nil {
		err = cur.Err()
	}
	if e := cur.Close(ctx); err == nil {
		err = e
	}
	if err != nil {
		return nil, nil, fmt.Errorf("look for the user's deletion: %w", database.Redact(err))
	}
	slices.Sort(waiting)
	slices.Sort(dead)
	return waiting, dead, nil
}
