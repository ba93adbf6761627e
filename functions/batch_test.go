package functions_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"clerksync/functions"
	"clerksync/internal/testenv"
	"clerksync/store"

	"github.com/google/go-cmp/cmp"
)

// TestBatch: the rows of a batch are written by the same rules, each event is cleared, and a bad one is a dead letter alone.
func TestBatch(t *testing.T) {
	t.Parallel()
	b := &box{}
	ex, users := setup(t, functions.Functions{Inbox: b, InstanceID: "ins_1", BatchSize: 10, BatchTimeout: time.Second})
	event := func(id, data string) testenv.Event {
		return testenv.Event{ID: id, Name: "clerk/user.created", Data: json.RawMessage(data), TS: 1767603600020}
	}
	other := strings.ReplaceAll(user, "user_a", "user_b")
	ex.Others = []testenv.Event{
		event("msg_bad", `{"object":"user","first_name":"Ada"}`),
		event("msg_foreign", `{"data":`+other+`,"instance_id":"ins_2"}`),
		event("msg_older", strings.Replace(strings.Replace(user, "Ada", "Eve", 1), "1767603600018", "1767603600001", 1)),
		event("msg_b:r1", other),
	}
	r := ex.Run(t, functions.SyncUser, event("msg_a", user))
	if got, want := string(r.Output), `{"events":5,"outcomes":{"created":2,"stale":1},"failed":2}`; got != want {
		t.Errorf("got %s, %s, want %s", got, r.Error, want)
	}
	if d := cmp.Diff([]string{"msg_a", "msg_older", "msg_b:r1"}, b.done); d != "" {
		t.Errorf("cleared (-want +got):\n%s", d)
	}
	var failed []string
	for _, l := range b.failed {
		failed = append(failed, l.Event.ID)
	}
	if d := cmp.Diff([]string{"msg_bad", "msg_foreign"}, failed); d != "" {
		t.Errorf("dead letters (-want +got):\n%s", d)
	}
	for _, id := range []string{"user_a", "user_b"} {
		if row, err := users.Get(t.Context(), id); err != nil || row.FullName != "Ada Lovelace" {
			t.Errorf("got %+v, %v", row, err)
		}
	}
	ex.Others = ex.Others[:1]
	if r := ex.Run(t, functions.DeleteUser, testenv.Event{ID: "msg_d", Name: "clerk/user.deleted", Data: json.RawMessage(`{"id":"user_a","deleted":true}`)}); r.Failed {
		t.Errorf("got %+v", r)
	}
	if _, err := users.Get(t.Context(), "user_a"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("got %v, want no row", err)
	}
}
