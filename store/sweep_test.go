package store_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"clerksync/clerk"
	"clerksync/internal/testenv"
	"clerksync/store"
	"clerksync/store/database"
	"clerksync/store/mapping"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// TestRowBesideTombstone: a writer that died between its write and its look for the tombstone has left a row. The
// clean-up removes it, page by page, and no other: not those of the living, and none that the app made.
func TestRowBesideTombstone(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		s := users(t, db)
		id := func(i int) string { return testenv.UserID(time.Unix(1_767_603_600, 0), int64(i)) }
		var writes []store.Write
		for i := range 25 {
			writes = append(writes, store.Write{
				User: clerk.User{ID: id(i), FullName: "Ada", ChangedAt: 5}, EventTime: store.EventTime{Clerk: 10},
			})
		}
		for _, r := range s.Write(t.Context(), writes, store.All) {
			if r.Err != nil {
				t.Fatal(r.Err)
			}
		}
		bury := func(id string) {
			if _, err := db.Collection("clerksync_deleted_users").InsertOne(t.Context(),
				bson.D{{Key: "_id", Value: id}, {Key: "deleted_at", Value: time.Now()}}); err != nil {
				t.Fatal(err)
			}
		}
		for i := 10; i < 40; i++ { // 25 and up have no row
			bury(id(i))
		}
		for _, own := range []string{"user_system", id(99)} {
			bury(own)
			if _, err := db.Collection("users").InsertOne(t.Context(),
				bson.D{{Key: "_id", Value: own}, {Key: "username", Value: own}}); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 { // the second finds nothing
			var removed []int
			next, pages := "", 0
			for ; pages == 0 || next != ""; pages++ {
				n, after, err := s.SweepBuried(t.Context(), next, 10)
				if err != nil || after != "" && after <= next {
					t.Fatalf("after %q: got %q, %v", next, after, err)
				}
				removed, next = append(removed, n), after
			}
			t.Log("removed", removed)
			if pages != 4 {
				t.Errorf("%d pages, want 32 tombstones in 4", pages)
			}
		}
		for i := range 25 {
			if _, err := s.Get(t.Context(), id(i)); errors.Is(err, store.ErrNotFound) != (i >= 10) {
				t.Errorf("user %d: %v, want that only the deleted are gone", i, err)
			}
		}
		for _, own := range []string{"user_system", id(99)} {
			if n, err := db.Collection("users").CountDocuments(t.Context(), bson.D{{Key: "_id", Value: own}}); n != 1 ||
				err != nil {
				t.Errorf("the app's row %s is gone: %v", own, err)
			}
		}
	})
}

// TestSweepMeetsRestore: a row that was written after the sweep has seen it is no longer the one beside the tombstone,
// and one whose tombstone was lifted is left alone, wherever between two calls that happens.
func TestSweepMeetsRestore(t *testing.T) {
	t.Parallel()
	id := testenv.UserID(time.Unix(1_767_603_600, 0), 1)
	for held := range 5 {
		t.Run(fmt.Sprint(held), func(t *testing.T) {
			t.Parallel()
			lab := testenv.NewLab(t, 2)
			sweeper, other := lab.Processes[0], store.NewUsers(lab.Processes[1].DB, mapping.Default())
			write := store.Write{
				User: clerk.User{ID: id, FullName: "Ada", ChangedAt: 5}, EventTime: store.EventTime{Clerk: 10},
			}
			if r := other.Write(t.Context(), []store.Write{write}, store.All)[0]; r.Err != nil {
				t.Fatal(r.Err)
			}
			if _, err := lab.Processes[1].DB.Collection("clerksync_deleted_users").InsertOne(t.Context(),
				bson.D{{Key: "_id", Value: id}}); err != nil {
				t.Fatal(err)
			}
			s := store.NewUsers(sweeper.DB, mapping.Default())
			ended, err := sweeper.Start(t.Context(), func(ctx context.Context) error {
				_, _, err := s.SweepBuried(ctx, "", 10)
				return err
			})
			for n := 0; n < held && !ended; n++ {
				ended, err = sweeper.Step(testenv.None)
			}
			if ended || err != nil {
				if held < 4 {
					t.Fatalf("the sweep ended after %d calls, %v", held, err)
				}
				return
			}
			lifted, err := other.Lift(t.Context(), id)
			if !lifted || err != nil {
				t.Fatal(lifted, err)
			}
			write.EventTime.Clerk = 11
			if r := other.Write(t.Context(), []store.Write{write}, store.All)[0]; r.Err != nil ||
				!slices.Contains([]store.Outcome{store.Unchanged, store.Created}, r.Outcome) {
				t.Fatal(r)
			}
			for !ended {
				if ended, err = sweeper.Step(testenv.None); err != nil {
					t.Fatal(err)
				}
			}
			if lab.Row(t, id) == nil {
				t.Error("the row that was restored is gone")
			}
		})
	}
}
