package functions_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"clerksync/functions"
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
