package functions_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"clerksync/clerk"
	"clerksync/functions"
	"clerksync/inbox"
	"clerksync/internal/testenv"
	"clerksync/reconcile"
	"clerksync/store"
	"clerksync/store/database"
)

// uniqueEmail makes an index of the app's on the address.
func (r rig) uniqueEmail(t *testing.T) {
	t.Helper()
	unique := database.Index{Field: "email", Unique: true}
	if err := r.db.Collection("users").EnsureIndex(t.Context(), unique); err != nil {
		t.Fatal(err)
	}
}

func (r rig) email(t *testing.T, id string) string {
	t.Helper()
	row, err := r.users.Get(t.Context(), id)
	if err != nil {
		return err.Error()
	}
	return row.Text("email")
}

// functionOf is the function that runs on an event of Clerk's.
func functionOf(event string) string {
	return map[string]string{
		clerk.UserCreated: syncUser, clerk.UserUpdated: updateUser, clerk.UserDeleted: deleteUser,
	}[strings.TrimPrefix(event, "clerk/")]
}

// TestAddressOfSomebodyDeletedLater: somebody signs up with the address of a user whose deletion comes only later. The
// event is tried again, and the row is written after the deletion. If that does not come before the last try, the dead
// letter names the index and both users, and is written when it is replayed.
func TestAddressOfSomebodyDeletedLater(t *testing.T) {
	t.Parallel()
	people := testenv.People(2)
	people[1].Email = people[0].Email
	created := func(u testenv.ClerkUser, id string) testenv.Event {
		return testenv.Event{ID: id, Name: "clerk/user.created", Data: u.JSON(), TS: u.Updated, V: inbox.ClerkTime}
	}
	for name, batch := range map[string]int{"one by one": 0, "in batches": 10} {
		for _, tries := range []int{1, 20, 21} {
			t.Run(fmt.Sprint(name, " ", tries), func(t *testing.T) {
				t.Parallel()
				f := setup(t, functions.Functions{BatchSize: batch, BatchTimeout: time.Second})
				f.uniqueEmail(t)
				if r := f.Run(t, syncUser, created(people[0], "msg_a")); r.Failed {
					t.Fatal(r.Error)
				}
				f.pending("msg_b")
				sign := created(people[1], "msg_b")
				for i := range tries {
					code, header, body := f.Call(t.Context(), t, syncUser, sign, nil, i, 21)
					if noRetry := header.Get("X-Inngest-No-Retry"); i < 20 && noRetry == "true" {
						t.Fatalf("attempt %d must be tried again: %d %s", i, code, body)
					}
				}
				if tries == 21 && batch == 0 { // Inngest says so when no try is left
					_, _, body := f.Call(t.Context(), t, syncUser, sign, nil, 20, 21)
					var ops []struct{ Error struct{ Message string } }
					if err := json.Unmarshal(body, &ops); err != nil || len(ops) != 1 {
						t.Fatalf("%v: %s", err, body)
					}
					data, err := json.Marshal(map[string]any{
						"function_id": "app-" + syncUser, "run_id": "01J", "event": sign,
						"error": map[string]string{"message": ops[0].Error.Message},
					})
					if err != nil {
						t.Fatal(err)
					}
					f.Run(t, markFailed, testenv.Event{Name: "inngest/function.failed", Data: data})
				}
				if tries == 21 {
					dead := f.deadLetters(t)
					if len(dead) != 1 || dead[0].ID != "msg_b" {
						t.Fatalf("got dead letters %+v", dead)
					}
					for _, want := range []string{store.TakenText, "email_1", people[0].ID, people[1].ID} {
						if !strings.Contains(dead[0].Error, want) || strings.ContainsAny(dead[0].Error, "@\n") {
							t.Errorf("got %q, want the index and both ids, no value, and one line", dead[0].Error)
						}
					}
				}
				if r := f.Run(t, deleteUser, deletion("msg_gone", people[0].ID)); r.Failed {
					t.Fatal(r.Error)
				}
				if tries == 21 {
					if _, err := functions.Replay(t.Context(), f.db, "msg_b", true); err != nil {
						t.Fatal(err)
					}
					sign.ID = "msg_b:r1"
				}
				if r := f.Run(t, syncUser, sign); r.Failed || r.Attempts > 2 {
					t.Errorf("got %+v", r)
				}
				if got := f.email(t, people[1].ID); got != people[0].Email || len(f.left(t)) > 0 ||
					len(f.deadIDs(t)) > 0 {
					t.Errorf("got %q, %v, %v", got, f.left(t), f.deadIDs(t))
				}
			})
		}
	}
}

// world is an instance of Clerk with few addresses, which go from user to user, and a webhook of each change.
type world struct {
	rng       *rand.Rand
	at        int64
	users     []testenv.ClerkUser
	addresses []string
	webhooks  []testenv.Event
}

func (w *world) free() (free []string) {
	for _, a := range w.addresses {
		if !slices.ContainsFunc(w.users, func(u testenv.ClerkUser) bool { return u.Email == a }) {
			free = append(free, a)
		}
	}
	if len(free) == 0 || w.rng.IntN(5) == 0 {
		return []string{""}
	}
	return free
}

func (w *world) hook(name string, data json.RawMessage) {
	w.webhooks = append(w.webhooks, testenv.Event{
		ID: fmt.Sprint("msg_", w.at), Name: "clerk/" + name, Data: data, TS: w.at, V: inbox.ClerkTime,
	})
}

// signUp adds a user and returns the user's place.
func (w *world) signUp(email string) int {
	w.at += 1000
	u := testenv.ClerkUser{
		ID: testenv.UserID(time.UnixMilli(w.at), w.at), Username: fmt.Sprint("u-", w.at), Email: email,
		Created: w.at, Updated: w.at,
	}
	w.users = append(w.users, u)
	w.hook(clerk.UserCreated, u.JSON())
	return len(w.users) - 1
}

// address gives a user another address.
func (w *world) address(i int, email string) {
	w.at += 1000
	w.users[i].Email, w.users[i].Updated = email, w.at
	w.hook(clerk.UserUpdated, w.users[i].JSON())
}

func (w *world) remove(i int) {
	w.at += 1000
	w.hook(clerk.UserDeleted, deletion("", w.users[i].ID).Data)
	w.users = slices.Delete(w.users, i, i+1)
}

// change is a sign-up, a user who takes or leaves an address, or a deletion.
func (w *world) change() {
	free := w.free()
	email := free[w.rng.IntN(len(free))]
	switch n := w.rng.IntN(15); {
	case n == 0 || len(w.users) < 4:
		w.signUp(email)
	case n == 1:
		w.remove(w.rng.IntN(len(w.users)))
	default:
		w.address(w.rng.IntN(len(w.users)), email)
	}
}

// TestAddressesMove: random histories in which addresses go from user to user, whose webhooks come in any order, late
// and twice, end equal to Clerk. Where users have passed addresses round so that no order of the events that are left
// can be written, a reconcile mends the rows, and the dead letters can be replayed.
func TestAddressesMove(t *testing.T) {
	t.Parallel()
	n, first, addresses := 1_000, uint64(time.Now().UnixNano()), []string{"a@x", "b@x", "c@x", "d@x"}
	switch {
	case *seedFlag != 0:
		n, first = 1, *seedFlag
	case testing.Short():
		n /= 10
	}
	f := setup(t, functions.Functions{})
	f.uniqueEmail(t)
	tangled := 0
	for seed := first; seed < first+uint64(n); seed++ {
		w := &world{
			rng: rand.New(rand.NewPCG(seed, 0)), at: 1767603600000, addresses: addresses,
		}
		for range 5 + w.rng.IntN(20) {
			w.change()
		}
		f.memory.Clear()
		if f.deliver(t, w) {
			tangled++
		}
		for _, u := range w.users {
			if got := f.email(t, u.ID); got != u.Email {
				t.Errorf("seed %d: %s has %q, want %q", seed, u.ID, got, u.Email)
			}
		}
		if rows := f.memory.Docs("test", "users"); len(rows) != len(w.users) || len(f.left(t)) > 0 {
			t.Errorf("seed %d: %d rows, want %d; in the inbox %v", seed, len(rows), len(w.users), f.left(t))
		}
		if t.Failed() {
			t.Fatalf("reproduce with: go test ./functions -run TestAddressesMove -seed %d", seed)
		}
	}
	t.Logf("%d histories, %d of them needed a reconcile", n, tangled)
}

// TestCircleThatNoOrderWrites: two users have swapped addresses, and the address that one of them had in between is
// another's already. Each of the events that are left waits for another one, until a reconcile asks Clerk.
func TestCircleThatNoOrderWrites(t *testing.T) {
	t.Parallel()
	f := setup(t, functions.Functions{})
	f.uniqueEmail(t)
	w := &world{rng: rand.New(rand.NewPCG(1, 0)), at: 1767603600000}
	ada, bob, eve := w.signUp("a@x.example"), w.signUp("b@x.example"), w.signUp("")
	f.deliver(t, w)
	w.webhooks = nil
	w.address(bob, "between@x.example")
	w.address(ada, "b@x.example")
	w.address(bob, "a@x.example")
	circle := w.webhooks
	w.webhooks = nil
	w.address(eve, "between@x.example")
	if f.deliver(t, w) {
		t.Fatal("the first event is refused")
	}
	w.webhooks = circle
	if !f.deliver(t, w) {
		t.Error("it needed no reconcile")
	}
	for _, u := range w.users {
		if got := f.email(t, u.ID); got != u.Email {
			t.Errorf("%s has %q, want %q", u.ID, got, u.Email)
		}
	}
}

// TestSwapWithinTwoBatches: two users have swapped addresses, by way of none, and each has their events in one batch.
// Of a user's events only the newest was written, so neither gave an address up, and both batches were refused for
// ever.
func TestSwapWithinTwoBatches(t *testing.T) {
	t.Parallel()
	f := setup(t, functions.Functions{BatchSize: 10, BatchTimeout: time.Second})
	f.uniqueEmail(t)
	w := &world{rng: rand.New(rand.NewPCG(1, 0)), at: 1767603600000}
	ada, bob := w.signUp("a@x.example"), w.signUp("b@x.example")
	for _, e := range w.webhooks {
		if err := f.Attempt(t.Context(), t, syncUser, e); err != nil {
			t.Fatal(err)
		}
	}
	w.webhooks = nil
	w.address(ada, "")
	w.address(bob, "a@x.example")
	w.address(ada, "b@x.example")
	adas, bobs := []testenv.Event{w.webhooks[2], w.webhooks[0]}, w.webhooks[1:2]
	var last error
	for range 2 { // the first attempt gives up what the second needs
		f.Others = adas[1:]
		last = f.Attempt(t.Context(), t, updateUser, adas[0])
		f.Others = nil
		last = errors.Join(last, f.Attempt(t.Context(), t, updateUser, bobs[0]))
	}
	if last != nil {
		t.Errorf("the second attempt: %v", last)
	}
	for _, u := range w.users {
		if got := f.email(t, u.ID); got != u.Email {
			t.Errorf("%s has %q, want %q", u.ID, got, u.Email)
		}
	}
}

// deliver delivers the webhooks of a world in a random order. If some cannot be written, it makes them dead letters,
// reconciles, replays them, and returns true.
func (r rig) deliver(t *testing.T, w *world) (tangled bool) {
	t.Helper()
	var waiting []testenv.Event
	for _, e := range w.webhooks {
		r.pending(e.ID)
		waiting = append(waiting, e)
		if w.rng.IntN(5) == 0 {
			waiting = append(waiting, e)
		}
	}
	try := func() (refused []testenv.Event) {
		w.rng.Shuffle(len(waiting), func(i, j int) { waiting[i], waiting[j] = waiting[j], waiting[i] })
		for _, e := range waiting {
			if err := r.Attempt(t.Context(), t, functionOf(e.Name), e); err != nil {
				refused = append(refused, e)
			}
		}
		return refused
	}
	for range 20 {
		if waiting = try(); len(waiting) == 0 {
			return false
		}
	}
	for _, e := range waiting {
		r.fail(t, functionOf(e.Name), e)
	}
	fake := testenv.NewClerkAPI(t)
	defer fake.Close()
	fake.Put(w.users...)
	api, err := clerk.NewAPI(clerk.APIOptions{SecretKey: testenv.ClerkKey, URL: fake.URL, Share: 1, PageSize: 2})
	if err != nil {
		t.Fatal(err)
	}
	rec := &reconcile.Reconcile{
		API: api, Users: r.users, State: database.NewCheckpoints(r.db), Log: slog.New(slog.DiscardHandler),
		MaxDelete: 100,
	}
	if p, err := rec.Run(t.Context(), reconcile.Start(reconcile.Full, "one"), nil); err != nil || p.Found.Failed > 0 {
		t.Errorf("got %+v, %v", p, err)
	}
	for _, id := range r.deadIDs(t) {
		if _, err := functions.Replay(t.Context(), r.db, id, true); err != nil {
			t.Fatal(err)
		}
	}
	if waiting = try(); len(waiting) > 0 {
		t.Errorf("%d events cannot be written after the reconcile", len(waiting))
	}
	return true
}
