package database_test

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"clerksync/internal/testenv"
	"clerksync/store/database"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"
)

var kept = database.Lists{By: "v", Keep: 3}

func push(id, list, v string) database.Push {
	entry, err := bson.Marshal(bson.D{{Key: "v", Value: v}, {Key: "n", Value: "of " + v}})
	if err != nil {
		panic(err)
	}
	return database.Push{
		ID: id, List: list, Entry: entry,
		Unless: []database.Has{{List: list, Field: "v", Text: v}},
		Set:    bson.D{{Key: "last", Value: v}}, New: bson.D{{Key: "first", Value: v}},
	}
}

// eachWay runs the test on each database, and in memory once more as on a server without the operators for lists.
func eachWay(t *testing.T, f func(t *testing.T, db *database.DB)) {
	testenv.EachDatabase(t, f)
	t.Run("memory, read and written", func(t *testing.T) {
		db := testenv.NewMemory().Connect(t, "test", nil, nil)
		db.ReadLists()
		f(t, db)
	})
}

// lists returns a row as "first last: list list", or "" if there is none.
func lists(t *testing.T, c *database.Collection, id string) string {
	t.Helper()
	row, there, err := database.Get[bson.M](t.Context(), c, id)
	if err != nil {
		t.Fatal(err)
	}
	if !there {
		return ""
	}
	text := fmt.Sprintf("%v %v:", row["first"], row["last"])
	for _, name := range []string{"a", "b"} {
		list, _ := row[name].(bson.A)
		var all []string
		for _, e := range list {
			all = append(all, fmt.Sprint(e.(bson.D)[0].Value))
		}
		text += " " + name + "=" + strings.Join(all, ",")
	}
	return text
}

// TestPushEach: a list is sorted and short, an entry is in it once, and one call may be about many rows and about one
// row several times.
func TestPushEach(t *testing.T) {
	t.Parallel()
	both := push("x", "b", "2")
	both.Unless = append(both.Unless, database.Has{List: "a", Field: "v", Text: "2"})
	there := push("x", "b", "2")
	there.There = true
	for name, tc := range map[string]struct {
		before, pushes []database.Push
		want           map[string]string
	}{
		"a new row": {nil, []database.Push{push("x", "a", "2")}, map[string]string{"x": "2 2: a=2 b="}},
		"sorted": {
			[]database.Push{push("x", "a", "2")}, []database.Push{push("x", "a", "1")}, map[string]string{
				"x": "2 1: a=1,2 b=",
			},
		},
		"once": {
			[]database.Push{push("x", "a", "2")}, []database.Push{push("x", "a", "2")}, map[string]string{
				"x": "2 2: a=2 b=",
			},
		},
		"twice in one": {
			nil, []database.Push{push("x", "a", "2"), push("x", "a", "2")}, map[string]string{"x": "2 2: a=2 b="},
		},
		"in the other": {
			[]database.Push{push("x", "a", "2")}, []database.Push{both}, map[string]string{"x": "2 2: a=2 b="},
		},
		"in none": {
			[]database.Push{push("x", "a", "1")}, []database.Push{both}, map[string]string{"x": "1 2: a=1 b=2"},
		},
		"the newest": {
			[]database.Push{push("x", "a", "2"), push("x", "a", "4"), push("x", "a", "3")},
			[]database.Push{push("x", "a", "5")},
			map[string]string{"x": "2 5: a=3,4,5 b="},
		},
		"too old for the list": {
			[]database.Push{push("x", "a", "2"), push("x", "a", "4"), push("x", "a", "3")},
			[]database.Push{push("x", "a", "1")},
			map[string]string{"x": "2 1: a=2,3,4 b="},
		},
		"many": {
			[]database.Push{push("y", "a", "1")},
			[]database.Push{
				push("x", "a", "2"), push("y", "a", "1"), push("y", "b", "3"), push("z", "b", "4"), push("x", "a", "1"),
			},
			map[string]string{"x": "2 1: a=1,2 b=", "y": "1 3: a=1 b=3", "z": "4 4: a= b=4"},
		},
		"only if there is a row, and there is none": {nil, []database.Push{there}, map[string]string{"x": ""}},
		"only if there is a row": {
			[]database.Push{push("x", "a", "1")}, []database.Push{there}, map[string]string{"x": "1 2: a=1 b=2"},
		},
		"only if there is a row, and the same call makes it": {
			nil, []database.Push{push("x", "a", "1"), there}, map[string]string{"x": "1 2: a=1 b=2"},
		},
		"none": {nil, nil, map[string]string{"x": ""}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachWay(t, func(t *testing.T, db *database.DB) {
				c := db.Collection("lists")
				for _, p := range tc.before {
					if err := c.PushEach(t.Context(), kept, []database.Push{p})[0]; err != nil {
						t.Fatal(err)
					}
				}
				if err := errors.Join(c.PushEach(t.Context(), kept, tc.pushes)...); err != nil {
					t.Fatal(err)
				}
				got := map[string]string{}
				for id := range tc.want {
					got[id] = lists(t, c, id)
				}
				if d := cmp.Diff(tc.want, got); d != "" {
					t.Errorf("-want +got:\n%s", d)
				}
			})
		})
	}
}

// TestPushTogether: of many that make the same new rows at the same time, in processes that share no locks, no entry is
// lost.
func TestPushTogether(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, db *database.DB) {
		const n = 12
		all := database.Lists{By: "v", Keep: n}
		dbs := []*database.DB{db, db}
		if !db.OneProcess {
			dbs[1] = testenv.AnotherProcess(db)
		}
		for round := range 5 {
			var together sync.WaitGroup
			for i := range n {
				c := dbs[i%2].Collection("lists")
				together.Go(func() {
					var pushes []database.Push
					for _, id := range []string{"x", "y"} {
						pushes = append(pushes, push(fmt.Sprint(id, round), "a", fmt.Sprintf("%02d", i)))
					}
					if err := errors.Join(c.PushEach(t.Context(), all, pushes)...); err != nil {
						t.Error(err)
					}
				})
			}
			together.Wait()
			for _, id := range []string{"x", "y"} {
				got := lists(t, db.Collection("lists"), fmt.Sprint(id, round))
				if _, got, _ = strings.Cut(got, ": "); got != "a=00,01,02,03,04,05,06,07,08,09,10,11 b=" {
					t.Errorf("got %s", got)
				}
			}
		}
	})
}

// TestPushOvertaken: MongoDB reports a duplicate if another process has made the row after the upsert looked for it.
// That does not mean that the entry is there.
func TestPushOvertaken(t *testing.T) {
	t.Parallel()
	var updates atomic.Int32
	uri := testenv.NewMemory().Listen(t, func(command string) int32 {
		if command == "update" && updates.Add(1) == 1 {
			return 11000
		}
		return 0
	})
	c := testenv.Connect(t, uri, "test").Collection("lists")
	if err := c.PushEach(t.Context(), kept, []database.Push{push("x", "a", "1")})[0]; err != nil {
		t.Fatal(err)
	}
	if got, want := lists(t, c, "x"), "1 1: a=1 b="; got != want || updates.Load() != 2 {
		t.Errorf("got %q after %d commands, want %q after 2", got, updates.Load(), want)
	}
}

// TestPushDamaged: a row whose list is something else fails alone, and with an error that will not pass.
func TestPushDamaged(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, db *database.DB) {
		c := db.Collection("lists")
		if _, err := c.InsertOne(t.Context(), bson.D{
			{Key: "_id", Value: "x"},
			{Key: "a", Value: "no list"},
		}); err != nil {
			t.Fatal(err)
		}
		errs := c.PushEach(t.Context(), kept, []database.Push{push("x", "a", "1"), push("y", "a", "1")})
		if errs[0] == nil || database.MayPass(errs[0]) || errs[1] != nil {
			t.Errorf("got %v", errs)
		}
		if got, want := lists(t, c, "y"), "1 1: a=1 b="; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
}

// TestPushWithoutOperators: a server that refuses the operators for lists gets what every server understands.
func TestPushWithoutOperators(t *testing.T) {
	t.Parallel()
	if os.Getenv(testenv.MongoURI) == "" {
		t.Skip(testenv.MongoURI + " is not set: TestPushEach does the same in memory")
	}
	db := testenv.Connect(t, os.Getenv(testenv.MongoURI), "test_push_"+strings.ToLower(rand.Text()[:12]))
	for _, v := range []string{"2", "1", "2"} {
		if err := db.Collection("lists").PushEach(t.Context(), kept,
			[]database.Push{push("x", "a", v)})[0]; err != nil {
			t.Fatal(err)
		}
	}
	if got, want := lists(t, db.Collection("lists"), "x"), "2 1: a=1,2 b="; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
