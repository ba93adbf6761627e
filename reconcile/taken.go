package reconcile

import (
	"context"
	"errors"
	"slices"
	"time"

	"clerksync/store"
)

// untangle writes the users of a page whom a unique index of the app's has refused, because another user's row still
// has, say, their address. It does what that user's lost or late webhook would do: it asks Clerk for the user and
// writes the row. That row may be refused in turn, and so on, until the first user is met again: then these users have
// passed their addresses round in a circle, and one row must give its address up before another can have it. If this
// process dies just then, that row lacks its address until the page is done again, or the user's webhook comes.
func (r *Reconcile) untangle(ctx context.Context, writes []store.Write, results []store.Result, p *Progress) error {
	for i, was := range results {
		if _, ok := errors.AsType[*store.TakenError](was.Err); !ok {
			continue
		}
		k := knot{r, p, writes}
		res := k.untie(ctx, writes[i], nil)
		if errors.Is(res.Err, errAsk) {
			return res.Err
		}
		if res.Err == nil && res.Fields == nil && (res.Outcome == store.Unchanged || res.Outcome == store.Stale) {
			res.Outcome, res.Fields = was.Outcome, was.Fields // it was written for another user of the page
		}
		results[i] = res
	}
	return nil
}

// knot is users whose rows are in each other's way.
type knot struct {
	*Reconcile
	progress *Progress
	page     []store.Write
}

// untie writes a user after those whose rows are in the way: one for each unique index, unless others write rows
// meanwhile. waiting are the users who wait for this one, the nearest last.
func (k knot) untie(ctx context.Context, w store.Write, waiting []store.Write) (res store.Result) {
	var backs []func(context.Context) error
	defer func() {
		if res.Err != nil {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			for _, back := range backs {
				res.Err = errors.Join(res.Err, back(ctx))
			}
		}
	}()
	var last store.TakenError
	for range 10 { // more only if others keep writing these rows
		res = k.Users.Write(ctx, []store.Write{w}, k.mode(k.progress.Tier))[0]
		taken, ok := errors.AsType[*store.TakenError](res.Err)
		if !ok || taken.Holder == "" || *taken == last { // it is done, or nobody can help
			return res
		}
		last = *taken
		if i := slices.IndexFunc(waiting, isOf(taken.Holder)); i >= 0 {
			back, err := k.Users.GiveUp(ctx, waiting[i], taken.Index)
			if err != nil {
				return store.Result{Err: err}
			}
			if back != nil {
				backs = append(backs, back)
			}
			continue
		}
		if err := k.mend(ctx, taken.Holder, append(waiting, w)); err != nil {
			if errors.Is(err, errAsk) {
				res.Err = err
			}
			return res
		}
	}
	return res
}

// mend writes what Clerk says about a user whose row is in the way of the users who wait.
func (k knot) mend(ctx context.Context, id string, waiting []store.Write) error {
	f, err := k.ask(ctx, id)
	if err != nil { // if Clerk does not have the user, the absent tier removes the row
		return err
	}
	res := k.untie(ctx, answer(f, string(k.progress.Tier)), waiting)
	if res.Err == nil && res.Outcome == store.Updated && k.progress.Tier != Backfill &&
		!slices.ContainsFunc(k.page, isOf(id)) {
		k.note(k.progress, Drift{UserID: id, Kind: Stale, Fields: res.Fields})
	}
	return res.Err
}

func isOf(id string) func(store.Write) bool {
	return func(w store.Write) bool { return w.User.ID == id }
}
