package functions

import (
	"context"
	"fmt"
	"strings"

	"clerksync/inbox"

	"github.com/inngest/inngestgo"
	"github.com/inngest/inngestgo/step"
)

// failed is the data of Inngest's event inngest/function.failed
// (https://www.inngest.com/docs/reference/system-events/inngest-function-failed).
type failed struct {
	FunctionID string `json:"function_id"`
	Error      struct {
		Message string `json:"message"`
	} `json:"error"`
	Event struct {
		ID string `json:"id"`
	} `json:"event"`
}

// registerMarkFailed creates the function that keeps the events whose runs have failed for good.
func (f *Functions) registerMarkFailed(client inngestgo.Client) error {
	var ours []string
	for _, id := range []string{SyncUser, UpdateUser, DeleteUser} {
		ours = append(ours, fmt.Sprintf("event.data.function_id == '%s-%s'", client.AppID(), id))
	}
	_, err := inngestgo.CreateFunction(client, inngestgo.FunctionOpts{
		ID:      MarkFailed,
		Name:    "Mark an event as failed",
		Retries: new(retries),
	}, inngestgo.EventTrigger("inngest/function.failed", new(strings.Join(ours, " || "))),
		func(ctx context.Context, in inngestgo.Input[failed]) (any, error) {
			return step.Run(ctx, "mark-failed", func(ctx context.Context) (string, error) {
				d := in.Event.Data
				return d.Event.ID, f.Inbox.Fail(ctx, d.Event.ID, inbox.Failure{Function: d.FunctionID, Error: d.Error.Message})
			})
		})
	if err != nil {
		return fmt.Errorf("create function %s: %w", MarkFailed, err)
	}
	return nil
}
