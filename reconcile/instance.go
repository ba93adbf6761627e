package reconcile

import (
	"context"
	"fmt"

	"clerksync/clerk"
)

// Instance makes sure that a key is of the instance whose users are in the collection: another's would be added to
// them.
type Instance struct {
	API interface { // a clerk.API
		Instance(ctx context.Context) (string, error)
	}
	State Checkpoints
	// Want is what CLERK_INSTANCE_ID says; "" is the instance that is remembered: of the first webhook, or of the first
	// key.
	Want string
}

// Check returns an error that holds clerk.ErrKey and says what to do if the key is of another instance. A Clerk that
// does not tell is no error. If remember is set, the instance is remembered unless another is.
func (i Instance) Check(ctx context.Context, remember bool) error {
	got, err := i.API.Instance(ctx)
	if err != nil || got == "" {
		return err
	}
	if i.Want != "" && i.Want != got {
		return clerk.KeyError(fmt.Sprintf("CLERK_SECRET_KEY is of the instance %s, not of CLERK_INSTANCE_ID: "+
			"copy the secret key of that instance", got))
	}
	saved, err := loadInstance(ctx, i.State)
	switch {
	case err != nil:
		return err
	case i.Want == "" && saved != "" && saved != got:
		return clerk.KeyError(fmt.Sprintf("CLERK_SECRET_KEY is of the instance %s, and the users here are of %s: copy the "+
			"secret key of that instance, or set CLERK_INSTANCE_ID if they are not", got, saved))
	case !remember:
		return nil
	}
	_, err = keepInstance(ctx, i.State, got, i.Want)
	return err
}

// savedInstance is the instance whose users are in the collection: CLERK_INSTANCE_ID, or the first that a verified
// webhook or a key named.
type savedInstance struct{ ID string }

func loadInstance(ctx context.Context, state Checkpoints) (string, error) {
	var saved savedInstance
	_, err := state.Load(ctx, instanceName, &saved)
	return saved.ID, err
}

// keepInstance keeps id, and returns another that was kept before. That one stays, unless id is what CLERK_INSTANCE_ID
// says.
func keepInstance(ctx context.Context, state Checkpoints, id, want string) (other string, err error) {
	saved, err := loadInstance(ctx, state)
	switch {
	case err != nil || saved == id:
		return "", err
	case saved != "" && want == "":
		return saved, nil
	}
	return "", state.Save(ctx, instanceName, savedInstance{id})
}
