package inbox

import (
	"context"
	"fmt"
	"time"

	"clerksync/store/database"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// Pending is what no function has cleared yet.
type Pending struct {
	Events int
	Oldest time.Time // since when the oldest of them waits: it came then, was replayed, or, if Inngest was away, first sent
}

// ReadPending counts the pending events in the collection clerksync_inbox.
func ReadPending(ctx context.Context, db *database.DB) (Pending, error) {
	filter := bson.D{{Key: "due_at", Value: bson.D{{Key: "$exists", Value: true}}}}
	cur, err := newTable(db).rows.Find(ctx, filter, options.Find().SetProjection(bson.D{{Key: "data", Value: 0}}))
	if err != nil {
		return Pending{}, fmt.Errorf("look for pending events: %w", database.Redact(err))
	}
	var p Pending
	for cur.Next(ctx) {
		var r row
		if err = cur.Decode(&r); err != nil {
			break
		}
		since := r.ReceivedAt
		if r.Replayed || r.Sends > 0 { // the row says until when a function may clear it
			since = r.GiveUpAt.Add(-giveUpAfter)
		}
		if p.Events++; p.Oldest.IsZero() || since.Before(p.Oldest) {
			p.Oldest = since
		}
	}
	if err == nil {
		err = cur.Err()
	}
	if e := cur.Close(ctx); err == nil {
		err = e
	}
	if err != nil {
		return Pending{}, fmt.Errorf("look for pending events: %w", database.Redact(err))
	}
	return p, nil
}
