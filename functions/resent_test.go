package functions_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"

	"clerksync/functions"
	"clerksync/internal/testenv"
	"clerksync/store"

	"github.com/google/go-cmp/cmp"
)

// TestResentToAppsFunction: a function of the app that has done its work for a message is not run again because the
// event is sent again: after a second endpoint of Clerk's, for a rotation, has delivered its copy of what was cleared,
// or because the row's function was slow.
func TestResentToAppsFunction(t *testing.T) {
	t.Parallel()
	db := testenv.NewMemory().Connect(t, "test", nil, nil)
	var ran []string
	failing := errors.New("the CRM is down")
	crm := functions.Function{
		ID: "crm", Events: []string{"clerk/user.created"},
		Run: func(_ context.Context, e functions.Event) (any, error) {
			ran = append(ran, e.MessageID)
			if e.MessageID == "msg_2" {
				return nil, failing
			}
			return "done", nil
		},
	}
	f := setup(t, functions.Functions{Runs: store.NewRuns(db), Own: []functions.Function{crm}})
	f.Attempts = 1
	for _, id := range []string{"msg_1", "msg_1:r1", "msg_1:r2", "msg_2", "msg_2:r1", "msg_3:r1", "msg_3:r1"} {
		if id == "msg_2:r1" {
			failing = nil
		}
		f.Run(t, "crm", testenv.Event{
			ID: id, Name: "clerk/user.created", Data: json.RawMessage(user), TS: 1767603600018,
		})
	}
	// The failed one runs again, and so does what Inngest lost the first time.
	if d := cmp.Diff([]string{"msg_1", "msg_2", "msg_2", "msg_3"}, ran); d != "" {
		t.Errorf("ran for (-want +got):\n%s", d)
	}
}
