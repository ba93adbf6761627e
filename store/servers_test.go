package store_test

import (
	"context"
	"crypto/rand"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"clerksync/internal/testenv"
	"clerksync/store"

	"go.mongodb.org/mongo-driver/v2/bson"
	"golang.org/x/sync/errgroup"
)

// TestPropertyOnServers: as TestProperty, but the processes really run side by side, each with connections of its own:
// on the database that MONGODB_TEST_URI names, and on a replica set in which, at random writes, the primary steps down
// or dies, before the write, after it, or before a majority has acknowledged it.
func TestPropertyOnServers(t *testing.T) {
	t.Parallel()
	t.Run("external", func(t *testing.T) {
		t.Parallel()
		uri := os.Getenv(testenv.MongoURI)
		if uri == "" {
			t.Skipf("%s is not set", testenv.MongoURI)
		}
		sideBySide(t, uri, 400, func() {})
	})
	t.Run("failovers", func(t *testing.T) {
		t.Parallel()
		set := testenv.NewReplicaSet(t)
		failovers := 0
		meets := func(cmd bson.D) testenv.Failover {
			switch name := cmd[0].Key; {
			case name != "insert" && name != "update" && name != "delete" && name != "findAndModify",
				mathrand.IntN(30) > 0 && failovers > 0:
				return testenv.NoFailover
			}
			failovers++
			return testenv.Failover(1 + failovers%4)
		}
		sideBySide(t, set.URI(), 100, func() { set.OnCommand(meets) })
		t.Logf("%d failovers", failovers)
	})
}

// sideBySide does what TestPropertyOnServers says, for so many users. It calls begin when all processes have started.
func sideBySide(t *testing.T, uri string, users int, begin func()) {
	t.Helper()
	app := testenv.DefaultApp()
	users = max(20, app.Rounds(users))
	seed := uint64(time.Now().UnixNano())
	rng := mathrand.New(mathrand.NewPCG(seed, 0))
	histories := app.Histories(t, rng, users)
	name := "test_" + strings.ToLower(rand.Text()[:12])
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	todo := make(chan operation, len(histories)*50)
	writes := writesOf(t, rng, histories)
	for _, w := range writes {
		todo <- operation{w}
	}
	close(todo)
	db := testenv.Connect(t, uri, name)
	all := make([]*store.Users, processes)
	for i := range all {
		all[i] = app.Users(t, testenv.Connect(t, uri, name))
	}
	begin()
	var repeated atomic.Int64
	var g errgroup.Group
	for _, users := range all {
		for range 4 { // at the same time in each process
			g.Go(func() error { return doAll(ctx, todo, users, &repeated) })
		}
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	row := func(id string) testenv.Doc {
		doc, err := app.Find(t.Context(), db, id)
		if err != nil {
			t.Error(err)
		}
		return doc
	}
	for _, wrong := range testenv.CheckAll(histories, row) {
		t.Errorf("seed %d: %s", seed, wrong)
	}
	t.Logf("%d users, %d writes, of which %d were repeated", len(histories), len(writes), repeated.Load())
}

// doAll does operations until there are no more, each until it succeeds, as Inngest does.
func doAll(ctx context.Context, todo <-chan operation, users *store.Users, repeated *atomic.Int64) error {
	for o := range todo {
		for err := o.do(ctx, users); err != nil; err = o.do(ctx, users) {
			if repeated.Add(1); ctx.Err() != nil {
				return fmt.Errorf("it does not end: %w", err)
			}
		}
	}
	return nil
}
