package database_test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"clerksync/internal/testenv"
	"clerksync/store/database"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"
)

type row struct {
	ID string    `bson:"_id"`
	N  int       `bson:"n"`
	At time.Time `bson:"at,omitempty"`
}

// fill inserts rows and returns the collection.
func fill(t *testing.T, db *database.DB, rows ...row) *database.Collection {
	t.Helper()
	c := db.Collection("clerksync_runs")
	for _, r := range rows {
		if _, err := c.InsertOne(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func set(n int) bson.D { return bson.D{{Key: "$set", Value: bson.D{{Key: "n", Value: n}}}} }

// TestChange: a change sees the row, and is made unless there is nothing to change.
func TestChange(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		c := fill(t, db, row{ID: "a", N: 1})
		for _, step := range []struct {
			id   string
			to   bson.D
			want bool
			n    int
		}{{"a", nil, false, 1}, {"a", set(2), true, 2}, {"none", set(3), false, 2}} {
			guard := []string{"n", "at"} // there, and missing
			got, err := database.Change(t.Context(), c, step.id, guard, func(row) bson.D { return step.to })
			if got != step.want || err != nil {
				t.Errorf("%s: got %v, %v, want %v", step.id, got, err, step.want)
			}
			if r, there, err := database.Get[row](t.Context(), c, "a"); r.N != step.n || !there || err != nil {
				t.Errorf("got %+v, %v, %v, want %d", r, there, err, step.n)
			}
		}
	})
}

// TestChangeMeetsAnother: of two processes that have read the same row one changes it, where there may be two; and so
// has a removal.
func TestChangeMeetsAnother(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		if db.OneProcess {
			t.Skip("only one process may write")
		}
		c := fill(t, db, row{ID: "a", N: 1})
		read, _, err := database.Get[bson.Raw](t.Context(), c, "a")
		if err != nil {
			t.Fatal(err)
		}
		got, err := database.Change(t.Context(), c, "a", []string{"n"}, func(row) bson.D {
			if _, err := c.UpdateOne(t.Context(), database.ByID("a"), set(2)); err != nil { // another process
				t.Error(err)
			}
			return set(3)
		})
		if got || err != nil {
			t.Errorf("change: got %v, %v, want that another was quicker", got, err)
		}
		if got, err := c.DeleteIf(t.Context(), "a", database.Guard(read, "n")); got || err != nil {
			t.Errorf("removal: got %v, %v, want that another was quicker", got, err)
		}
	})
}

// TestGuard: only a row that has exactly the values that were read passes, also if that is null or nothing.
func TestGuard(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		if db.OneProcess {
			t.Skip("the lock is the guard")
		}
		values := map[string]bson.D{
			"nothing": {}, "null": {{Key: "v", Value: nil}}, "text": {{Key: "v", Value: "1"}}, "number": {
				{Key: "v", Value: int32(1)},
			},
			"list": {{Key: "v", Value: bson.A{"1"}}}, "object": {{Key: "v", Value: bson.D{{Key: "x", Value: "1"}}}},
		}
		c := db.Collection("clerksync_runs")
		for id, value := range values {
			if _, err := c.InsertOne(t.Context(), append(database.ByID(id), value...)); err != nil {
				t.Fatal(err)
			}
		}
		for id := range values {
			raw, _, err := database.Get[bson.Raw](t.Context(), c, id)
			if err != nil {
				t.Fatal(err)
			}
			for other := range values {
				n, err := c.CountDocuments(t.Context(), append(database.ByID(other), database.Guard(raw, "v")...))
				if got, want := n == 1, other == id; got != want || err != nil {
					t.Errorf("%s by the guard of %s: got %v, %v, want %v", other, id, got, err, want)
				}
			}
		}
	})
}

// TestClaim: of many who want a row at once one gets it, and keeps it until it is free.
func TestClaim(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		processes := []*database.Collection{fill(t, db), fill(t, testenv.AnotherProcess(db))}
		if db.OneProcess {
			processes = processes[:1]
		}
		for _, free := range []bool{false, true} { // new; and with somebody's row whose time is over
			var won atomic.Int64
			var all sync.WaitGroup
			for i := range 8 {
				all.Go(func() {
					mine := bson.D{{Key: "n", Value: i}, {Key: "at", Value: time.Now()}}
					held, ok, err := database.Claim(t.Context(), processes[i%len(processes)], "a", mine,
						func(r row) bool {
							return free && r.At.Before(time.Now().Add(-time.Hour))
						})
					if ok {
						won.Add(1)
					}
					if err != nil || !ok && held.ID != "a" {
						t.Errorf("got %+v, %v", held, err)
					}
				})
			}
			all.Wait()
			if won.Load() != 1 {
				t.Errorf("free %v: %d have it, want 1", free, won.Load())
			}
			old := bson.D{{Key: "$set", Value: bson.D{{Key: "at", Value: time.Now().Add(-2 * time.Hour)}}}}
			if _, err := processes[0].UpdateOne(t.Context(), database.ByID("a"), old); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestInsertEach: each row that cannot be inserted has its error, and no other.
func TestInsertEach(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		c := fill(t, db, row{ID: "id-3", N: 1003}, row{ID: "other", N: 5})
		if err := c.EnsureIndex(t.Context(), database.Index{Field: "n", Unique: true}); err != nil {
			t.Fatal(err)
		}
		var ids []string
		var docs []any
		for i := range 12 {
			ids, docs = append(ids, fmt.Sprint("id-", i)), append(docs, row{ID: fmt.Sprint("id-", i), N: i})
		}
		for i, err := range c.InsertEach(t.Context(), ids, docs) {
			if got, want := database.IsDuplicate(err), i == 3 || i == 5; got != want || err != nil != want {
				t.Errorf("row %d: got %v, want a duplicate: %v", i, err, want)
			}
		}
		rows, err := c.FindMany(t.Context(), append(ids, "none"), "n")
		if len(rows) != 11 || err != nil || rows["id-3"].Lookup("n").AsInt64() != 1003 {
			t.Errorf("got %v, %v, want 11 rows, the old one unchanged", rows, err)
		}
		again := []any{row{ID: "id-2", N: 2000}, row{ID: "id-20", N: 20}}
		there, errs := c.InsertOrFind(t.Context(), []string{"id-2", "id-20"}, again, "n")
		if len(there) != 1 || there["id-2"].Lookup("n").AsInt64() != 2 ||
			!database.IsDuplicate(errs[0]) || errs[1] != nil {
			t.Errorf("got %v, %v, want the row that was there, and the other one inserted", there, errs)
		}
	})
}

// TestOldest: the oldest rows come first, and none that is not old.
func TestOldest(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		now := time.Now()
		var rows []row
		for i, minutes := range []int{-2, -9, 5, -4, -7} {
			rows = append(rows, row{ID: fmt.Sprint("row", i), At: now.Add(time.Duration(minutes) * time.Minute)})
		}
		c := fill(t, db, append(rows, row{ID: "without"})...)
		for limit, want := range map[int][]string{3: {"row1", "row4", "row3"}, 9: {"row1", "row4", "row3", "row0"}} {
			if limit < len(want)+1 && strings.HasSuffix(t.Name(), "/external") {
				continue // it may be the stand-in, which sorts times by their bytes
			}
			var got []string
			old, took, err := database.Oldest[row](t.Context(), c, "at", now, limit)
			for _, r := range old {
				got = append(got, r.ID)
			}
			if diff := cmp.Diff(want, got); diff != "" || err != nil || took > 0 != db.OneProcess {
				t.Errorf("%d: %v, took %s (-want +got):\n%s", limit, err, took, diff)
			}
		}
	})
}

// TestRemoveOldForeignID: a row whose _id is no text ended the clean-up of its collection with an error, every night.
func TestRemoveOldForeignID(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		now := time.Now()
		c := fill(t, db, row{ID: "old", At: now.Add(-time.Hour)}, row{ID: "new", At: now.Add(time.Hour)})
		foreign := bson.D{{Key: "_id", Value: bson.NewObjectID()}, {Key: "at", Value: now.Add(-2 * time.Hour)}}
		if _, err := c.InsertOne(t.Context(), foreign); err != nil {
			t.Fatal(err)
		}
		if n, err := c.RemoveOld(t.Context(), "at", now, 10); n != 1 || err != nil {
			t.Errorf("got %d, %v, want the old row removed", n, err)
		}
	})
}
