package functions

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"clerksync/clerk"
	"clerksync/reconcile"
)

// reconcileRetries is how often a step is tried again, over about half an hour: then the next run comes.
const reconcileRetries = 6

// Reconcile returns the functions of those tiers that have a cron.
func Reconcile(r *reconcile.Reconcile, crons map[reconcile.Tier]string) []Cron {
	var all []Cron
	for _, t := range []struct {
		reconcile.Tier
		id, name string
	}{
		{reconcile.Recent, "reconcile-users-with-clerk-recent", "Repair the users that Clerk has just changed"},
		{reconcile.Absent, "reconcile-users-with-clerk-absent", "Remove the users that Clerk has no more"},
		{reconcile.Full, "reconcile-users-with-clerk", "Compare all users with Clerk"},
	} {
		if crons[t.Tier] == "" {
			continue
		}
		all = append(all, Cron{
			id: t.id, name: t.name, schedule: crons[t.Tier], retries: reconcileRetries,
			work: func(ctx context.Context, e Event) (any, error) { return reconcileStep(ctx, r, t.Tier, e) },
			more: func(result json.RawMessage) bool {
				var p reconcile.Progress
				return json.Unmarshal(result, &p) == nil && p.ID != "" && !p.Done()
			},
		})
	}
	return all
}

func reconcileStep(ctx context.Context, r *reconcile.Reconcile, t reconcile.Tier, e Event) (any, error) {
	p := reconcile.Start(t, e.RunID)
	if e.last != nil {
		if err := json.Unmarshal(e.last, &p); err != nil {
			return nil, NoRetry(fmt.Errorf("read what the step before has left: %w", err))
		}
	}
	p, err := r.Step(ctx, p)
	switch {
	case errors.Is(err, reconcile.ErrBusy) && t == reconcile.Recent && e.last == nil:
		return "skipped: another reconcile is running", nil // and the next run looks as far back
	case errors.Is(err, reconcile.ErrBrake), errors.Is(err, clerk.ErrKey):
		e.Log.ErrorContext(ctx, "the reconcile has failed", "tier", t, "error", err)
		return nil, NoRetry(err)
	case err != nil:
		return nil, err
	case p.Done():
		e.Log.InfoContext(ctx, "reconciled", "tier", t, "users", p.Found.Users, "rows", p.Found.Rows,
			"missing", p.Found.Missing, "stale", p.Found.Stale, "extra", p.Found.Extra, "buried", p.Found.Buried,
			"unknown", p.Found.Unknown, "failed", p.Found.Failed)
	}
	return p, nil
}
