package reconcile

import (
	"context"
	"errors"
	"fmt"
	"time"

	"clerksync/clerk"
	"clerksync/store"

	"golang.org/x/sync/singleflight"
)

// ErrDeleted says that the user has a tombstone, and so is deleted for good.
var ErrDeleted = errors.New("the user is deleted")

// ensureTimeout bounds the work for one user, including all retries, however many callers wait for it.
const ensureTimeout = 20 * time.Second

// Ensure makes sure that a user who exists at Clerk has a row, because the app often meets a new user before the
// webhook has come. It sends no events. It is safe for concurrent use.
type Ensure struct {
	API   *clerk.API
	Users *store.Users

	calls singleflight.Group
}

// Row returns the user's row. If clerksync has not written one, Row asks Clerk and writes the row, by the rules for
// every write. Concurrent calls for one user ask Clerk once. The error is ErrDeleted if the user has a tombstone, and
// clerk.ErrNoUser if Clerk does not have the user or id has not the form of Clerk's ids.
func (e *Ensure) Row(ctx context.Context, id string) (store.Row, error) {
	done := e.calls.DoChan(id, func() (any, error) {
		// Other callers may wait for this too, so it must not end when the first caller gives up.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), ensureTimeout)
		defer cancel()
		return e.row(ctx, id)
	})
	select {
	case res := <-done:
		r, _ := res.Val.(store.Row)
		return r, res.Err
	case <-ctx.Done():
		return store.Row{}, fmt.Errorf("wait for Clerk: %w", ctx.Err())
	}
}

func (e *Ensure) row(ctx context.Context, id string) (store.Row, error) {
	r, err := e.written(ctx, id)
	if !errors.Is(err, store.ErrNotFound) {
		return r, err
	}
	switch dead, err := e.Users.IsDeleted(ctx, id); {
	case err != nil:
		return store.Row{}, err
	case dead:
		return store.Row{}, ErrDeleted
	case !clerk.IsUserID(id): // in the URL it could name something else of Clerk's API, such as count
		return store.Row{}, fmt.Errorf("%w: an id of Clerk's is user_ and 27 letters and digits", clerk.ErrNoUser)
	}
	if err := bring(ctx, e.API, e.Users, id); err != nil {
		return store.Row{}, err
	}
	if r, err = e.written(ctx, id); errors.Is(err, store.ErrNotFound) { // deleted meanwhile
		err = ErrDeleted
	}
	return r, err
}

// written returns the user's row if clerksync has written it. If there is no row, or only one that the app has made,
// which does not have Clerk's values, the error is store.ErrNotFound.
func (e *Ensure) written(ctx context.Context, id string) (store.Row, error) {
	r, err := e.Users.Get(ctx, id)
	if err == nil && r.Clerk.Version == "" {
		return store.Row{}, store.ErrNotFound
	}
	return r, err
}

// answer returns the write for what Clerk's API says about a user.
func answer(f clerk.Fetched) store.Write {
	return store.Write{User: f.User, EventTime: store.EventTime{Clerk: f.At}, AnsweredAt: f.AnsweredAt}
}

// bring asks Clerk for a user and writes the row. The error is clerk.ErrNoUser if Clerk does not have the user, and
// ErrDeleted if there is a tombstone.
func bring(ctx context.Context, api *clerk.API, users *store.Users, id string) error {
	f, err := api.User(ctx, id)
	if err != nil {
		return err
	}
	r := users.Write(ctx, []store.Write{answer(f)}, store.All)[0]
	if r.Err == nil && r.Outcome == store.Deleted {
		return ErrDeleted
	}
	return r.Err
}

// bury deletes a user for good, with a tombstone.
func bury(ctx context.Context, users *store.Users, id string) error {
	return users.Write(ctx, []store.Write{{User: clerk.User{ID: id}, Deleted: true}}, store.All)[0].Err
}
