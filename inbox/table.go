package inbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"clerksync/store/database"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
)

// table is the collection clerksync_inbox.
type table struct {
	db      *database.DB
	rows    *mongo.Collection
	ingress *mongo.Collection // the same, through the connections that are kept for what Clerk waits for
	locks   *database.Locks   // by svix-id
}

func newTable(db *database.DB) table {
	const name = "clerksync_inbox"
	t := table{db: db, rows: db.Collection(name), locks: db.Locks(name)}
	if t.ingress = t.rows; db.Ingress != nil {
		t.ingress = db.Ingress.Collection(name)
	}
	return t
}

// change updates the row of an event with what f makes of it, unless f makes nothing of it or the row has gone or was
// changed meanwhile. It tells whether it did.
func (t table) change(ctx context.Context, id string, f func(row) bson.D) (bool, error) {
	defer t.locks.Lock(id)()
	var r row
	err := t.rows.FindOne(ctx, byID(id)).Decode(&r)
	if errors.Is(err, mongo.ErrNoDocuments) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read an event: %w", database.Redact(err))
	}
	update := f(r)
	if update == nil {
		return false, nil
	}
	filter := byID(id)
	if !t.db.OneProcess { // there the lock does it
		was := any(r.DueAt)
		if r.DueAt.IsZero() {
			was = bson.D{{Key: "$exists", Value: false}}
		}
		filter = append(filter, bson.E{Key: "due_at", Value: was})
	}
	res, err := t.rows.UpdateOne(ctx, filter, update)
	if err != nil {
		return false, fmt.Errorf("change an event: %w", database.Redact(err))
	}
	return res.MatchedCount > 0, nil
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
