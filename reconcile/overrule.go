package reconcile

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"clerksync/clerk"
	"clerksync/store"
)

// errAsk says that Clerk could not be asked for one user, so the page has to be done again.
var errAsk = errors.New("a page of users is not done")

// drift returns how the row of a listed user differs from Clerk, or differed before res, which is the result of its
// write. It returns the zero Drift if there is no difference, or one that must be left alone. The error is errAsk if
// Clerk could not be asked for the user.
func (r *Reconcile) drift(ctx context.Context, w store.Write, res store.Result, t Tier) (Drift, error) {
	d := Drift{UserID: w.User.ID, Kind: Stale, Fields: res.Fields}
	var err error
	switch {
	case res.Err != nil:
		return Drift{}, res.Err
	case res.Outcome == store.Created:
		d.Kind = Missing
	case res.Outcome == store.Updated:
	case t != Full:
		return Drift{}, nil
	case res.Outcome == store.Deleted:
		// Clerk's list may still name a deleted user, so ask for this one user.
		if _, err = r.ask(ctx, w.User.ID); errors.Is(err, clerk.ErrNotUser) {
			err = nil
		}
		d.Kind = Buried
	default:
		if d.Fields, err = r.overrule(ctx, w, res); d.Fields == nil && err == nil {
			return Drift{}, nil
		}
	}
	if errors.Is(err, clerk.ErrNoUser) { // deleted meanwhile
		return Drift{}, nil
	}
	return d, err
}

// ask asks Clerk for one user. The error is clerk.ErrNoUser, clerk.ErrNotUser or else errAsk.
func (r *Reconcile) ask(ctx context.Context, id string) (clerk.Fetched, error) {
	f, err := r.API.User(ctx, id)
	if err != nil && !errors.Is(err, clerk.ErrNoUser) && !errors.Is(err, clerk.ErrNotUser) {
		err = fmt.Errorf("%w: %w", errAsk, err)
	}
	return f, err
}

// overrule repairs a row that is deaf: its version is newer than anything that Clerk says, so the row would ignore
// every event and every tier. That happens with a wrong time, or if the newest time disappears from the user. But the
// row may also really be newer than Clerk's list. So overrule asks Clerk for this one user, and writes the answer only
// if the row still has the version that it had before the question. It returns the fields in which the row differed, or
// nil if it left the row as it is.
func (r *Reconcile) overrule(ctx context.Context, w store.Write, was store.Result) ([]store.Field, error) {
	future := store.FromFuture(was.Version, w.AnsweredAt)
	if !future && (was.Outcome != store.Stale || len(was.Fields) == 0) {
		return nil, nil
	}
	f, err := r.ask(ctx, w.User.ID)
	if err != nil {
		return nil, err
	}
	one := answer(f)
	now := r.Users.Write(ctx, []store.Write{one}, store.DryRun)[0]
	isBehind := !future && !slices.Equal(now.Fields, was.Fields) // Clerk's list is only behind
	if now.Err != nil || now.Version != was.Version || isBehind {
		return nil, now.Err
	}
	fields := now.Fields
	if future {
		version := store.Field{Name: "clerk.version", Row: was.Version, Clerk: fmt.Sprintf("%013d", f.User.ChangedAt)}
		fields = append(fields, version)
	}
	if !r.DryRun {
		o, err := r.Users.Overrule(ctx, one, was.Version)
		if err != nil || o == store.Stale || o == store.Deleted {
			return nil, err
		}
	}
	return fields, nil
}
