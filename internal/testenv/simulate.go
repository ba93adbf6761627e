package testenv

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// Delivery is one delivery of a webhook to one of the processes of a lab. It is repeated until it succeeds.
type Delivery struct {
	UserID string
	Do     func(ctx context.Context, process int) error
}

// Deliveries returns the webhooks of the histories in a random order. A fifth of them comes twice, and a fifth also as
// an event of Inngest's own integration. Some users come by the integration alone, if the order of their changes can be
// told without the times in the webhooks. do handles one delivery; copied says that it is the integration's.
func Deliveries(
	rng *rand.Rand, histories []History, do func(ctx context.Context, process int, hook Webhook, copied bool) error,
) []Delivery {
	var all []Delivery
	for _, h := range histories {
		alone := !h.Tie && rng.IntN(5) == 0
		for _, hook := range h.Webhooks {
			add := func(copied bool) {
				all = append(all, Delivery{
					h.UserID, func(ctx context.Context, p int) error { return do(ctx, p, hook, copied) },
				})
			}
			add(alone)
			if rng.IntN(5) == 0 {
				add(alone)
			}
			if rng.IntN(5) == 0 {
				add(true)
			}
		}
	}
	rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

// Simulate makes the deliveries until all have succeeded. Each process makes one at a time, and one in rarity database
// calls has a fault. after is called when a delivery has succeeded; its error ends the simulation. The error of
// Simulate tells what happened before.
func (l *Lab) Simulate(
	ctx context.Context, rng *rand.Rand, deliveries []Delivery, rarity int, after func(userID string) error,
) error {
	doing := make([]Delivery, len(l.Processes))
	var log strings.Builder
	fail := func(err error) error { return fmt.Errorf("%w\nafter:\n%s", err, log.String()) }
	for steps := 0; ; steps++ {
		if steps > 10_000 {
			return fail(fmt.Errorf("it does not end"))
		}
		var waiting []int
		for i, p := range l.Processes {
			if !p.Waiting() && len(deliveries) > 0 {
				doing[i], deliveries = deliveries[0], deliveries[1:]
				fmt.Fprintf(&log, "%d takes %s\n", i, doing[i].UserID)
				if ended, err := p.Start(ctx, func(ctx context.Context) error { return doing[i].Do(ctx, i) }); ended {
					return fail(fmt.Errorf("a delivery ended without a call: %w", err))
				}
			}
			if p.Waiting() {
				waiting = append(waiting, i)
			}
		}
		if len(waiting) == 0 {
			return nil
		}
		i := waiting[rng.IntN(len(waiting))]
		f := None
		if rng.IntN(rarity) == 0 {
			f = Fault(rng.IntN(int(Faults)))
		}
		call := l.Processes[i].call
		ended, err := l.Processes[i].Step(f)
		fmt.Fprintf(&log, "%d %s %s", i, call, f)
		switch {
		case ended && err != nil: // Inngest tries it again, now or later
			deliveries = slices.Insert(deliveries, rng.IntN(len(deliveries)+1), doing[i])
			fmt.Fprintf(&log, ": %v", err)
		case ended:
			fmt.Fprintf(&log, ": done")
			if err := after(doing[i].UserID); err != nil {
				return fail(err)
			}
		}
		log.WriteByte('\n')
	}
}
