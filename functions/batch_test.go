package functions_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"clerksync/functions"
	"clerksync/internal/testenv"
	"clerksync/store"
	"clerksync/store/database"

	"github.com/google/go-cmp/cmp"
)

// TestBatch: the rows of a batch are written by the same rules, each event is cleared, and a bad one is a dead letter
// alone.
func TestBatch(t *testing.T) {
	t.Parallel()
	f := setup(t, functions.Functions{InstanceID: "ins_1", BatchSize: 10, BatchTimeout: time.Second})
	f.pending("msg_a", "msg_bad", "msg_foreign", "msg_older", "msg_b", "msg_other")
	event := func(id, data string) testenv.Event {
		return testenv.Event{ID: id, Name: "clerk/user.created", Data: json.RawMessage(data), TS: 1767603600020}
	}
	other := strings.ReplaceAll(user, "user_a", "user_b")
	f.Others = []testenv.Event{
		event("msg_bad", `{"object":"user","first_name":"Ada"}`),
		event("msg_foreign", `{"data":`+other+`,"instance_id":"ins_2"}`),
		event("msg_older", strings.Replace(strings.Replace(user, "Ada", "Eve", 1), "1767603600018", "1767603600001",
			1)),
		event("msg_b:r1", other),
	}
	r := f.Run(t, syncUser, event("msg_a", user))
	if got, want := string(r.Output), `{"events":5,"outcomes":{"created":2,"stale":1},"failed":2}`; got != want {
		t.Errorf("got %s, %s, want %s", got, r.Error, want)
	}
	if d := cmp.Diff([]string{"msg_other"}, f.left(t)); d != "" {
		t.Errorf("left in the inbox (-want +got):\n%s", d)
	}
	var failed []string
	for _, l := range f.deadLetters(t) {
		failed = append(failed, l.ID+" "+l.Function)
	}
	if d := cmp.Diff([]string{"msg_bad app-sync-user-from-clerk", "msg_foreign app-sync-user-from-clerk"},
		failed); d != "" {
		t.Errorf("dead letters (-want +got):\n%s", d)
	}
	for _, id := range []string{"user_a", "user_b"} {
		if row, err := testenv.Get(t, f.users, id); err != nil || row.FullName != "Ada Lovelace" {
			t.Errorf("got %+v, %v", row, err)
		}
	}
	f.Others = f.Others[:1]
	if r := f.Run(t, deleteUser, testenv.Event{
		ID: "msg_d", Name: "clerk/user.deleted",
		Data: json.RawMessage(`{"id":"user_a","deleted":true}`),
	}); r.Failed {
		t.Errorf("got %+v", r)
	}
	if _, err := f.users.Get(t.Context(), "user_a"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("got %v, want no row", err)
	}
}

// TestBatchLastAttempt: what no attempt could write is a dead letter alone, and the batch is done.
func TestBatchLastAttempt(t *testing.T) {
	t.Parallel()
	f := setup(t, functions.Functions{BatchSize: 10, BatchTimeout: time.Second})
	// An index of the app's own refuses a second user with the address, whatever the user name.
	unique := database.Index{Field: "email", Unique: true}
	if err := f.db.Collection("users").EnsureIndex(t.Context(), unique); err != nil {
		t.Fatal(err)
	}
	f.Run(t, syncUser, testenv.Event{ID: "msg_a", Data: json.RawMessage(user), TS: 1767603600020})
	f.pending("msg_a", "msg_b")
	f.Others = []testenv.Event{
		{ID: "msg_b", Data: json.RawMessage(strings.ReplaceAll(user, "user_a", "user_b")), TS: 1767603600020},
	}
	r := f.Run(t, syncUser, testenv.Event{ID: "msg_a", Data: json.RawMessage(user), TS: 1767603600020})
	if got, want := string(r.Output), `{"events":2,"outcomes":{"unchanged":1},"failed":1}`; got != want ||
		r.Attempts != 21 {
		t.Errorf("got %s after %d attempts, %s, want %s", got, r.Attempts, r.Error, want)
	}
	if dead := f.deadLetters(t); len(dead) != 1 || dead[0].ID != "msg_b" ||
		!strings.Contains(dead[0].Error, "unique index") {
		t.Errorf("got dead letters %+v, want msg_b", dead)
	}
	if left := f.left(t); len(left) > 0 {
		t.Errorf("left in the inbox: %v", left)
	}
}

// TestPanicInABatchFailsItsNeighbours: a panic over one event of a batch was one of the attempt, and after 21 of them
// the whole batch was lost to its rows. The others are written in the first attempt now, and it alone is tried again,
// and is a dead letter at the end.
func TestPanicInABatchFailsItsNeighbours(t *testing.T) {
	t.Parallel()
	f := setup(t, functions.Functions{BatchSize: 10, BatchTimeout: time.Second})
	f.pending("msg_a", "msg_b", "msg_c")
	f.faults.Sent = func(command, _ string, body []byte) {
		if command == "insert" && bytes.Contains(body, []byte("user_b")) {
			panic("killed")
		}
	}
	event := func(id string) testenv.Event {
		data := strings.ReplaceAll(user, "user_a", "user_"+id)
		return testenv.Event{
			ID: "msg_" + id, Name: "clerk/user.created", Data: json.RawMessage(data), TS: 1767603600020,
		}
	}
	f.Others = []testenv.Event{event("b"), event("c")}
	if err := f.Attempt(t.Context(), t, syncUser, event("a")); err == nil ||
		!strings.Contains(err.Error(), "panic of type string") {
		t.Errorf("got %v, want it tried again for the panic", err)
	}
	for _, id := range []string{"user_a", "user_c"} {
		if _, err := f.users.Get(t.Context(), id); err != nil {
			t.Errorf("%s: %v after the first attempt", id, err)
		}
	}
	if d := cmp.Diff([]string{"msg_b"}, f.left(t)); d != "" {
		t.Errorf("left in the inbox after the first attempt (-want +got):\n%s", d)
	}
	r := f.Run(t, syncUser, event("a"))
	if got, want := string(r.Output), `{"events":3,"outcomes":{"unchanged":2},"failed":1}`; got != want ||
		r.Attempts != 21 {
		t.Errorf("got %s after %d attempts, %s, want %s", got, r.Attempts, r.Error, want)
	}
	if dead := f.deadLetters(t); len(dead) != 1 || dead[0].ID != "msg_b" || dead[0].Error != "panic of type string" {
		t.Errorf("got dead letters %+v, want msg_b", dead)
	}
}

// TestBatchOverFourMegabytesCanNeverPass: Inngest hands over such a batch without its events. That was tried for a day,
// which cannot help, and then all were dead letters. It is final at once now, and mark-failed, which gets the events,
// writes them: a bad one is a dead letter alone.
func TestBatchOverFourMegabytesCanNeverPass(t *testing.T) {
	t.Parallel()
	f := setup(t, functions.Functions{BatchSize: 10, BatchTimeout: time.Second})
	f.pending("msg_a", "msg_bad", "msg_b")
	body := `{"event":{"name":"clerk/user.created","data":{},"ts":1},"events":[],"steps":{},"use_api":true,` +
		`"ctx":{"run_id":"01J","attempt":0,` +
		`"fn_id":"00000000-0000-0000-0000-000000000001","step_id":"step","stack":{"stack":[],"current":0}}}`
	url := "/api/inngest?stepId=step&fnId=" + f.AppID + "-" + syncUser
	w := httptest.NewRecorder()
	f.Handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body)))
	if w.Header().Get("X-Inngest-No-Retry") != "true" {
		t.Errorf("got %d %s %v, want no retry", w.Code, w.Body, w.Header())
	}
	var answer struct{ Message string }
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
		t.Fatal(err)
	}
	event := func(id, data string) testenv.Event {
		return testenv.Event{ID: id, Name: "clerk/user.created", Data: json.RawMessage(data), TS: 1767603600020}
	}
	events := []testenv.Event{
		event("msg_a", user), event("msg_bad", `{"object":"user"}`),
		event("msg_b", strings.ReplaceAll(user, "user_a", "user_b")),
	}
	data, err := json.Marshal(map[string]any{
		"function_id": f.AppID + "-" + syncUser, "run_id": "01J", "error": answer, "event": events[0], "events": events,
	})
	if err != nil {
		t.Fatal(err)
	}
	if r := f.Run(t, markFailed, testenv.Event{Name: "inngest/function.failed", Data: data}); r.Failed {
		t.Fatal(r.Error)
	}
	for _, id := range []string{"user_a", "user_b"} {
		if _, err := f.users.Get(t.Context(), id); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
	if left := f.left(t); len(left) > 0 {
		t.Errorf("left in the inbox: %v", left)
	}
	if dead := f.deadLetters(t); len(dead) != 1 || dead[0].ID != "msg_bad" {
		t.Errorf("got dead letters %+v, want msg_bad", dead)
	}
}
