package reconcile

import (
	"context"
	"errors"
	"slices"
	"time"

	"clerksync/store"
)

// untangle writes the users of a page whom a unique index of the app's has refused, because another user's row still
// has, say, their address. It does what that user's lost or late webhook would do: it asks Clerk for the user and writes
// the row. That row may be refused in turn, and so on, until the first user is met again: then these users have passed
// their addresses round in a circle, and one row must give its address up before another can have it. If this process
// dies just then, that row lacks its address until the page is done again, or the user's webhook comes.
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

// untie writes a user after those whose rows are in the way. waiting are the users who wait for this one, the nearest
// last.
func (k knot) untie(ctx context.Context, w store.Write, waiting []store.Write) store.Result {
	write := func() store.Result { return k.Users.Write(ctx, []store.Write{w}, k.mode(k.progress.Tier))[0] }
	is := func(id string) func(store.Write) bool { return func(o store.Write) bool { return o.User.ID == id } }
	res := write()
	taken, ok := errors.AsType[*store.TakenError](res.Err)
	if !ok || taken.Holder == "" {
		return res
	}
	if i := slices.IndexFunc(waiting, is(taken.Holder)); i >= 0 {
		return k.giveUp(ctx, waiting[i], taken.Index, write)
	}
	f, err := k.ask(ctx, taken.Holder)
	switch {
	case errors.Is(err, errAsk):
		res.Err = err
		return res
	case err != nil: // Clerk does not have the user: the absent tier removes the row
		return res
	}
	holder := k.untie(ctx, answer(f), append(waiting, w))
	switch {
	case errors.Is(holder.Err, errAsk):
		return holder
	case holder.Err == nil && holder.Outcome == store.Updated && k.progress.Tier != Backfill &&
		!slices.ContainsFunc(k.page, is(taken.Holder)):
		k.note(k.progress, Drift{UserID: taken.Holder, Kind: Stale, Fields: holder.Fields})
	}
	return write()
}

// giveUp has a user who waits give up the value that is in the way of write.
func (k knot) giveUp(
	ctx context.Context, waiting store.Write, index string, write func() store.Result,
) store.Result {
	back, err := k.Users.GiveUp(ctx, waiting, index)
	if err != nil {
		return store.Result{Err: err}
	}
	res := write()
	if res.Err != nil && back != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		res.Err = errors.Join(res.Err, back(ctx))
	}
	return res
}
