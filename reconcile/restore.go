package reconcile

import (
	"context"
	"errors"
	"fmt"
	"time"

	"clerksync/clerk"
	"clerksync/store"
)

// Restore brings a user back whom Clerk has and who has a tombstone nevertheless.
type Restore struct {
	API interface { // a clerk.API
		User(ctx context.Context, id string) (clerk.Fetched, error)
	}
	Users interface { // a store.Users
		Get(ctx context.Context, id string) (store.Row, error)
		IsDeleted(ctx context.Context, id string) (bool, error)
		Lift(ctx context.Context, id string) (bool, error)
		Write(ctx context.Context, writes []store.Write, mode store.Mode) []store.Result
	}
	// Deletions returns the ids of the events that would delete the user again: an inbox.Deletions.
	Deletions func(ctx context.Context, id string) (waiting, dead []string, err error)
	// Watch is how long the row is looked at when the tombstone is lifted, longer than any function runs: one that saw
	// the tombstone before may still remove the row. Every is the time between two looks.
	Watch, Every time.Duration
	// Written, if set, is called when the row has been written, each time.
	Written func()
}

// Run lifts the tombstone of a user, writes the row and looks at it for Watch: a row that goes without a new tombstone
// is written again. It may be repeated. The error is clerk.ErrNoUser if Clerk does not have the user, whose tombstone
// is right then, and ErrDeleted if the user has been deleted anew.
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
		return store.Row{}, fmt.Errorf("the user's deletion %s waits in the inbox: the user is deleted when it runs", waiting[0])
	case len(dead) > 0:
		return store.Row{}, fmt.Errorf("the user's deletion %s is a dead letter, which may be replayed: drop it first (clerksync deadletters drop %s)", dead[0], dead[0])
	}
	lifted, err := r.Users.Lift(ctx, id)
	if err != nil {
		return store.Row{}, err
	}
	// Only now ask for what is to be written: a deletion that came before the lifting has found the old tombstone and
	// made none.
	if err := r.write(ctx, id); err != nil {
		if lifted && !errors.Is(err, ErrDeleted) && !errors.Is(err, clerk.ErrNoUser) { // as it was
			err = errors.Join(err, r.bury(ctx, id))
		}
		return store.Row{}, err
	}
	return r.look(ctx, id)
}

// look looks at the row until Watch has passed, and returns it as it is then.
func (r *Restore) look(ctx context.Context, id string) (store.Row, error) {
	t := time.NewTicker(r.Every)
	defer t.Stop()
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
		case <-t.C:
		case <-ctx.Done():
			return store.Row{}, ctx.Err()
		}
	}
}

// write writes what Clerk says of the user now. If it does not have the user any more, the user is buried again.
func (r *Restore) write(ctx context.Context, id string) error {
	f, err := r.API.User(ctx, id)
	if errors.Is(err, clerk.ErrNoUser) {
		return errors.Join(err, r.bury(ctx, id))
	}
	if err != nil {
		return err
	}
	res := r.Users.Write(ctx, []store.Write{{User: f.User, When: store.When{Clerk: f.At}, AnsweredAt: f.AnsweredAt}}, store.All)[0]
	switch {
	case res.Err != nil:
		return res.Err
	case res.Outcome == store.Deleted:
		return ErrDeleted
	}
	if r.Written != nil {
		r.Written()
	}
	return nil
}

// bury makes the tombstone again, also if ctx has ended.
func (r *Restore) bury(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return r.Users.Write(ctx, []store.Write{{User: clerk.User{ID: id}, Deleted: true}}, store.All)[0].Err
}
