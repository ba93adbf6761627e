package functions_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"clerksync/functions"
	"clerksync/inbox"
	"clerksync/internal/testenv"
	"clerksync/store"
	"clerksync/store/database"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

// keeper is an executor of the functions with a real inbox.
type keeper struct {
	*testenv.Executor
	db  *database.DB
	box *inbox.Inbox
}

func newKeeper(t *testing.T, users functions.Users) keeper {
	t.Helper()
	k := keeper{db: testenv.NewMemory().Connect(t, "test", nil, nil)}
	k.box = inbox.New(inbox.Options{DB: k.db, Log: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	if users == nil {
		users = store.NewUsers(k.db)
	}
	client, ex := testenv.NewExecutor(t)
	if err := (&functions.Functions{Users: users, Inbox: k.box, InstanceID: "ins_1", Log: slog.New(slog.DiscardHandler)}).Register(client); err != nil {
		t.Fatal(err)
	}
	k.Executor = ex
	return k
}

// pending puts the row of an event into the inbox.
func (k keeper) pending(t *testing.T, id string) {
	t.Helper()
	_, err := k.db.Collection("clerksync_inbox").InsertOne(t.Context(), map[string]any{"_id": id, "name": "clerk/user.updated", "data": "{}"})
	if err != nil {
		t.Fatal(err)
	}
}

// fail reports that a run of a function with these events has failed for good.
func (k keeper) fail(t *testing.T, fn string, events ...testenv.Event) testenv.Run {
	t.Helper()
	data, err := json.Marshal(map[string]any{
		"function_id": "app-" + fn, "run_id": "01J", "error": map[string]string{"message": "why"}, "event": events[0], "events": events,
	})
	if err != nil {
		t.Fatal(err)
	}
	return k.Run(t, functions.MarkFailed, testenv.Event{Name: "inngest/function.failed", Data: data})
}

func (k keeper) deadLetters(t *testing.T) (ids []string) {
	t.Helper()
	all, err := inbox.NewDeadLetters(k.db).List(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range all {
		ids = append(ids, l.ID)
	}
	slices.Sort(ids)
	return ids
}

func of(id, user string) testenv.Event {
	return testenv.Event{ID: id, Name: "clerk/user.updated", Data: json.RawMessage(user), TS: 1767603600020}
}

func deletion(id, userID string) testenv.Event {
	return testenv.Event{ID: id, Name: "clerk/user.deleted", Data: json.RawMessage(`{"id":"` + userID + `","object":"user","deleted":true}`), TS: 1767603600030}
}

// TestFailedBatch: of a batch that failed for good every event is kept that has not been written, and no other.
func TestFailedBatch(t *testing.T) {
	t.Parallel()
	k := newKeeper(t, nil)
	named := func(id, name string) string {
		return strings.NewReplacer("user_a", id, "Lovelace", name).Replace(user)
	}
	newer := strings.Replace(named("user_newer", "King"), "1767603600018", "1767603700000", 1)
	for i, u := range []string{named("user_written", "Lovelace"), newer} {
		if r := k.Run(t, functions.UpdateUser, of("msg_before", u)); r.Failed {
			t.Fatal(i, r.Error)
		}
	}
	k.pending(t, "msg_pending")
	for range 2 { // it may be tried again
		if r := k.fail(
			t, functions.UpdateUser,
			of("msg_written", named("user_written", "Lovelace")),
			of("msg_lost", named("user_lost", "Lovelace")),
			of("msg_changed", strings.Replace(named("user_written", "King"), "1767603600018", "1767603600019", 1)),
			of("msg_stale", named("user_newer", "Lovelace")),
			of("msg_pending", named("user_written", "Lovelace")),
			of("msg_lost_again:r3", named("user_lost", "King")),
			of("msg_bad", `{"object":"user","first_name":"Ada"}`),
			of("msg_foreign", `{"data":`+named("user_written", "Lovelace")+`,"instance_id":"ins_2"}`),
		); r.Failed {
			t.Fatal(r.Error)
		}
	}
	want := []string{"msg_bad", "msg_changed", "msg_foreign", "msg_lost", "msg_lost_again", "msg_pending"}
	if d := cmp.Diff(want, k.deadLetters(t)); d != "" {
		t.Errorf("dead letters (-want +got):\n%s", d)
	}
}

// TestFailedDeletion: a deletion is kept unless its tombstone is there and its row is not.
func TestFailedDeletion(t *testing.T) {
	t.Parallel()
	k := newKeeper(t, nil)
	for _, id := range []string{"user_alive", "user_half"} {
		if r := k.Run(t, functions.SyncUser, of("msg_before", strings.ReplaceAll(user, "user_a", id))); r.Failed {
			t.Fatal(r.Error)
		}
	}
	for _, id := range []string{"user_half", "user_gone"} {
		if _, err := k.db.Collection("clerksync_deleted_users").InsertOne(t.Context(), map[string]any{"_id": id}); err != nil {
			t.Fatal(err)
		}
	}
	if r := k.fail(
		t, functions.DeleteUser,
		deletion("msg_gone", "user_gone"), deletion("msg_alive", "user_alive"), deletion("msg_half", "user_half"), deletion("msg_never", "user_never"),
	); r.Failed {
		t.Fatal(r.Error)
	}
	if d := cmp.Diff([]string{"msg_alive", "msg_half", "msg_never"}, k.deadLetters(t)); d != "" {
		t.Errorf("dead letters (-want +got):\n%s", d)
	}
}

// TestClearedByAnotherSending: the run of an event that fails after another sending of the event has written the row
// makes no dead letter.
func TestClearedByAnotherSending(t *testing.T) {
	t.Parallel()
	k := newKeeper(t, nil)
	k.pending(t, "msg_1")
	if r := k.Run(t, functions.UpdateUser, of("msg_1:r1", user)); r.Failed {
		t.Fatal(r.Error)
	}
	if r := k.fail(t, functions.UpdateUser, of("msg_1", user)); r.Failed {
		t.Fatal(r.Error)
	}
	if got := k.deadLetters(t); len(got) > 0 {
		t.Errorf("got dead letters %v, want none", got)
	}
}

// unreadable is a store that cannot be read.
type unreadable struct{ *store.Users }

func (unreadable) Write(context.Context, []store.Write, store.Mode) []store.Result {
	return []store.Result{{Err: errors.New("the database is down")}}
}

func (unreadable) IsDeleted(context.Context, string) (bool, error) {
	return false, errors.New("the database is down")
}

// TestFailedWhileDown: what cannot be compared is neither kept nor forgotten: it is looked at again.
func TestFailedWhileDown(t *testing.T) {
	t.Parallel()
	for fn, e := range map[string]testenv.Event{functions.UpdateUser: of("msg_1", user), functions.DeleteUser: deletion("msg_2", "user_a")} {
		k := newKeeper(t, unreadable{})
		if r := k.fail(t, fn, e); !r.Failed || r.Attempts < 21 {
			t.Errorf("%s: got %+v, want it tried 21 times", e.ID, r)
		}
		if got := k.deadLetters(t); len(got) > 0 {
			t.Errorf("got dead letters %v", got)
		}
	}
}
