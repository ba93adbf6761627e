package reconcile

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"clerksync/store/database"
)

// Named returns where the state of past runs has the id of a user, a line each.
func Named(ctx context.Context, state database.Checkpoints, userID string) ([]string, error) {
	return named(ctx, state, userID, false)
}

// Forget removes the id of a user from the state of past runs, and returns where it was. A run that is under way may
// save the id again. If a backfill was cut off at this user, the next one begins with the first user.
func Forget(ctx context.Context, state database.Checkpoints, userID string) ([]string, error) {
	return named(ctx, state, userID, true)
}

func named(ctx context.Context, state database.Checkpoints, userID string, forget bool) (lines []string, _ error) {
	for _, tier := range Tiers() {
		saved, err := load[savedRuns](ctx, state, runsName(tier))
		if err != nil {
			return lines, err
		}
		var of []string
		for i := range saved.Runs {
			r := &saved.Runs[i]
			if !slices.Contains(r.Buried, userID) && !strings.Contains(r.Error, userID) {
				continue
			}
			of = append(of, fmt.Sprintf("the %s run of %s", tier, r.StartedAt.UTC().Format(time.RFC3339)))
			r.Buried = slices.DeleteFunc(r.Buried, func(id string) bool { return id == userID })
			r.Error = strings.ReplaceAll(r.Error, userID, "(an erased user)")
		}
		if forget && len(of) > 0 {
			if err := state.Save(ctx, runsName(tier), saved); err != nil {
				return lines, err
			}
		}
		lines = append(lines, of...)
	}
	p, err := load[Progress](ctx, state, backfillName)
	if err != nil || !strings.Contains(p.Next+p.Error, userID) && !slices.Contains(p.Buried, userID) {
		return lines, err
	}
	if forget {
		if err := state.Remove(ctx, backfillName); err != nil {
			return lines, err
		}
	}
	return append(lines, "the backfill that was cut off"), nil
}
