package functions

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"clerksync/clerk"
	"clerksync/reconcile"
)

// ReconcileUsers is the id of the function that compares all rows and all users; the other tiers' have the tier at the
// end.
const ReconcileUsers = "reconcile-users-with-clerk"

// reconcileRetries is how often a step is tried again, over about half an hour: then the next run comes.
const reconcileRetries = 6

// Reconcile returns the functions of those tiers that have a cron.
func Reconcile(r *reconcile.Reconcile, crons map[reconcile.Tier]string) []Function {
	all := map[reconcile.Tier]Function{
		reconcile.Recent: {ID: ReconcileUsers + "-recent", Name: "Repair the users that Clerk has just changed"},
		reconcile.Absent: {ID: ReconcileUsers + "-absent", Name: "Remove the users that Clerk has no more"},
		reconcile.Full:   {ID: ReconcileUsers, Name: "Compare all users with Clerk"},
	}
	var fns []Function
	for _, t := range reconcile.Tiers() {
		fn := all[t]
		if fn.cron = crons[t]; fn.cron == "" {
			continue
		}
		fn.retries = new(reconcileRetries)
		fn.Run = func(ctx context.Context, e Event) (any, error) { return reconcileStep(ctx, r, t, e) }
		fn.more = func(result json.RawMessage) bool {
			var p reconcile.Progress
			return json.Unmarshal(result, &p) == nil && p.ID != "" && !p.Done()
		}
		fns = append(fns, fn)
	}
	return fns
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
			"missing", p.Found.Missing, "stale", p.Found.Stale, "extra", p.Found.Extra, "buried", p.Found.Buried, "unknown", p.Found.Unknown, "failed", p.Found.Failed)
	}
	return p, nil
}
