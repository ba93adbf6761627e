package store_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"clerksync/clerk"
	"clerksync/internal/testenv"
	"clerksync/store"

	"go.mongodb.org/mongo-driver/v2/bson"
)

var seedFlag = flag.Uint64("seed", 0, "seed of the one simulation that TestProperty runs; 0 runs many with new seeds")

// Histories and simulations of TestProperty.
const (
	users1      = 6 // histories of a simulation: few, so that they meet
	processes   = 4
	simulations = 16_000
)

// TestProperty: random histories, applied by several processes in random order, each webhook once or twice and by both
// sources, in lists of one to five, with a fault at any database call and the retry after it, end with rows that are
// equal to Clerk; no user name that we gave ever changes, and what the app put into a row is there.
func TestProperty(t *testing.T) {
	t.Parallel()
	testenv.EachApp(t, func(t *testing.T, app testenv.App) {
		t.Parallel()
		if *seedFlag != 0 {
			newProperty(t, app).simulate(t, *seedFlag)
			return
		}
		const workers = 2
		n := app.Rounds(simulations / workers)
		for i := range workers {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				p := newProperty(t, app)
				first := uint64(time.Now().UnixNano())
				for j := range n {
					p.simulate(t, first+uint64(j))
				}
				t.Logf("%d histories", n*users1)
			})
		}
	})
}

type property struct {
	app   testenv.App
	lab   *testenv.Lab
	users []*store.Users
}

func newProperty(t *testing.T, app testenv.App) property {
	t.Helper()
	p := property{app: app, lab: app.NewLab(t, processes)}
	for _, process := range p.lab.Processes {
		p.users = append(p.users, app.Users(t, process.DB))
	}
	return p
}

func (p property) simulate(t *testing.T, seed uint64) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 0))
	p.lab.Memory.Clear()
	histories := p.app.Histories(t, rng, users1)
	histories[0].Linked = true
	byID := map[string]testenv.History{}
	for _, h := range histories {
		byID[h.UserID] = h
	}
	theme := bson.E{Key: "theme", Value: "dark"} // of a row that the app has made before, and of one of its own alone
	rows := p.lab.Processes[0].DB.Database.Collection(p.app.Collection)
	if _, err := rows.InsertMany(t.Context(), []any{
		p.app.Own(histories[0].UserID, theme), bson.D{{Key: "_id", Value: bson.NewObjectID()}, theme},
	}); err != nil {
		t.Fatal(err)
	}
	writes := writesOf(t, rng, histories)
	var deliveries []testenv.Delivery
	size := 1 + rng.IntN(5)
	if p.app.UniqueEmail {
		// Of two writes of one user in a list only the newer is done. If that one waits for an address, the user's old
		// one is not given up meanwhile, and of two lists with a swap each waits for the other, until a reconcile.
		size = 1
	}
	for list := range slices.Chunk(writes, size) {
		deliveries = append(deliveries, testenv.Delivery{
			UserID: list[0].User.ID,
			Do: func(ctx context.Context, process int) error {
				return operation(list).do(ctx, p.users[process])
			},
		})
	}
	names := map[string]string{}
	err := p.lab.Simulate(t.Context(), rng, deliveries, 12, func(id string) error {
		if !byID[id].KeepsName() {
			return nil
		}
		row := p.lab.Row(t, id)
		if row == nil {
			return nil
		}
		name := row.Text(p.app.Names)
		if old := names[id]; name == "" || old != "" && name != old {
			return fmt.Errorf("%s has the user name %q and had %q", id, name, old)
		}
		names[id] = name
		return nil
	})
	if err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	row := func(id string) testenv.Doc { return p.lab.Row(t, id).Without("theme") }
	for _, d := range testenv.CheckAll(histories, row) {
		t.Errorf("seed %d: %s", seed, d)
	}
	if row := p.lab.Row(t, histories[0].UserID); row != nil && row.Text("theme") != "dark" {
		t.Errorf("seed %d: the app's field has gone from %v", seed, row)
	}
	if others := p.lab.Rows(func(d testenv.Doc) bool { return len(d) == 2 && d.Text("theme") == "dark" }); others != 1 {
		t.Errorf("seed %d: the app's own row has gone or has changed", seed)
	}
	if t.Failed() {
		t.Fatalf("reproduce with: %s=all go test ./store -run 'TestProperty/%s$' -seed %d", testenv.MapsEnv,
			p.app.Collection, seed)
	}
}

// writesOf returns what the histories' webhooks write, in a random order.
func writesOf(t *testing.T, rng *rand.Rand, histories []testenv.History) (writes []store.Write) {
	t.Helper()
	for _, d := range testenv.Deliveries(rng, histories, func(_ context.Context, _ int, hook testenv.Webhook,
		copied bool,
	) error {
		w := store.Write{
			EventTime: store.EventTime{Clerk: clerk.Millis(hook.TS)}, Deleted: hook.Type == clerk.UserDeleted,
		}
		if copied {
			w.EventTime = store.EventTime{Arrived: clerk.Millis(hook.TS + rng.Int64N(1e12))}
		}
		var err error
		if w.Deleted {
			w.User.ID, err = clerk.ParseDeleted(hook.Data)
		} else {
			w.User, err = clerk.ParseUser(hook.Data)
		}
		writes = append(writes, w)
		return err
	}) {
		if err := d.Do(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
	}
	return writes
}
