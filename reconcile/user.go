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
// clerk.ErrNoUser if Clerk does not have the user or id does not have the form of Clerk's ids.
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
	if err := bring(ctx, e.API, e.Users, id, "ensure"); err != nil {
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

// answer returns the write for what Clerk's API says about a user; source names what asks for it.
func answer(f clerk.Fetched, source string) store.Write {
	return store.Write{
		User: f.User, EventTime: store.EventTime{Clerk: f.At}, AnsweredAt: f.AnsweredAt,
		Source: store.Source{Kind: source},
	}
}

// bring asks Clerk for a user and writes the row. The error is clerk.ErrNoUser if Clerk does not have the user, and
// ErrDeleted if there is a tombstone.
func bring(ctx context.Context, api *clerk.API, users *store.Users, id, source string) error {
	f, err := api.User(ctx, id)
	if err != nil {
		return err
	}
	r := users.Write(ctx, []store.Write{answer(f, source)}, store.All)[0]
	if r.Err == nil && r.Outcome == store.Deleted {
		return ErrDeleted
	}
	return r.Err
}

// bury deletes a user for good, with a tombstone.
func bury(ctx context.Context, users *store.Users, id, source string) error {
	w := store.Write{User: clerk.User{ID: id}, Deleted: true, Source: store.Source{Kind: source}}
	return users.Write(ctx, []store.Write{w}, store.All)[0].Err
}

// Restore brings back a user whom Clerk has although there is a tombstone.
type Restore struct {
	API   *clerk.API
	Users *store.Users
	// Deletions returns the ids of the events that would delete the user again, as inbox.Table.Deletions does.
	Deletions func(ctx context.Context, id string) (waiting, dead []string, err error)
	// Watch is how long the row is watched after the tombstone is lifted. It must be longer than any function runs,
	// because a function that saw the tombstone before may still remove the row. Every is the time between two looks.
	Watch, Every time.Duration
	// Written, if set, is called each time after the row is written.
	Written func()
}

// Run lifts the tombstone of a user, writes the row and watches it. If the row disappears without a new tombstone, Run
// writes it again. Run may be called again. The error is clerk.ErrNoUser if Clerk does not have the user, so that the
// tombstone is right, and ErrDeleted if the user was deleted again meanwhile.
func (r *Restore) Run(ctx context.Context, id string) (store.Row, error) {
	if !clerk.IsUserID(id) {
		return store.Row{}, fmt.Errorf("%q is no id of a Clerk user: it is user_ and 27 letters and digits", id)
	}
	if _, err := r.API.User(ctx, id); err != nil {
		return store.Row{}, err
	}
	switch waiting, dead, err := r.Deletions(ctx, id); {
	case err != nil:
		return store.Row{}, err
	case len(waiting) > 0:
		return store.Row{}, fmt.Errorf("the user's deletion %s waits in the inbox: "+
			"the user is deleted when it runs", waiting[0])
	case len(dead) > 0:
		return store.Row{}, fmt.Errorf("the user's deletion %s is a dead letter, which may be replayed: drop it first "+
			"(clerksync deadletters drop %s)", dead[0], dead[0])
	}
	lifted, err := r.Users.Lift(ctx, id)
	if err != nil {
		return store.Row{}, err
	}
	// Clerk must be asked for the row's values only now: if the user was deleted before the tombstone was lifted, that
	// deletion found the old tombstone and made no new one.
	if err := r.write(ctx, id); err != nil {
		if lifted && !errors.Is(err, ErrDeleted) && !errors.Is(err, clerk.ErrNoUser) {
			err = errors.Join(err, r.buryAgain(ctx, id))
		}
		return store.Row{}, err
	}
	return r.watch(ctx, id)
}

// watch looks at the row until Watch is over, and returns the row as it is then.
func (r *Restore) watch(ctx context.Context, id string) (store.Row, error) {
	for left := r.Watch; ; left -= r.Every {
		row, err := r.Users.Get(ctx, id)
		if errors.Is(err, store.ErrNotFound) {
			if err = r.write(ctx, id); err == nil {
				row, err = r.Users.Get(ctx, id)
			}
		}
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return store.Row{}, err
		}
		switch dead, err := r.Users.IsDeleted(ctx, id); {
		case err != nil:
			return store.Row{}, err
		case dead:
			return store.Row{}, ErrDeleted
		}
		if left <= 0 {
			return row, err
		}
		select {
		case <-time.After(r.Every):
		case <-ctx.Done():
			return store.Row{}, ctx.Err()
		}
	}
}

// write writes what Clerk says about the user now. If Clerk no longer has the user, it makes the tombstone again.
func (r *Restore) write(ctx context.Context, id string) error {
	err := bring(ctx, r.API, r.Users, id, "restore")
	if errors.Is(err, clerk.ErrNoUser) {
		return errors.Join(err, r.buryAgain(ctx, id))
	}
	if err == nil && r.Written != nil {
		r.Written()
	}
	return err
}

// buryAgain makes the tombstone again, even if ctx has ended.
func (r *Restore) buryAgain(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return bury(ctx, r.Users, id, "restore")
}
