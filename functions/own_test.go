package functions_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"clerksync/functions"
	"clerksync/inbox"
	"clerksync/internal/testenv"
)

func TestRegister(t *testing.T) {
	t.Parallel()
	good := functions.Function{
		ID: "a", Events: []string{"x"}, Run: func(context.Context, functions.Event) (any, error) { return nil, nil },
	}
	change := func(f func(*functions.Function)) functions.Function { fn := good; f(&fn); return fn }
	for name, tc := range map[string]struct {
		fns  []functions.Function
		want string
	}{
		"good":  {[]functions.Function{good}, ""},
		"twice": {[]functions.Function{good, good}, `"a" is the id of another function too`},
		"one of ours": {
			[]functions.Function{change(func(f *functions.Function) {
				f.ID = syncUser
			})}, "is the id of another function too",
		},
		"the keeper's": {
			[]functions.Function{change(func(f *functions.Function) {
				f.ID = markFailed
			})}, "is the id of another function too",
		},
		"no id": {
			[]functions.Function{change(func(f *functions.Function) { f.ID = "" })}, `"" is no id`,
		},
		"no event": {
			[]functions.Function{change(func(f *functions.Function) { f.Events = nil })}, "runs on no event",
		},
		"an event without a name": {
			[]functions.Function{change(func(f *functions.Function) {
				f.Events = []string{"x", " "}
			})}, "runs on an event without a name",
		},
		"does nothing": {
			[]functions.Function{change(func(f *functions.Function) { f.Run = nil })}, "does nothing",
		},
		"ends as an event sent again": {
			[]functions.Function{change(func(f *functions.Function) {
				f.ID = "r5"
			})}, `"r5" is how the id of an event ends that is sent again`,
		},
		"ends as an event replayed": {
			[]functions.Function{change(func(f *functions.Function) {
				f.ID = "replay2"
			})}, `"replay2" is how the id of an event ends`,
		},
		"almost": {
			[]functions.Function{change(func(f *functions.Function) { f.ID = "r5d2" })}, "",
		},
		"an odd id": {
			[]functions.Function{change(func(f *functions.Function) { f.ID = "it's" })}, "is no id",
		},
	} {
		client, _ := testenv.NewExecutor(t, nil)
		err := (&functions.Functions{Own: tc.fns}).Register(client, false)
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %q", name, err, tc.want)
		}
	}
}

// TestPanic: a panic is an error like another, tried again, and its text goes nowhere.
func TestPanic(t *testing.T) {
	t.Parallel()
	calls := 0
	f := setup(t, functions.Functions{Own: []functions.Function{{
		ID: "a", Events: []string{"x"}, Run: func(_ context.Context, e functions.Event) (any, error) {
			if calls++; calls < 3 {
				panic("ada@example.com")
			}
			return fmt.Sprint(e.MessageID, " ", e.RunID), nil
		},
	}}})
	r := f.Run(t, "a", testenv.Event{ID: "msg_1:r3", Name: "x", Data: json.RawMessage(`{}`)})
	if string(r.Output) != `"msg_1 01JTESTRUN"` || calls != 3 || strings.Contains(r.Error, "ada@") {
		t.Errorf("got %+v after %d calls", r, calls)
	}
}

// TestDeadLetterOfTheDeleted: what an app's function could not do for a user who was deleted since is not kept for a
// replay; a deletion, and what is about somebody else, is.
func TestDeadLetterOfTheDeleted(t *testing.T) {
	t.Parallel()
	f := setup(t, functions.Functions{Own: []functions.Function{{
		ID: "crm", Events: []string{"clerk/user.updated", "clerk/user.deleted", "clerk/session.created"},
		Run: func(context.Context, functions.Event) (any, error) { return nil, nil },
	}}})
	ids := func() (ids []string) {
		for _, l := range f.deadLetters(t) {
			ids = append(ids, l.ID)
		}
		return ids
	}
	ada := func(id string) testenv.Event { return of(id, `{"id":"user_a","object":"user"}`) }
	replayed := ada("msg_before:crm:replay1")
	replayed.Name = "clerksync/replay.crm"
	fail := func(events ...testenv.Event) {
		t.Helper()
		for _, e := range events {
			if r := f.fail(t, "crm", e); r.Failed {
				t.Fatal(r.Error)
			}
		}
	}
	fail(ada("msg_before"))
	if d := cmp.Diff([]string{"msg_before:crm"}, ids()); d != "" {
		t.Errorf("before (-want +got):\n%s", d)
	}
	testenv.Delete(t, f.users, "user_a")
	fail(ada("msg_after"), of("msg_wrapped:r1", `{"data":{"id":"user_a"}}`),
		of("msg_unreadable", `{"id":"user_a","object":7}`),
		deletion("msg_gone", "user_a"), of("msg_bob", `{"id":"user_b","by":{"user_id":"user_a"}}`),
		of("msg_session", `{"id":"sess_1","object":"session"}`), of("msg_odd", `[]`))
	want := []string{"msg_before:crm", "msg_bob:crm", "msg_gone:crm", "msg_odd:crm", "msg_session:crm"}
	if d := cmp.Diff(want, ids()); d != "" {
		t.Errorf("after (-want +got):\n%s", d)
	}
	fail(replayed)
	if d := cmp.Diff(want[1:], ids()); d != "" {
		t.Errorf("after the replay of one from before (-want +got):\n%s", d)
	}
}

// TestMessageID: all sendings of an event, and of a function's own dead letter for it, are of one message.
func TestMessageID(t *testing.T) {
	t.Parallel()
	for _, e := range []inbox.Event{
		{ID: "msg_1", Name: "clerk/user.created"},
		{ID: "msg_1:r7", Name: "clerk/user.created"},
		{ID: "msg_1:replay7", Name: "clerk/user.created"},
		{ID: "msg_1:own", Name: "clerksync/replay.own"},
		{ID: "msg_1:own:replay1", Name: "clerksync/replay.own"},
	} {
		if got := functions.MessageID(e); got != "msg_1" {
			t.Errorf("%s: got %s, want msg_1", e.ID, got)
		}
	}
}
