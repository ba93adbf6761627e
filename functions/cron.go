package functions

import (
	"context"
	"encoding/json"
)

// Cron is a function that runs at certain times.
type Cron struct {
	id, name, schedule string
	retries            int
	work               func(ctx context.Context, e Event) (any, error)
	// as that of registered; if it is set, the work is done in steps
	more func(result json.RawMessage) bool
}

func (c Cron) registered() registered {
	fn := registered{Function: Function{ID: c.id, Name: c.name}, schedule: c.schedule, retries: c.retries, more: c.more}
	if c.more != nil {
		fn.step = c.id
	}
	fn.work = func(ctx context.Context, events []Event) (any, error) { return c.work(ctx, events[0]) }
	return fn
}
