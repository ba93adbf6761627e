package store_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"clerksync/internal/testenv"
	"clerksync/store"
	"clerksync/store/database"
	"clerksync/store/mapping"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// TestForget: old tombstones and claims go, a bounded number at a time; new ones stay.
func TestForget(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		s, w := users(t, db), store.NewWelcomes(db)
		for i := range 5 {
			id := fmt.Sprint("user_", i)
			testenv.Delete(t, s, id)
			if _, err := w.Claim(t.Context(), id, "run"); err != nil {
				t.Fatal(err)
			}
		}
		past, future := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
		for _, step := range []struct {
			before time.Time
			want   int
		}{{past, 0}, {future, 3}, {future, 2}, {future, 0}} {
			n, err := s.ForgetDeleted(t.Context(), step.before, 3)
			m, err2 := w.Forget(t.Context(), step.before, 3)
			if n != step.want || m != step.want || errors.Join(err, err2) != nil {
				t.Errorf("got %d tombstones and %d claims, %v, want %d", n, m, errors.Join(err, err2), step.want)
			}
		}
		if dead, err := s.IsDeleted(t.Context(), "user_0"); dead || err != nil {
			t.Errorf("got %v, %v, want it forgotten", dead, err)
		}
	})
}

// afterFirst is a gate that does something between the first command, which looks for what is old, and what follows.
type afterFirst struct {
	once sync.Once
	do   func()
}

func (*afterFirst) Command(string) testenv.Verdict { return testenv.Apply }
func (g *afterFirst) Answered(bson.D)              { g.once.Do(g.do) }

// TestCleanUpRemovesWhatIsFreshAgain: the clean-up looked for old rows, and then removed them by their ids alone: also
// a tombstone or claim that was renewed between the two, so that a late update could bring back the user.
func TestCleanUpRemovesWhatIsFreshAgain(t *testing.T) {
	t.Parallel()
	for _, collection := range []struct {
		name, field string
		forget      func(db *database.DB, before time.Time) (int, error)
	}{
		{"clerksync_deleted_users", "deleted_at", func(db *database.DB, before time.Time) (int, error) {
			return store.NewUsers(db, mapping.Default()).ForgetDeleted(t.Context(), before, 10)
		}},
		{"clerksync_welcome_mails", "claimed_at", func(db *database.DB, before time.Time) (int, error) {
			return store.NewWelcomes(db).Forget(t.Context(), before, 10)
		}},
	} {
		for _, oneProcess := range []bool{false, true} {
			memory := testenv.NewMemory()
			other := memory.Connect(t, "test", nil, nil).Collection(collection.name)
			now := time.Now()
			for _, id := range []string{"user_old", "user_renewed"} {
				row := bson.D{{Key: "_id", Value: id}, {Key: collection.field, Value: now.Add(-2 * time.Hour)}}
				if _, err := other.InsertOne(t.Context(), row); err != nil {
					t.Fatal(err)
				}
			}
			gate := &afterFirst{do: func() {
				renewal := bson.D{{Key: "$set", Value: bson.D{{Key: collection.field, Value: now}}}}
				if _, err := other.UpdateByID(t.Context(), "user_renewed", renewal); err != nil {
					t.Error(err)
				}
			}}
			db := memory.Connect(t, "test", gate, nil)
			db.OneProcess = oneProcess
			if n, err := collection.forget(db, now.Add(-time.Hour)); n != 1 || err != nil {
				t.Errorf("%s, one process %v: got %d, %v, want 1", collection.name, oneProcess, n, err)
			}
			if docs := memory.Docs("test", collection.name); len(docs) != 1 || docs[0][0].Value != "user_renewed" {
				t.Errorf("%s, one process %v: got %v, want user_renewed alone", collection.name, oneProcess, docs)
			}
		}
	}
}
