package functions

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"clerksync/inbox"

	"github.com/inngest/inngestgo"
)

// failed is the data of Inngest's event inngest/function.failed
// (https://www.inngest.com/docs/reference/system-events/inngest-function-failed).
type failed struct {
	FunctionID string `json:"function_id"`
	RunID      string `json:"run_id"`
	Error      struct {
		Message string `json:"message"`
	} `json:"error"`
	Event  inngestgo.GenericEvent[raw]   `json:"event"`
	Events []inngestgo.GenericEvent[raw] `json:"events"` // all events of a batch, whose first is Event
}

// markFailed returns the function that keeps the events of the other functions' runs that have failed for good.
func (f *Functions) markFailed(all []registered) registered {
	slug := func(fn registered) string { return f.app + "-" + fn.ID }
	var ours []string
	for _, fn := range all {
		if fn.failed != nil {
			ours = append(ours, fmt.Sprintf("event.data.function_id == '%s'", slug(fn)))
		}
	}
	m := registered{
		Function: Function{
			ID: "mark-failed-event", Name: "Mark an event as failed", Events: []string{"inngest/function.failed"},
		},
		filter: new(strings.Join(ours, " || ")),
	}
	m.work = func(ctx context.Context, told []Event) (any, error) {
		var d failed
		if err := json.Unmarshal(told[0].Data, &d); err != nil {
			return nil, NoRetry(fmt.Errorf("read which run has failed: %w", err))
		}
		if len(d.Events) == 0 {
			d.Events = append(d.Events, d.Event)
		}
		why := inbox.Failure{Function: d.FunctionID, RunID: d.RunID, Error: d.Error.Message}
		for _, fn := range all {
			if slug(fn) == d.FunctionID && fn.failed != nil {
				var errs []error
				run := inngestgo.InputCtx{RunID: d.RunID, Attempt: told[0].Attempt}
				for _, e := range f.events(fn.ID, d.Events, run) {
					ctx, done := f.begin(ctx, m.ID, []Event{e}) // in the trace of what has failed
					err := fn.failed(ctx, e, why)
					done(err)
					errs = append(errs, err)
				}
				return fmt.Sprint("looked at ", len(d.Events)), errors.Join(errs...)
			}
		}
		return "skipped: no function of ours", nil
	}
	return m
}
