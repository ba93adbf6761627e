package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"clerksync/clerk"
	"clerksync/internal/testenv"
	"clerksync/reconcile"
	"clerksync/store"
	"clerksync/store/database"
	"clerksync/store/mapping"

	"github.com/google/go-cmp/cmp"
)

func bury(t *testing.T, db *database.DB, id string) {
	t.Helper()
	users, deletion := store.NewUsers(db, mapping.Default()), store.Write{User: clerk.User{ID: id}, Deleted: true}
	if r := users.Write(t.Context(), []store.Write{deletion}, store.All)[0]; r.Err != nil {
		t.Fatal(r.Err)
	}
}

func restorer(t *testing.T, db *database.DB, fake *testenv.ClerkAPI) *reconcile.Restore {
	t.Helper()
	return &reconcile.Restore{
		API: api(t, fake, 0), Users: store.NewUsers(db, mapping.Default()),
		Watch: 3 * time.Millisecond, Every: time.Millisecond,
		Deletions: func(context.Context, string) (waiting, dead []string, err error) { return nil, nil, nil },
	}
}

// TestFalseTombstone: a user whom Clerk has and who has a tombstone is named by the full tier, by hand and by night;
// restore brings the user back, and then nobody is named.
func TestFalseTombstone(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		fake := testenv.NewClerkAPI(t)
		r, people := reconciler(t, db, fake, 30)
		ada, bob := people[3].ID, people[5].ID
		bury(t, db, ada)
		bury(t, db, bob)
		behind := people[5] // Clerk's list may go on to name who is deleted
		fake.Fail = func(q *http.Request) int {
			if strings.HasSuffix(q.URL.Path, behind.ID) {
				fake.Remove(behind.ID)
			}
			return 0
		}
		want := []string{"buried " + ada}
		for _, dry := range []bool{true, false} {
			r.DryRun = dry
			fake.Put(behind)
			found, drift, err := run(t, r, reconcile.Full)
			if d := cmp.Diff(want, drift); d != "" || err != nil || found.Buried != 1 || found.Missing != 0 {
				t.Errorf("dry %v: got %+v, %v, drift (-want +got):\n%s", dry, found, err, d)
			}
		}
		s, err := reconcile.ReadStatus(t.Context(), r.State)
		if d := cmp.Diff([]string{ada}, s.Buried()); d != "" || err != nil {
			t.Errorf("the status names, %v (-want +got):\n%s", err, d)
		}
		row, err := restorer(t, db, fake).Run(t.Context(), ada)
		if err != nil || row.ID != ada || row.Text("full_name") != "Ada Lovelace 3" {
			t.Fatalf("restore: got %+v, %v", row, err)
		}
		if _, err := store.NewUsers(db, mapping.Default()).Get(t.Context(), ada); err != nil {
			t.Error(err)
		}
		if found, drift, err := run(t, r, reconcile.Full); err != nil || drift != nil {
			t.Errorf("after it: got %+v, %v, %v", found, drift, err)
		}
		if s, err := reconcile.ReadStatus(t.Context(), r.State); err != nil || s.Buried() != nil {
			t.Errorf("after it: the status names %v, %v", s.Buried(), err)
		}
		if _, err := restorer(t, db, fake).Run(t.Context(), ada); err != nil {
			t.Errorf("it may be repeated: %v", err)
		}
	})
}

// TestRestoreRefuses: a tombstone is lifted only if Clerk has the user, and nothing that waits would make another.
func TestRestoreRefuses(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		id            string
		fail          int
		waiting, dead []string
		want          string
	}{
		"no id of a user": {
			id: "count", want: `"count" is no id of a Clerk user: it is user_ and 27 letters and digits`,
		},
		"Clerk does not have the user": {
			id: testenv.UserID(time.Unix(1_767_603_600, 0), 1), want: "no such user at Clerk",
		},
		"Clerk does not answer": {fail: http.StatusTeapot, want: "ask Clerk for a user"},
		"the deletion waits": {
			waiting: []string{"msg_1", "msg_2"},
			want:    "the user's deletion msg_1 waits in the inbox: the user is deleted when it runs",
		},
		"the deletion is dead": {
			dead: []string{"msg_3"}, want: "the user's deletion msg_3 is a dead letter, which may be replayed: drop " +
				"it first (clerksync deadletters drop msg_3)",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := testenv.NewMemory().Connect(t, "test", nil, nil)
			fake := testenv.NewClerkAPI(t)
			_, people := reconciler(t, db, fake, 3)
			id := people[1].ID
			if tc.id != "" {
				id = tc.id
			}
			bury(t, db, id)
			fake.Fail = func(*http.Request) int { return tc.fail }
			r := restorer(t, db, fake)
			r.Deletions = func(_ context.Context, user string) (waiting, dead []string, err error) {
				if user != id {
					t.Errorf("asked for the deletion of %s", user)
				}
				return tc.waiting, tc.dead, nil
			}
			if _, err := r.Run(t.Context(), id); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %s", err, tc.want)
			}
			if dead, err := store.NewUsers(db, mapping.Default()).IsDeleted(t.Context(), id); !dead || err != nil {
				t.Errorf("the tombstone is gone: %v, %v", dead, err)
			}
		})
	}
}

// TestRestoreAndDeletion: a deletion that finds the old tombstone makes none of its own. So Clerk is asked again when
// that is lifted, and who is gone by then is buried again; so is who is deleted while the row is looked at.
func TestRestoreAndDeletion(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		on   int32 // which question to Clerk
		code int   // its answer, if it is another than 404
		want error
	}{
		"deleted after the first question": {on: 2, want: clerk.ErrNoUser},
		"no answer to the second":          {on: 2, code: http.StatusTeapot},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
				fake := testenv.NewClerkAPI(t)
				_, people := reconciler(t, db, fake, 3)
				id := people[1].ID
				bury(t, db, id)
				var asked atomic.Int32
				fake.Fail = func(*http.Request) int {
					if asked.Add(1) == tc.on {
						if tc.code == 0 {
							fake.Remove(id)
						}
						return tc.code
					}
					return 0
				}
				if _, err := restorer(t, db, fake).Run(t.Context(), id); err == nil || tc.want != nil &&
					!errors.Is(err, tc.want) {
					t.Errorf("got %v, want %v", err, tc.want)
				}
				if dead, err := store.NewUsers(db, mapping.Default()).IsDeleted(t.Context(), id); !dead || err != nil {
					t.Errorf("the tombstone is gone: %v", err)
				}
			})
		})
	}
	t.Run("deleted while it looks", func(t *testing.T) {
		t.Parallel()
		db := testenv.NewMemory().Connect(t, "test", nil, nil)
		fake := testenv.NewClerkAPI(t)
		_, people := reconciler(t, db, fake, 3)
		id := people[1].ID
		bury(t, db, id)
		r := restorer(t, db, fake)
		r.Written = func() { bury(t, db, id) }
		if _, err := r.Run(t.Context(), id); !errors.Is(err, reconcile.ErrDeleted) {
			t.Errorf("got %v, want that the user is deleted", err)
		}
	})
}

// TestWhoSawTheTombstone: a row beside a false tombstone is restored while a writer and the clean-up, which have seen
// the tombstone, are about to remove the row. Whenever they do it, the row is there in the end.
func TestWhoSawTheTombstone(t *testing.T) {
	t.Parallel()
	fake := testenv.NewClerkAPI(t)
	ada := testenv.People(1)[0]
	fake.Put(ada)
	u, err := clerk.ParseUser(ada.JSON())
	if err != nil {
		t.Fatal(err)
	}
	old := store.Write{User: u, EventTime: store.EventTime{Clerk: u.ChangedAt}}
	rewritten := map[string]bool{}
	for held := 0; ; held++ { // how many calls of the restore come before the removals
		lab := testenv.NewLab(t, 3)
		writer, sweeper, restore := lab.Processes[0], lab.Processes[1], lab.Processes[2]
		before := store.NewUsers(restore.DB, mapping.Default())
		if r := before.Write(t.Context(), []store.Write{old}, store.All)[0]; r.Err != nil {
			t.Fatal(r.Err)
		}
		if _, err := restore.DB.Collection("clerksync_deleted_users").InsertOne(t.Context(),
			doc{"_id": ada.ID, "deleted_at": time.Now()}); err != nil {
			t.Fatal(err)
		}
		upTo := func(p *testenv.Process, call string, op func(ctx context.Context) error) {
			t.Helper()
			ended, err := p.Start(t.Context(), op)
			for !ended && p.Call() != call {
				ended, err = p.Step(testenv.None)
			}
			if ended {
				t.Fatalf("it ended without a %s: %v", call, err)
			}
		}
		upTo(writer, "delete", func(ctx context.Context) error {
			return store.NewUsers(writer.DB, mapping.Default()).Write(ctx, []store.Write{old}, store.All)[0].Err
		})
		upTo(sweeper, "delete", func(ctx context.Context) error {
			_, _, err := store.NewUsers(sweeper.DB, mapping.Default()).SweepBuried(ctx, "", 10)
			return err
		})

		r := restorer(t, restore.DB, fake)
		writes := 0
		r.Written = func() { writes++ }
		ended, err := restore.Start(t.Context(), func(ctx context.Context) error {
			_, err := r.Run(ctx, ada.ID)
			return err
		})
		for range held {
			if !ended {
				ended, err = restore.Step(testenv.None)
			}
		}
		if ended { // that was all of it
			if err != nil || held < 8 {
				t.Fatalf("it ended after %d calls, %v", held, err)
			}
			break
		}
		watching := writes > 0
		for _, p := range []*testenv.Process{sweeper, writer} {
			for ended := false; !ended; {
				ended, _ = p.Step(testenv.None)
			}
		}
		calls := 0
		for ; !ended; calls++ {
			ended, err = restore.Step(testenv.None)
		}
		rewritten[fmt.Sprint(watching, writes)] = true
		if lab.Row(t, ada.ID) == nil && calls > 2 { // else the last look was over
			t.Errorf("after %d calls of the restore: the row is gone for good, %v", held, err)
		}
		if err != nil {
			t.Errorf("after %d calls of the restore: %v", held, err)
		}
	}
	if !rewritten["true 2"] {
		t.Errorf("no row was written again: %v", slices.Collect(maps.Keys(rewritten)))
	}
}
