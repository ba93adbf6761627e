package functions_test

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"clerksync/functions"
	"clerksync/inbox"
	"clerksync/internal/testenv"

	"github.com/prometheus/client_golang/prometheus"
)

var seedFlag = flag.Uint64("seed", 0, "seed of the one simulation that TestProperty runs; 0 runs many with new seeds")

// TestProperty: as that of store, through the SDK's handler, with the inbox and a checkpoint API that fails at times:
// the rows end equal to Clerk, and nothing is left in the inbox.
func TestProperty(t *testing.T) {
	t.Parallel()
	testenv.EachApp(t, func(t *testing.T, app testenv.App) {
		t.Parallel()
		property(t, app)
	})
}

func property(t *testing.T, app testenv.App) {
	t.Helper()
	const histories, simulations = 6, 1_000
	n, first := app.Rounds(simulations), uint64(time.Now().UnixNano())
	if *seedFlag != 0 {
		n, first = 1, *seedFlag
	}
	lab := app.NewLab(t, 3)
	var executors []*testenv.Executor
	for _, p := range lab.Processes {
		client, ex := testenv.NewExecutor(t, servers["checkpoints fail, at times"])
		users := app.Users(t, p.DB)
		box := inbox.New(inbox.Options{
			DB: p.DB, Log: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
		})
		if err := (&functions.Functions{Users: users, Inbox: box, Log: slog.New(slog.DiscardHandler)}).Register(client,
			true); err != nil {
			t.Fatal(err)
		}
		executors = append(executors, ex)
	}
	for i := range n {
		seed := first + uint64(i)
		rng := rand.New(rand.NewPCG(seed, 0))
		lab.Memory.Clear()
		histories := app.Histories(t, rng, histories)
		deliveries := testenv.Deliveries(rng, histories, func(ctx context.Context, process int, hook testenv.Webhook,
			copied bool,
		) error {
			e := testenv.Event{
				ID: fmt.Sprintf("%s:r%d", hook.ID, 1+rng.IntN(3)), Name: "clerk/" + hook.Type, Data: hook.Data,
				TS: hook.TS, V: inbox.ClerkTime,
			}
			if !copied {
				lab.Memory.Ensure("lab", "clerksync_inbox", hook.ID)
			} else {
				// It arrives after it happened.
				e.ID, e.TS, e.V = []string{"01JD5V9P3K0000000000000000", hook.ID}[rng.IntN(2)],
					hook.TS+rng.Int64N(1e12), ""
				switch rng.IntN(3) {
				case 0:
					e.Data = fmt.Appendf(nil, `{"data":%s,"headers":{}}`, hook.Data)
				case 1: // what its time says counts
					e.Data = hook.Body
				}
			}
			fn := map[string]string{
				"user.created": syncUser, "user.updated": updateUser, "user.deleted": deleteUser,
			}[hook.Type]
			return executors[process].Attempt(ctx, t, fn, e)
		})
		if err := lab.Simulate(t.Context(), rng, deliveries, 12, func(string) error { return nil }); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		for _, d := range testenv.CheckAll(histories, func(id string) testenv.Doc { return lab.Row(t, id) }) {
			t.Errorf("seed %d: %s", seed, d)
		}
		if left := lab.Memory.Docs("lab", "clerksync_inbox"); len(left) > 0 {
			t.Errorf("seed %d: left in the inbox: %v", seed, left)
		}
		if t.Failed() {
			t.Fatalf("reproduce with: %s=all go test ./functions -run 'TestProperty/%s$' -seed %d", testenv.MapsEnv,
				app.Collection, seed)
		}
	}
	t.Logf("%d histories", n*histories)
}
