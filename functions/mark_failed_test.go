package functions_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"clerksync/functions"
	"clerksync/internal/testenv"

	"github.com/google/go-cmp/cmp"
)

// fail reports that a run of a function with these events has failed for good.
func (r rig) fail(t *testing.T, fn string, events ...testenv.Event) testenv.Run {
	t.Helper()
	data, err := json.Marshal(map[string]any{
		"function_id": "app-" + fn, "run_id": "01J", "error": map[string]string{"message": "why"}, "event": events[0],
		"events": events,
	})
	if err != nil {
		t.Fatal(err)
	}
	return r.Run(t, markFailed, testenv.Event{Name: "inngest/function.failed", Data: data})
}

func of(id, user string) testenv.Event {
	return testenv.Event{ID: id, Name: "clerk/user.updated", Data: json.RawMessage(user), TS: 1767603600020}
}

func deletion(id, userID string) testenv.Event {
	return testenv.Event{
		ID: id, Name: "clerk/user.deleted", Data: json.RawMessage(`{"id":"` + userID +
			`","object":"user","deleted":true}`), TS: 1767603600030,
	}
}

// TestFailedBatch: of a batch that failed for good every event is kept that has not been written, and no other.
func TestFailedBatch(t *testing.T) {
	t.Parallel()
	f := setup(t, functions.Functions{InstanceID: "ins_1"})
	named := func(id, name string) string {
		return strings.NewReplacer("user_a", id, "Lovelace", name).Replace(user)
	}
	newer := strings.Replace(named("user_newer", "King"), "1767603600018", "1767603700000", 1)
	for i, u := range []string{named("user_written", "Lovelace"), newer} {
		if r := f.Run(t, updateUser, of("msg_before", u)); r.Failed {
			t.Fatal(i, r.Error)
		}
	}
	f.pending("msg_pending")
	for range 2 { // it may be tried again
		if r := f.fail(
			t, updateUser,
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
	if d := cmp.Diff(want, f.deadIDs(t)); d != "" {
		t.Errorf("dead letters (-want +got):\n%s", d)
	}
}

// TestFailedDeletion: a deletion is kept unless its tombstone is there and its row is not.
func TestFailedDeletion(t *testing.T) {
	t.Parallel()
	f := setup(t, functions.Functions{InstanceID: "ins_1"})
	for _, id := range []string{"user_alive", "user_half"} {
		if r := f.Run(t, syncUser, of("msg_before", strings.ReplaceAll(user, "user_a", id))); r.Failed {
			t.Fatal(r.Error)
		}
	}
	for _, id := range []string{"user_half", "user_gone"} {
		if _, err := f.db.Collection("clerksync_deleted_users").InsertOne(t.Context(),
			map[string]any{"_id": id}); err != nil {
			t.Fatal(err)
		}
	}
	if r := f.fail(
		t, deleteUser,
		deletion("msg_gone", "user_gone"), deletion("msg_alive", "user_alive"), deletion("msg_half", "user_half"),
		deletion("msg_never", "user_never"),
	); r.Failed {
		t.Fatal(r.Error)
	}
	if d := cmp.Diff([]string{"msg_alive", "msg_half", "msg_never"}, f.deadIDs(t)); d != "" {
		t.Errorf("dead letters (-want +got):\n%s", d)
	}
}

// TestClearedByAnotherSending: the run of an event that fails after another sending of the event has written the row
// makes no dead letter.
func TestClearedByAnotherSending(t *testing.T) {
	t.Parallel()
	f := setup(t, functions.Functions{InstanceID: "ins_1"})
	f.pending("msg_1")
	if r := f.Run(t, updateUser, of("msg_1:r1", user)); r.Failed {
		t.Fatal(r.Error)
	}
	if r := f.fail(t, updateUser, of("msg_1", user)); r.Failed {
		t.Fatal(r.Error)
	}
	if got := f.deadIDs(t); len(got) > 0 {
		t.Errorf("got dead letters %v, want none", got)
	}
}

// TestFailedWhileDown: what cannot be compared is neither kept nor forgotten: it is looked at again.
func TestFailedWhileDown(t *testing.T) {
	t.Parallel()
	for fn, e := range map[string]testenv.Event{
		updateUser: of("msg_1", user),
		deleteUser: deletion("msg_2", "user_a"),
	} {
		f := setup(t, functions.Functions{})
		f.faults.Sent = func(_, collection string, _ []byte) { // the inbox can be read
			f.faults.Verdict = func(string) testenv.Verdict {
				if collection == "clerksync_inbox" {
					return testenv.Apply
				}
				return testenv.Refuse
			}
		}
		r := f.fail(t, fn, e)
		f.faults.Sent, f.faults.Verdict = nil, nil
		if !r.Failed || r.Attempts < 21 {
			t.Errorf("%s: got %+v, want it tried 21 times", e.ID, r)
		}
		if got := f.deadIDs(t); len(got) > 0 {
			t.Errorf("got dead letters %v", got)
		}
	}
}

// TestDeadLetterKeepsWhatIsForwarded: the dead letter of an app's function lost private_metadata although the setting
// keeps it in the events, so that a replay gave the function other data than the first run.
func TestDeadLetterKeepsWhatIsForwarded(t *testing.T) {
	t.Parallel()
	data := strings.Replace(user, "{", `{"private_metadata":{"plan":"pro"},`, 1)
	for _, forward := range []bool{false, true} {
		f := setup(t, functions.Functions{
			ForwardPrivateMetadata: forward,
			Own: []functions.Function{{
				ID: "crm", Events: []string{"clerk/user.updated"},
				Run: func(context.Context, functions.Event) (any, error) { return nil, nil },
			}},
		})
		if r := f.fail(t, "crm", of("msg_1", data)); r.Failed {
			t.Fatal(r.Error)
		}
		dead := f.deadLetters(t)
		if len(dead) != 1 || strings.Contains(string(dead[0].Data), "private_metadata") != forward {
			t.Errorf("forwarded %v: got %+v", forward, dead)
		}
	}
}
