package functions

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/inngest/inngestgo"
)

// Cron is a function that runs at certain times.
type Cron struct {
	id, name, schedule string
	retries            int
	// work does the work, or, if more is set, one step of it; last is what the step before returned, nil in the first.
	work func(ctx context.Context, e Event, last json.RawMessage) (any, error)
	more func(result json.RawMessage) bool // tells whether another step follows; nil makes no steps
}

func (f *Functions) cron(c Cron) registered {
	fn := registered{FunctionOpts: options(c.id, c.name), triggers: inngestgo.MultipleTriggers{inngestgo.CronTrigger(c.schedule)}}
	fn.Retries = &c.retries
	step := func(name string, last json.RawMessage) func(context.Context, inngestgo.Input[raw]) (any, error) {
		return f.body(fn, name, func(ctx context.Context, events []Event) (any, error) {
			e := events[0]
			e.Log = f.Log.With("function", c.id, "run_id", e.RunID)
			return c.work(ctx, e, last)
		})
	}
	if fn.run = step("", nil); c.more == nil {
		return fn
	}
	fn.run = func(ctx context.Context, in inngestgo.Input[raw]) (any, error) {
		name := c.id
		var last json.RawMessage
		for n := 2; ; n++ {
			res, err := step(name, last)(ctx, in)
			if err != nil {
				return nil, err
			}
			if last = res.(json.RawMessage); !c.more(last) {
				return last, nil
			}
			name = fmt.Sprint(c.id, "-", n)
		}
	}
	return fn
}
