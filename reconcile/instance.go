package reconcile

import (
	"context"
	"fmt"

	"clerksync/clerk"
)

// Instance makes sure that a key is of the instance whose users are in the collection: another's would be added to them.
type Instance struct {
	API interface { // a clerk.API
		Instance(ctx context.Context) (string, error)
	}
	State Checkpoints
	// Want is what CLERK_INSTANCE_ID says; "" is the instance that is remembered.
	Want string
}

// Check returns an error that holds clerk.ErrKey and says what to do if the key is of another instance. A Clerk that does not tell is no
// error. If remember is set, the instance is remembered unless another is.
func (i Instance) Check(ctx context.Context, remember bool) error {
	got, err := i.API.Instance(ctx)
	if err != nil || got == "" {
		return err
	}
	var saved struct{ ID string }
	if _, err := i.State.Load(ctx, instanceName, &saved); err != nil {
		return err
	}
	switch {
	case i.Want != "" && i.Want != got:
		return fmt.Errorf("%w is of the instance %s, not of CLERK_INSTANCE_ID: copy the secret key of that instance", clerk.ErrKey, got)
	case i.Want == "" && saved.ID != "" && saved.ID != got:
		return fmt.Errorf("%w is of the instance %s, and the users here are of %s: copy the secret key of that instance, or set CLERK_INSTANCE_ID if they are not", clerk.ErrKey, got, saved.ID)
	case saved.ID == got || !remember:
		return nil
	}
	saved.ID = got
	return i.State.Save(ctx, instanceName, saved)
}
