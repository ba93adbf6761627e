package inbox

import (
	"context"
	"fmt"
	"time"

	"clerksync/clerk"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Unwritten says since when the oldest events about users are here whose rows may not be written yet. A time is zero if
// there is no such event.
type Unwritten struct {
	Waiting time.Time // when the oldest event was received that no function has cleared
	Dead    time.Time // when the oldest dead letter was received that nobody has dropped
}

// Unwritten looks for the events about users that were received after a time: for deletions another one than for the
// others. It leaves out what was received before, because the rows were compared with Clerk since then. It leaves out
// the events of functions that write no row, too.
func (t Table) Unwritten(ctx context.Context, changesAfter, deletionsAfter time.Time) (u Unwritten, _ error) {
	for _, kind := range []struct {
		names []string
		after time.Time
	}{
		{[]string{EventName(clerk.UserCreated), EventName(clerk.UserUpdated)}, changesAfter},
		{[]string{EventName(clerk.UserDeleted)}, deletionsAfter},
	} {
		of := bson.D{
			{Key: "name", Value: bson.D{{Key: "$in", Value: kind.names}}},
			{Key: "received_at", Value: bson.D{{Key: "$gt", Value: kind.after}}},
		}
		for _, state := range []struct {
			oldest *time.Time
			filter bson.D
		}{
			{&u.Waiting, append(of[:2:2], exists("due_at", true))},
			{&u.Dead, append(of[:2:2], exists("failure", true), exists("failure.dropped_at", false))},
		} {
			at, err := t.rows.FirstTime(ctx, "received_at", state.filter)
			if err != nil {
				return Unwritten{}, fmt.Errorf("look for events that are not written: %w", err)
			}
			if state.oldest.IsZero() || !at.IsZero() && at.Before(*state.oldest) {
				*state.oldest = at
			}
		}
	}
	return u, nil
}
