package functions

import (
	"context"
	"fmt"
	"strings"

	"clerksync/clerk"
	"clerksync/inbox"

	"github.com/inngest/inngestgo"
	"github.com/inngest/inngestgo/step"
)

// failed is the data of Inngest's event inngest/function.failed
// (https://www.inngest.com/docs/reference/system-events/inngest-function-failed).
type failed struct {
	FunctionID string `json:"function_id"`
	RunID      string `json:"run_id"`
	Error      struct {
		Message string `json:"message"`
	} `json:"error"`
	Event struct {
		ID   string `json:"id"`
		Name string `json:"name"`
		Data raw    `json:"data"`
		TS   int64  `json:"ts"`
	} `json:"event"`
}

// registerMarkFailed creates the function that keeps the events whose runs have failed for good.
func (f *Functions) registerMarkFailed(client inngestgo.Client, all []Function) error {
	var ours []string
	others := map[string]Function{} // those that write no row, by Inngest's id
	for _, fn := range all {
		if fn.cron != "" { // no event: it comes again by itself
			continue
		}
		id := client.AppID() + "-" + fn.ID
		ours = append(ours, fmt.Sprintf("event.data.function_id == '%s'", id))
		if !fn.row {
			others[id] = fn
		}
	}
	_, err := inngestgo.CreateFunction(client, inngestgo.FunctionOpts{
		ID:      MarkFailed,
		Name:    "Mark an event as failed",
		Retries: new(retries),
	}, inngestgo.EventTrigger("inngest/function.failed", new(strings.Join(ours, " || "))),
		func(ctx context.Context, in inngestgo.Input[failed]) (any, error) {
			return step.Run(ctx, "mark-failed", func(ctx context.Context) (string, error) {
				d := in.Event.Data
				data, err := clerk.WithoutSecrets(d.Event.Data.RawMessage, false) // our ingress has cut it already, the integration has not
				if err != nil {
					data = d.Event.Data.RawMessage
				}
				e := inbox.Event{ID: d.Event.ID, Name: d.Event.Name, Data: data, TS: d.Event.TS}
				if fn, ok := others[d.FunctionID]; ok {
					e = ownDeadLetter(e, fn.ID)
				}
				attempts, message := readAttempts(d.Error.Message)
				return e.ID, f.Inbox.Fail(ctx, e, inbox.Failure{Function: d.FunctionID, RunID: d.RunID, Error: message, Attempts: attempts})
			})
		})
	if err != nil {
		return fmt.Errorf("create function %s: %w", MarkFailed, err)
	}
	return nil
}

// ownDeadLetter is the dead letter of a function that writes no row. It leaves the event's own row in the inbox alone, and a replay of
// it runs that function and no other.
func ownDeadLetter(e inbox.Event, fnID string) inbox.Event {
	e.ID, e.Name = inbox.ParseEventID(e.ID).Own(fnID).String(), replayPrefix+fnID
	return e
}

// inAttempt begins the errors of our functions, because Inngest does not tell how often a failed run was tried.
const inAttempt = "in attempt %d: "

// readAttempts takes an error of a failed run apart. One that does not begin so never reached our code, or ended it: such a run has
// used up all its attempts.
func readAttempts(message string) (attempts int, rest string) {
	rest = strings.TrimPrefix(message, "unhandled step error: ") // the SDK's, where a step has failed
	if _, err := fmt.Sscanf(rest, inAttempt, &attempts); err != nil {
		return retries + 1, rest
	}
	_, rest, _ = strings.Cut(rest, ": ")
	return attempts, rest
}
