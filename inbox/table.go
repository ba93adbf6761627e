package inbox

import (
	"context"
	"fmt"
	"time"

	"clerksync/store/database"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// table is the collection clerksync_inbox.
type table struct {
	rows    *database.Collection // by svix-id
	ingress *database.Collection // the same, through the connections that are kept for what Clerk waits for
}

func newTable(db *database.DB) table {
	rows := db.Collection("clerksync_inbox")
	return table{rows, rows.Ingress()}
}

// change updates the row of an event with what f makes of it, unless f makes nothing of it or the row has gone or was
// changed meanwhile. It tells whether it did.
func (t table) change(ctx context.Context, id string, f func(row) bson.D) (bool, error) {
	done, err := database.Change(ctx, t.rows, id, []string{"due_at"}, f)
	if err != nil {
		return false, fmt.Errorf("change an event: %w", err)
	}
	return done, nil
}

// revive makes a failed event pending again. It tells whether it did, and whether the event was pending before.
func (t table) revive(ctx context.Context, id string) (done, pending bool, err error) {
	now := time.Now()
	done, err = t.change(ctx, id, func(r row) bson.D {
		if pending = r.Failure == nil; pending {
			return nil
		}
		return bson.D{
			{Key: "$set", Value: bson.D{{Key: "due_at", Value: now}, {Key: "give_up_at", Value: now.Add(giveUpAfter)}, {Key: "replayed", Value: r.Replayed || r.Failure.RunID != ""}, {Key: "accepted", Value: 0}}},
			{Key: "$unset", Value: bson.D{{Key: "failure", Value: ""}}},
		}
	})
	return done, pending, err
}
