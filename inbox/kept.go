package inbox

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"clerksync/clerk"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Kept is an event in the collection, pending or failed.
type Kept struct {
	Event
	Failure    *Failure  // nil if it is pending
	ReceivedAt time.Time // see DeadLetter
	Sends      int       // likewise
	Deletion   bool      // it says that the user is deleted, and has nothing of the user but the id
}

// OfUser returns the events that are about a user, the oldest first, and the sorted ids of the other events in which
// the user's id stands, because another user's metadata or an error has it. It reads all events in the collection.
func (t Table) OfUser(ctx context.Context, userID string) (of []Kept, naming []string, _ error) {
	err := t.eachRaw(ctx, bson.D{}, bson.D{}, func(raw bson.Raw) error {
		if !bytes.Contains(raw, []byte(userID)) { // most rows need not be decoded
			return nil
		}
		var r row
		if err := bson.Unmarshal(raw, &r); err != nil {
			return fmt.Errorf("row %s: %w", raw.Lookup("_id"), err)
		}
		is, deletion := clerk.IsOf(json.RawMessage(r.Data), userID)
		if !is {
			naming = append(naming, r.ID)
			return nil
		}
		of = append(of, Kept{r.event(), r.Failure, r.ReceivedAt, r.Sends, deletion})
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("look for the user's events: %w", err)
	}
	slices.SortFunc(of, func(a, b Kept) int {
		return cmp.Or(a.ReceivedAt.Compare(b.ReceivedAt), strings.Compare(a.ID, b.ID))
	})
	slices.Sort(naming)
	return of, naming, nil
}

// Remove removes events, whether they are pending or failed. No function will have them.
func (t Table) Remove(ctx context.Context, ids []string) error { return t.rows.DeleteEach(ctx, ids) }
