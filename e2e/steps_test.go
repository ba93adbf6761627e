package e2e_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"clerksync/internal/testenv"
)

// TestSteps: what a function does is a named step in the run's trace, with an outcome and no more, whether the server
// takes checkpoints or is an old one; and a run that fails for good is a dead letter with the words of its error.
func TestSteps(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{env: []string{"INBOX_RESEND_AFTER=1h"}})
	rng := rand.New(rand.NewPCG(15, 16))
	var h testenv.History
	for len(h.Webhooks) == 0 || h.Webhooks[len(h.Webhooks)-1].Type != "user.deleted" {
		h = testenv.Histories(t, rng, 1)[0]
	}
	for _, hook := range h.Webhooks {
		w.deliver(hook)
	}
	w.drained()
	w.deliver(testenv.Webhook{
		ID: "msg_poison", Body: []byte(`{"type":"user.created","data":{"object":"user","first_name":"Ada"}}`),
	})
	w.until("the dead letter is there", func() bool {
		return strings.Contains(w.command("deadletters", "list"), "msg_poison")
	})
	w.until("the runs have ended", func() bool {
		return len(w.runs("COMPLETED")) > len(h.Webhooks) && len(w.runs("FAILED")) == 1
	})

	// What the first one writes depends on their order. Inngest has a step in the trace a while after it is done.
	for _, want := range []string{"write-user COMPLETED {", `delete-user COMPLETED {"outcome":"deleted","user_id":"` +
		h.UserID + `"}`} {
		w.until("there is the step "+want, func() bool {
			var steps []string
			for _, id := range slices.Concat(w.runs("COMPLETED"), w.runs("FAILED")) {
				steps = append(steps, w.steps(id)...)
			}
			return slices.ContainsFunc(steps, func(s string) bool { return strings.HasPrefix(s, want) })
		})
	}
	if show := w.command("deadletters", "show", "msg_poison"); !strings.Contains(show,
		"error     not a Clerk user: it has no id\n") {
		t.Errorf("got\n%s", show)
	}
}

// runs returns the ids of the runs that have ended so.
func (w *world) runs(status string) (ids []string) {
	w.t.Helper()
	var list struct {
		Runs struct {
			Edges []struct{ Node struct{ ID, Status string } }
		}
	}
	w.graphql(`{runs(first:100,orderBy:[{field:QUEUED_AT,direction:DESC}],`+
		`filter:{from:"2020-01-01T00:00:00Z"}){edges{node{id status}}}}`, &list)
	for _, e := range list.Runs.Edges {
		if e.Node.Status == status {
			ids = append(ids, e.Node.ID)
		}
	}
	return ids
}

// steps returns the steps in the trace of a run: name, status and output.
func (w *world) steps(runID string) (steps []string) {
	w.t.Helper()
	type span struct {
		Name, Status, StepOp, OutputID string
		ChildrenSpans                  []span
	}
	var run struct{ Run struct{ Trace span } }
	w.graphql(fmt.Sprintf(`{run(runID:%q){trace(preview:true){name status stepOp outputID childrenSpans{name status `+
		`stepOp outputID}}}}`, runID), &run)
	for _, s := range run.Run.Trace.ChildrenSpans {
		var out struct {
			RunTraceSpanOutputByID struct{ Data string }
		}
		w.graphql(fmt.Sprintf(`{runTraceSpanOutputByID(outputID:%q){data}}`, s.OutputID), &out)
		steps = append(steps, s.Name+" "+s.Status+" "+out.RunTraceSpanOutputByID.Data)
	}
	return steps
}
