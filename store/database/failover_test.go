package database_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"clerksync/internal/testenv"
	"clerksync/store/database"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.mongodb.org/mongo-driver/v2/bson"
)

// TestFailover: a failover in the middle of a call does no harm, docs/adr/0009-what-each-call-needs.md: the driver
// repeats the call, and a write is done once; or the call fails with an error that is worth another try, and then that
// try does what is left.
func TestFailover(t *testing.T) {
	t.Parallel()
	each := func(errs []error) error {
		for _, err := range errs {
			if err != nil {
				return err
			}
		}
		return nil
	}
	entry, err := bson.Marshal(bson.D{{Key: "at", Value: "1"}})
	if err != nil {
		t.Fatal(err)
	}
	push := database.Push{
		ID: "new", List: "list", Entry: entry, Unless: []database.Has{{List: "list", Field: "at", Text: "1"}},
	}
	pushed := bson.D{{Key: "_id", Value: "new"}, {Key: "list", Value: bson.A{bson.D{{Key: "at", Value: "1"}}}}}
	calls := map[string]struct {
		command string
		do      func(ctx context.Context, c *database.Collection) error
		want    []bson.D // the rows, of which one is there before: a
		fails   bool     // the driver does not repeat it
	}{
		"insert": {command: "insert", do: func(ctx context.Context, c *database.Collection) error {
			return each(c.InsertEach(ctx, []string{"b"}, []any{database.ByID("b")}))
		}, want: []bson.D{rowA(0), database.ByID("b")}},
		"update": {command: "update", do: func(ctx context.Context, c *database.Collection) error {
			_, err := database.Change(ctx, c, "a", []string{"n"}, func(bson.Raw) bson.D { return setN(1) })
			return err
		}, want: []bson.D{rowA(1)}},
		"bulk update": {command: "update", do: func(ctx context.Context, c *database.Collection) error {
			guard := bson.D{{Key: "n", Value: int32(0)}}
			return each(c.UpdateEach(ctx, []database.Update{{ID: "a", Guard: guard, Change: setN(1)}}))
		}, want: []bson.D{rowA(1)}},
		"upsert": {command: "update", do: func(ctx context.Context, c *database.Collection) error {
			return each(c.PushEach(ctx, database.Lists{By: "at", Keep: 5}, []database.Push{push}))
		}, want: []bson.D{rowA(0), pushed}},
		"find and delete": {command: "findAndModify", do: func(ctx context.Context, c *database.Collection) error {
			_, there, err := database.Take[bson.Raw](ctx, c, "a", "n")
			if err == nil && !there {
				return errNotTold
			}
			return err
		}},
		"delete": {command: "delete", do: func(ctx context.Context, c *database.Collection) error {
			return c.DeleteEach(ctx, []string{"a"})
		}},
		"delete many": {command: "delete", do: func(ctx context.Context, c *database.Collection) error {
			return c.DeleteEach(ctx, []string{"a", "b"})
		}, fails: true},
		"find": {command: "find", do: func(ctx context.Context, c *database.Collection) error {
			_, err := c.FindMany(ctx, []string{"a", "b"})
			return err
		}, want: []bson.D{rowA(0)}},
		"count": {command: "aggregate", do: func(ctx context.Context, c *database.Collection) error {
			_, err := c.Count(ctx, bson.D{})
			return err
		}, want: []bson.D{rowA(0)}},
		"index": {command: "createIndexes", do: func(ctx context.Context, c *database.Collection) error {
			return c.EnsureIndex(ctx, database.Index{Field: "n"})
		}, want: []bson.D{rowA(0)}, fails: true},
	}
	faults := map[string]testenv.Failover{
		"stepped down": testenv.SteppedDown, "died before": testenv.DiedBefore, "died after": testenv.DiedAfter,
		"unacknowledged": testenv.Unacknowledged,
	}
	var all sync.WaitGroup // and not subtests: each waits half a second for the driver to look again
	defer all.Wait()
	for call, tc := range calls {
		for fault, meets := range faults {
			if meets == testenv.Unacknowledged && slices.Contains([]string{"find", "aggregate"}, tc.command) {
				continue
			}
			set := testenv.NewReplicaSet(t)
			db := testenv.Connect(t, set.URI(), "test")
			rows := db.Collection("rows")
			if err := each(rows.InsertEach(t.Context(), []string{"a"}, []any{rowA(0)})); err != nil {
				t.Fatal(err)
			}
			set.OnCommand(once(tc.command, meets))
			all.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				err := tc.do(ctx, rows)
				if fails := err != nil; fails != tc.fails {
					t.Errorf("%s, %s: got error %v, want one: %v", call, fault, err, tc.fails)
				}
				if err != nil {
					if !database.MayPass(err) || !database.WorthRepeating(err) {
						t.Errorf("%s, %s: nobody would repeat it: %v", call, fault, err)
					}
					err = tc.do(ctx, rows)
				}
				diff := cmp.Diff(tc.want, set.Docs("test", "rows"), cmpopts.EquateEmpty())
				if diff != "" || err != nil {
					t.Errorf("%s, %s: in the end %v, and the rows (-want +got):\n%s", call, fault, err, diff)
				}
			})
		}
	}
}

var errNotTold = errors.New("it was taken, and not told")

func rowA(n int) bson.D { return bson.D{{Key: "_id", Value: "a"}, {Key: "n", Value: int32(n)}} }

func setN(n int) bson.D { return bson.D{{Key: "$set", Value: bson.D{{Key: "n", Value: n}}}} }

// once has the first command of this name meet a failover.
func once(name string, meets testenv.Failover) func(bson.D) testenv.Failover {
	met := false
	return func(cmd bson.D) testenv.Failover {
		if met || cmd[0].Key != name {
			return testenv.NoFailover
		}
		met = true
		return meets
	}
}

// TestUnacknowledgedDuplicate: that a row is there already counts only if a majority has it. Otherwise it may be rolled
// back, and with it what a caller takes for done: a dead letter, or the claim of a mail.
func TestUnacknowledgedDuplicate(t *testing.T) {
	t.Parallel()
	set := testenv.NewReplicaSet(t)
	db := testenv.Connect(t, set.URI(), "test")
	checkpoints := database.NewCheckpoints(db)
	if err := checkpoints.SaveFirst(t.Context(), "name", 1); err != nil {
		t.Fatal(err)
	}
	if err := checkpoints.SaveFirst(t.Context(), "name", 1); err != nil {
		t.Errorf("it was saved before: %v", err)
	}
	var met atomic.Int32
	set.OnCommand(func(cmd bson.D) testenv.Failover {
		if cmd[0].Key == "insert" {
			met.Add(1)
			return testenv.Unacknowledged // however often the driver repeats it
		}
		return testenv.NoFailover
	})
	var err error
	testenv.Within(t, 2*time.Second, func(ctx context.Context) bool {
		err = checkpoints.SaveFirst(ctx, "name", 1)
		return met.Load() > 0
	})
	if err == nil || met.Load() == 0 || database.IsDuplicate(err) || !database.WorthRepeating(err) {
		t.Errorf("no majority acknowledged it in %d tries: got %v, want an error that is worth another try", met.Load(),
			err)
	}
}

// TestWhatEachCallAsksFor: every command asks for what docs/adr/0009-what-each-call-needs.md says, whatever the
// connection string says.
func TestWhatEachCallAsksFor(t *testing.T) {
	t.Parallel()
	set := testenv.NewReplicaSet(t)
	uri := set.URI() + "&w=1&journal=false&retryWrites=false&retryReads=false&readPreference=secondary" +
		"&readConcernLevel=available"
	db := testenv.Connect(t, uri, "test")
	for _, rows := range []*database.Collection{db.Collection("rows"), db.Collection("rows").Ingress()} {
		run := func(err error) {
			t.Helper()
			if err != nil {
				t.Error(err)
			}
		}
		for _, err := range rows.InsertEach(t.Context(), []string{"a"}, []any{rowA(0)}) {
			run(err)
		}
		_, err := database.Change(t.Context(), rows, "a", nil, func(bson.Raw) bson.D { return setN(1) })
		run(err)
		_, err = rows.Count(t.Context(), bson.D{})
		run(err)
		run(rows.EnsureIndex(t.Context(), database.Index{Field: "n"}))
		set.OnCommand(once("find", testenv.DiedBefore))
		_, err = rows.FindMany(t.Context(), []string{"a", "b"})
		run(err)
		_, _, err = database.Take[bson.Raw](t.Context(), rows, "a", "n")
		run(err)
		run(rows.DeleteEach(t.Context(), []string{"a"}))
		run(rows.DeleteEach(t.Context(), []string{"a", "b"}))
	}
	majority, local := bson.D{{Key: "w", Value: "majority"}}, bson.D{{Key: "level", Value: "local"}}
	seen := map[string]bool{}
	for _, cmd := range set.Commands() {
		name, field := cmd[0].Key, func(key string) any {
			for _, e := range cmd {
				if e.Key == key {
					return e.Value
				}
			}
			return nil
		}
		seen[name] = true
		switch name {
		case "find", "aggregate":
			if got := field("readConcern"); !cmp.Equal(got, any(local)) || field("$readPreference") != nil {
				t.Errorf("%s: got read concern %v and preference %v, want local and the primary", name, got,
					field("$readPreference"))
			}
		case "insert", "update", "delete", "findAndModify":
			number := field("txnNumber") // with it the driver repeats the command
			if deletes, _ := field("deletes").(bson.A); len(deletes) == 1 {
				limit := deletes[0].(bson.D)[1]
				if ofMany := cmp.Equal(limit, bson.E{Key: "limit", Value: int32(0)}); ofMany {
					number = "none" // MongoDB cannot repeat a delete of many rows
				}
			}
			if got := field("writeConcern"); !cmp.Equal(got, any(majority)) || number == nil {
				t.Errorf("%s: got write concern %v and number %v, want majority and one", name, got, number)
			}
		case "createIndexes":
			if got := field("writeConcern"); !cmp.Equal(got, any(majority)) {
				t.Errorf("%s: got write concern %v, want majority", name, got)
			}
		}
	}
	for _, name := range []string{"find", "aggregate", "insert", "update", "delete", "findAndModify", "createIndexes"} {
		if !seen[name] {
			t.Errorf("the test has sent no %s", name)
		}
	}
}

// TestShardedUnique: a sharded collection has no unique index besides that of its shard key, and who starts is told.
func TestShardedUnique(t *testing.T) {
	t.Parallel()
	uri := testenv.NewMemory().Listen(t, func(command string) int32 {
		if command == "createIndexes" {
			return 67
		}
		return 0
	})
	rows := testenv.Connect(t, uri, "test").Collection("users")
	err := rows.EnsureIndex(t.Context(), database.Index{Field: "username", Unique: true})
	const want = "the collection users cannot have a unique index on username: if it is sharded, leave it on one shard"
	if err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
}
