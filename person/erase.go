package person

import (
	"context"
	"errors"
	"fmt"
	"time"

	"clerksync/clerk"
	"clerksync/inbox"
	"clerksync/reconcile"
	"clerksync/store"
)

var (
	// ErrClerkHas says that Clerk still has the user.
	ErrClerkHas = errors.New("the user is still at Clerk")
	// ErrNewborn says that the user's id is younger than ten minutes.
	ErrNewborn = errors.New("the user's id is younger than ten minutes, and Clerk may not find it yet")
)

// Erase erases all that is kept of a user.
type Erase struct {
	Records
	API *clerk.API
	// Watch is how old the tombstone must be when Erase looks for the last time. It must be longer than any function
	// runs, because a function that began before the tombstone was written may note a mail of the user after it.
	Watch time.Duration
	// Removed, if set, is called for everything that is removed, with what it was, such as "the row".
	Removed func(what string)
	// Waiting, if set, is called before Erase waits until the tombstone is old enough.
	Waiting func(time.Duration)
}

// Left is what stays after an Erase.
type Left struct {
	DeletedAt time.Time // of the tombstone
	// Deletions are the events of the user's deletion that functions of the app still need, to remove the user
	// elsewhere. They have nothing of the user but the id.
	Deletions []inbox.Kept
	Naming    []string // ids of events that are about somebody else and name the user's id
}

// Run erases the user. First it writes the tombstone, if there is none, so that nothing that comes meanwhile can write
// the row again. If it is cut off, or something has come since, it may be run again. The error is ErrClerkHas,
// ErrNewborn, or says what is wrong with the id.
func (e *Erase) Run(ctx context.Context, id string) (Left, error) {
	if err := e.refuse(ctx, id); err != nil {
		return Left{}, err
	}
	left, err := e.pass(ctx, id)
	if err != nil {
		return left, err
	}
	// The clocks of the two processes may differ, so the time since the tombstone may be wrong in both directions.
	wait := e.Watch - min(max(time.Since(left.DeletedAt), 0), e.Watch)
	if wait == 0 {
		return left, nil
	}
	if e.Waiting != nil {
		e.Waiting(wait)
	}
	select {
	case <-time.After(wait):
		return e.pass(ctx, id)
	case <-ctx.Done():
		return left, ctx.Err()
	}
}

func (e *Erase) refuse(ctx context.Context, id string) error {
	if err := Check(id); err != nil {
		return err
	}
	if time.Since(clerk.UserIDMadeAt(id)) < reconcile.Newborn {
		return ErrNewborn
	}
	switch _, err := e.API.User(ctx, id); {
	case err == nil:
		return ErrClerkHas
	case !errors.Is(err, clerk.ErrNoUser):
		return err
	}
	return nil
}

// pass removes what there is now.
func (e *Erase) pass(ctx context.Context, id string) (left Left, err error) {
	row, err := absent(e.Users.Document(ctx, id))
	if err != nil {
		return left, err
	}
	past, err := e.History.Has(ctx, id)
	if err != nil {
		return left, err
	}
	// It writes the tombstone, then removes the row.
	dead := store.Write{User: clerk.User{ID: id}, Deleted: true, Source: store.Source{Kind: "erase"}}
	if r := e.Users.Write(ctx, []store.Write{dead}, store.All)[0]; r.Err != nil {
		return left, r.Err
	}
	e.removed(row != nil, "the row")
	if left.DeletedAt, _, err = e.Users.DeletedAt(ctx, id); err != nil {
		return left, err
	}
	if err := e.events(ctx, id, &left); err != nil {
		return left, err
	}
	mail, err := e.Welcomes.Remove(ctx, id)
	if err != nil {
		return left, err
	}
	e.removed(mail, "the note of the welcome mail")
	// It has the write of the tombstone by now. From here on nothing makes it again: with a tombstone, entries are only
	// added to a history that is there.
	if _, err := e.History.Remove(ctx, id); err != nil {
		return left, err
	}
	e.removed(past, "the history")
	runs, err := reconcile.Forget(ctx, e.State, id)
	for _, run := range runs {
		e.removed(true, "the id from "+run)
	}
	return left, err
}

// events removes the user's events, except those of the deletion that functions of the app still need.
func (e *Erase) events(ctx context.Context, id string, left *Left) error {
	all, naming, err := e.Inbox.OfUser(ctx, id)
	if err != nil {
		return err
	}
	left.Naming = naming
	var ids []string
	var waiting, dead int
	for _, event := range all {
		switch {
		case needed(event):
			left.Deletions = append(left.Deletions, event)
			continue
		case event.Failure == nil:
			waiting++
		default:
			dead++
		}
		ids = append(ids, event.ID)
	}
	if err := e.Inbox.Remove(ctx, ids); err != nil {
		return err
	}
	e.removed(waiting > 0, count(waiting, "waiting event"))
	e.removed(dead > 0, count(dead, "dead letter"))
	return nil
}

// needed tells whether an event is a deletion that a function of the app still needs: it waits to be sent to all
// functions, or is the dead letter of one of them. The deletion of the row is done by the tombstone.
func needed(e inbox.Kept) bool {
	ofRow := e.Name == inbox.EventName(clerk.UserDeleted)
	return e.Deletion && (e.Failure == nil || !ofRow && e.Failure.DroppedAt.IsZero())
}

func (e *Erase) removed(did bool, what string) {
	if did && e.Removed != nil {
		e.Removed(what)
	}
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
