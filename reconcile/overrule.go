package reconcile

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"clerksync/clerk"
	"clerksync/store"
)

// errAsk says that Clerk could not be asked for a user: the page is to be done again.
var errAsk = errors.New("ask Clerk again")

// overrule repairs a row that is deaf: newer than what Clerk lists, by a time that is wrong, or was right until what
// had it was removed from the user. Such a row is taken for newer by every event and every tier. It returns in what the
// row differed, or nil if it is to be left as it is: it may well be newer than the list. Only what Clerk says of this
// one user is believed, and it is written only over the version that was there before Clerk was asked.
func (r *Reconcile) overrule(ctx context.Context, w store.Write, was store.Result) ([]store.Field, error) {
	future := store.FromFuture(was.Version, w.AnsweredAt)
	if !future && (was.Outcome != store.Stale || len(was.Fields) == 0) {
		return nil, nil
	}
	f, err := r.API.User(ctx, w.User.ID)
	switch {
	case errors.Is(err, clerk.ErrNoUser): // meanwhile
		return nil, nil
	case errors.Is(err, clerk.ErrNotUser):
		return nil, err
	case err != nil:
		return nil, errors.Join(errAsk, err)
	}
	one := store.Write{User: f.User, When: store.When{Clerk: f.At}, AnsweredAt: f.AnsweredAt}
	now := r.Users.Write(ctx, []store.Write{one}, store.DryRun)[0]
	switch {
	case now.Err != nil:
		return nil, now.Err
	case now.Version != was.Version: // written meanwhile
		return nil, nil
	case !future && !slices.Equal(now.Fields, was.Fields): // the list is behind
		return nil, nil
	}
	fields := now.Fields
	if future {
		fields = append(fields, store.Field{Name: "clerk.version", Row: was.Version, Clerk: fmt.Sprintf("%013d", f.User.ChangedAt)})
	}
	if r.DryRun {
		return fields, nil
	}
	o, err := r.Users.Overrule(ctx, one, was.Version)
	if err != nil || o == store.Stale || o == store.Deleted {
		return nil, err
	}
	return fields, nil
}
