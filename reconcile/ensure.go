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

// ErrDeleted says that the user is deleted, and stays so.
var ErrDeleted = errors.New("the user is deleted")

// fetchTimeout bounds one fetch with its retries, whoever waits for it.
const fetchTimeout = 20 * time.Second

// Ensure makes sure that a user who exists at Clerk has a row: one who has just signed up is often here before the
// webhook. It sends no events. It is safe for concurrent use.
type Ensure struct {
	API interface { // a clerk.API
		User(ctx context.Context, id string) (clerk.Fetched, error)
	}
	Users interface { // a store.Users
		Get(ctx context.Context, id string) (store.Row, error)
		IsDeleted(ctx context.Context, id string) (bool, error)
		Write(ctx context.Context, writes []store.Write, mode store.Mode) []store.Result
	}

	fetches singleflight.Group
}

// Row returns the user's row. If there is none that clerksync has written it asks Clerk and writes the row by the rules
// of every write; concurrent calls for one user ask once. It returns ErrDeleted for a user with a tombstone, and
// clerk.ErrNoUser for one that Clerk does not have, or cannot have: whose id is not of the form of Clerk's.
func (e *Ensure) Row(ctx context.Context, id string) (store.Row, error) {
	r, err := e.written(ctx, id)
	if !errors.Is(err, store.ErrNotFound) {
		return r, err
	}
	switch dead, err := e.Users.IsDeleted(ctx, id); {
	case err != nil:
		return store.Row{}, err
	case dead:
		return store.Row{}, ErrDeleted
	case !clerk.IsUserID(id): // it would be another page of Clerk's API, such as count
		return store.Row{}, fmt.Errorf("%w: an id of Clerk's is user_ and 27 letters and digits", clerk.ErrNoUser)
	}
	done := e.fetches.DoChan(id, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), fetchTimeout) // the others wait for it too
		defer cancel()
		return e.fetch(ctx, id)
	})
	select {
	case res := <-done:
		r, _ := res.Val.(store.Row)
		return r, res.Err
	case <-ctx.Done():
		return store.Row{}, fmt.Errorf("wait for Clerk: %w", ctx.Err())
	}
}

// written returns the user's row, or store.ErrNotFound if there is none but the app's own: what that says is not what
// Clerk says.
func (e *Ensure) written(ctx context.Context, id string) (store.Row, error) {
	r, err := e.Users.Get(ctx, id)
	if err == nil && r.Clerk.Version == "" {
		return store.Row{}, store.ErrNotFound
	}
	return r, err
}

func (e *Ensure) fetch(ctx context.Context, id string) (store.Row, error) {
	// A fetch that another call made may have ended since this one looked.
	if r, err := e.written(ctx, id); !errors.Is(err, store.ErrNotFound) {
		return r, err
	}
	f, err := e.API.User(ctx, id)
	if err != nil {
		return store.Row{}, err
	}
	write := store.Write{User: f.User, When: store.When{Clerk: f.At}, AnsweredAt: f.AnsweredAt}
	switch r := e.Users.Write(ctx, []store.Write{write}, store.All)[0]; {
	case r.Err != nil:
		return store.Row{}, r.Err
	case r.Outcome == store.Deleted:
		return store.Row{}, ErrDeleted
	}
	r, err := e.written(ctx, id)
	if errors.Is(err, store.ErrNotFound) { // deleted since
		err = ErrDeleted
	}
	return r, err
}
