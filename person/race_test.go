package person_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"clerksync/functions"
	"clerksync/history"
	"clerksync/inbox"
	"clerksync/internal/testenv"
	"clerksync/person"
	"clerksync/store"
	"clerksync/store/mapping"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

// TestEraseMeetsFunctions: while a user is erased, functions write the user's events in other processes, all in an
// order of calls that the dice choose, and processes are killed and begin again. When all have ended, there is no row,
// and after the second look nothing but the tombstone is left.
func TestEraseMeetsFunctions(t *testing.T) {
	t.Parallel()
	n := 400
	if testing.Short() {
		n /= 5
	}
	first := uint64(time.Now().UnixNano())
	lab := testenv.NewLab(t, 3)
	r := setup(t, lab.Processes[0].DB)
	r.fake.Remove(r.ada.ID)
	var executors []*testenv.Executor
	for _, p := range lab.Processes {
		client, ex := testenv.NewExecutor(t, nil)
		users := store.NewUsers(p.DB, mapping.Default())
		users.Watch(history.New(p.DB, time.Hour, slog.New(slog.DiscardHandler)).Record)
		f := functions.Functions{
			Users: users, Log: slog.New(slog.DiscardHandler),
			Inbox: inbox.New(inbox.Options{
				DB: p.DB, Log: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
			}),
		}
		if err := f.Register(client, false); err != nil {
			t.Fatal(err)
		}
		executors = append(executors, ex)
	}
	run := func(process int, fn string, e testenv.Event) func(context.Context) error {
		return func(ctx context.Context) error { return executors[process].Attempt(ctx, t, fn, e) }
	}
	event := func(id, name string, data json.RawMessage) testenv.Event {
		return testenv.Event{ID: id, Name: name, Data: data, TS: r.ada.Updated, V: inbox.ClerkTime}
	}
	newer := r.ada
	newer.Updated += 1000
	gone := json.RawMessage(`{"id":"` + r.ada.ID + `","object":"user","deleted":true}`)
	report := json.RawMessage(fmt.Sprintf(`{"function_id":"app-update-user-from-clerk","run_id":"01J",`+
		`"error":{"message":"no"},"event":{"id":"msg_new","name":"clerk/user.updated","ts":%d,"v":%q,"data":%s}}`,
		newer.Updated, inbox.ClerkTime, newer.JSON()))
	others := []func(process int) func(context.Context) error{
		func(p int) func(context.Context) error {
			return run(p, "sync-user-from-clerk", event("msg_old", "clerk/user.created", r.ada.JSON()))
		},
		func(p int) func(context.Context) error {
			return run(p, "update-user-from-clerk", event("msg_new", "clerk/user.updated", newer.JSON()))
		},
		func(p int) func(context.Context) error {
			return run(p, "delete-user-with-clerk", event("msg_gone", "clerk/user.deleted", gone))
		},
		func(p int) func(context.Context) error { // its last attempt has failed
			return run(p, "mark-failed-event", event("01JD5V9P3K0000000000000000", "inngest/function.failed", report))
		},
	}
	for i := range n {
		seed := first + uint64(i)
		rng := rand.New(rand.NewPCG(seed, 0))
		lab.Memory.Clear()
		if rng.IntN(2) == 0 {
			r.write(t, r.ada)
		}
		for id, data := range map[string]json.RawMessage{"msg_old": r.ada.JSON(), "msg_new": newer.JSON()} {
			if rng.IntN(2) == 0 {
				r.insert(t, doc{"_id": id, "name": "clerk/user.updated", "data": string(data), "due_at": time.Now()})
			}
		}
		ops := []func(context.Context) error{func(ctx context.Context) error {
			_, err := (&person.Erase{Records: r.Records, API: r.api}).Run(ctx, r.ada.ID)
			return err
		}}
		for p := 1; p < 3; p++ {
			ops = append(ops, others[rng.IntN(len(others))](p))
		}
		shuffle(t, lab, rng, ops)
		if lab.Row(t, r.ada.ID) != nil {
			t.Fatalf("seed %d: there is a row", seed)
		}
		// A function that looked before there was a tombstone may have kept a dead letter after the first look.
		if _, _, err := r.erase(t, r.ada.ID); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff([]string{"clerksync_deleted_users " + r.ada.ID}, r.contain(t, r.ada.ID)); d != "" {
			t.Fatalf("seed %d: the id (-want +got):\n%s", seed, d)
		}
	}
}

// shuffle runs an operation in each process, one call at a time. A process that was killed, or whose operation has
// failed, begins again.
func shuffle(t *testing.T, lab *testenv.Lab, rng *rand.Rand, ops []func(context.Context) error) {
	t.Helper()
	var running []int
	start := func(i int) {
		if ended, err := lab.Processes[i].Start(t.Context(), ops[i]); ended {
			t.Fatalf("process %d ended without a call: %v", i, err)
		}
	}
	for i := range ops {
		start(i)
		running = append(running, i)
	}
	for len(running) > 0 {
		i := running[rng.IntN(len(running))]
		fault := testenv.None
		if rng.IntN(20) == 0 {
			fault = testenv.Refused + testenv.Fault(rng.IntN(4)) // to KilledAfter
		}
		p := lab.Processes[i]
		ended, err := p.Step(fault)
		if fault == testenv.KilledBefore || fault == testenv.KilledAfter {
			p.Kill()
			ended, err = true, context.Canceled
		}
		switch {
		case !ended:
		case err != nil:
			start(i)
		default:
			running = slices.DeleteFunc(running, func(r int) bool { return r == i })
		}
	}
}
