package functions_test

import (
	"context"
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

	"github.com/google/go-cmp/cmp"
)

// TestBatch: the rows of a batch are written by the same rules, each event is cleared, and a bad one is a dead letter
// alone.
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
		failed = append(failed, l.Event.ID+" "+l.Failure.Function)
	}
	if d := cmp.Diff([]string{"msg_bad app-sync-user-from-clerk", "msg_foreign app-sync-user-from-clerk"}, failed); d != "" {
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

// unwritable is a store in which one user can never be written.
type unwritable struct {
	*store.Users
	id     string
	panics bool // instead of an error, and for all that are to be written with it
}

func (u *unwritable) Write(ctx context.Context, writes []store.Write, mode store.Mode) []store.Result {
	if mode == store.DryRun {
		return u.Users.Write(ctx, writes, mode)
	}
	results := make([]store.Result, len(writes))
	for _, w := range writes {
		if u.panics && w.User.ID == u.id {
			panic("killed")
		}
	}
	for i, w := range writes {
		if results[i].Err = errors.New("refused"); w.User.ID != u.id {
			results[i] = u.Users.Write(ctx, writes[i:i+1], mode)[0]
		}
	}
	return results
}

// TestBatchLastAttempt: what no attempt could write is a dead letter alone, and the batch is done.
func TestBatchLastAttempt(t *testing.T) {
	t.Parallel()
	b := &box{}
	ex, users := setup(t, functions.Functions{Users: &unwritable{id: "user_b"}, Inbox: b, BatchSize: 10, BatchTimeout: time.Second})
	event := func(id, data string) testenv.Event {
		return testenv.Event{ID: id, Name: "clerk/user.created", Data: json.RawMessage(data), TS: 1767603600020}
	}
	ex.Others = []testenv.Event{event("msg_b", strings.ReplaceAll(user, "user_a", "user_b"))}
	r := ex.Run(t, functions.SyncUser, event("msg_a", user))
	if got, want := string(r.Output), `{"events":2,"outcomes":{"unchanged":1},"failed":1}`; got != want || r.Attempts != 21 {
		t.Errorf("got %s after %d attempts, %s, want %s", got, r.Attempts, r.Error, want)
	}
	if len(b.failed) != 1 || b.failed[0].Event.ID != "msg_b" || b.failed[0].Failure.Attempts != 21 {
		t.Errorf("got dead letters %+v, want msg_b after 21 attempts", b.failed)
	}
	if _, err := users.Get(t.Context(), "user_a"); err != nil {
		t.Error(err)
	}
}

// TestPanicInABatchFailsItsNeighbours: a panic over one event of a batch was one of the attempt, and after 21 of them
// the whole batch was lost to its rows. The others are written in the first attempt now, and it alone is tried again,
// and is a dead letter at the end.
func TestPanicInABatchFailsItsNeighbours(t *testing.T) {
	t.Parallel()
	b := &box{}
	ex, users := setup(t, functions.Functions{Users: &unwritable{id: "user_b", panics: true}, Inbox: b, BatchSize: 10, BatchTimeout: time.Second})
	event := func(id string) testenv.Event {
		data := strings.ReplaceAll(user, "user_a", "user_"+id)
		return testenv.Event{ID: "msg_" + id, Name: "clerk/user.created", Data: json.RawMessage(data), TS: 1767603600020}
	}
	ex.Others = []testenv.Event{event("b"), event("c")}
	if err := ex.Attempt(t.Context(), t, functions.SyncUser, event("a")); err == nil || !strings.Contains(err.Error(), "panic of type string") {
		t.Errorf("got %v, want it tried again for the panic", err)
	}
	for _, id := range []string{"user_a", "user_c"} {
		if _, err := users.Get(t.Context(), id); err != nil {
			t.Errorf("%s: %v after the first attempt", id, err)
		}
	}
	if d := cmp.Diff([]string{"msg_a", "msg_c"}, b.done); d != "" {
		t.Errorf("cleared (-want +got):\n%s", d)
	}
	if len(b.failed) > 0 {
		t.Errorf("got dead letters %+v after the first attempt", b.failed)
	}
	r := ex.Run(t, functions.SyncUser, event("a"))
	if got, want := string(r.Output), `{"events":3,"outcomes":{"unchanged":2},"failed":1}`; got != want || r.Attempts != 21 {
		t.Errorf("got %s after %d attempts, %s, want %s", got, r.Attempts, r.Error, want)
	}
	if len(b.failed) != 1 || b.failed[0].Event.ID != "msg_b" || b.failed[0].Failure.Error != "panic of type string" {
		t.Errorf("got dead letters %+v, want msg_b", b.failed)
	}
}

// TestBatchOverFourMegabytesCanNeverPass: Inngest hands over such a batch without its events. That was tried for a day,
// which cannot help, and then all were dead letters. It is final at once now, and mark-failed, which gets the events,
// writes them: a bad one is a dead letter alone.
func TestBatchOverFourMegabytesCanNeverPass(t *testing.T) {
	t.Parallel()
	b := &box{}
	ex, users := setup(t, functions.Functions{Inbox: b, BatchSize: 10, BatchTimeout: time.Second})
	body := `{"event":{"name":"clerk/user.created","data":{},"ts":1},"events":[],"steps":{},"use_api":true,"ctx":{"run_id":"01J","attempt":0,` +
		`"fn_id":"00000000-0000-0000-0000-000000000001","step_id":"step","stack":{"stack":[],"current":0}}}`
	url := "/api/inngest?stepId=step&fnId=" + ex.AppID + "-" + functions.SyncUser
	w := httptest.NewRecorder()
	ex.Handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body)))
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
	events := []testenv.Event{event("msg_a", user), event("msg_bad", `{"object":"user"}`), event("msg_b", strings.ReplaceAll(user, "user_a", "user_b"))}
	data, err := json.Marshal(map[string]any{
		"function_id": ex.AppID + "-" + functions.SyncUser, "run_id": "01J", "error": answer, "event": events[0], "events": events,
	})
	if err != nil {
		t.Fatal(err)
	}
	if r := ex.Run(t, functions.MarkFailed, testenv.Event{Name: "inngest/function.failed", Data: data}); r.Failed {
		t.Fatal(r.Error)
	}
	for _, id := range []string{"user_a", "user_b"} {
		if _, err := users.Get(t.Context(), id); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
	if d := cmp.Diff([]string{"msg_a", "msg_b"}, b.done); d != "" {
		t.Errorf("cleared (-want +got):\n%s", d)
	}
	if len(b.failed) != 1 || b.failed[0].Event.ID != "msg_bad" {
		t.Errorf("got dead letters %+v, want msg_bad", b.failed)
	}
}
