package inbox_test

import (
	"slices"
	"testing"
	"time"

	"clerksync/internal/testenv"
	"clerksync/store/database"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// TestOddRow: a row that cannot be decoded, because somebody or another version wrote it, does not keep the others from
// being sent.
func TestOddRow(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		for id, sends := range map[string]any{"msg_odd": "no number", "msg_good": 1} {
			_, err := db.Collection("clerksync_inbox").InsertOne(t.Context(), bson.D{
				{Key: "_id", Value: id},
				{Key: "name", Value: "clerk/user.created"},
				{Key: "sends", Value: sends},
				{Key: "due_at", Value: time.Now().Add(-time.Minute)},
				{Key: "give_up_at", Value: time.Now().Add(time.Hour)},
				{Key: "data", Value: "{}"},
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		s := &sender{}
		start(t, db, s.Send, time.Minute)
		until(t, "the good one is sent", func() bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			return slices.Contains(s.ids, "msg_good:r1")
		})
	})
}
