package functions

import (
	"context"
	"errors"
	"time"

	"clerksync/clerk"
	"clerksync/mail"
	"clerksync/store"
)

// SendWelcome is the id of the function that sends the welcome mail.
const SendWelcome = "send-welcome-email"

// WelcomeWithin is how old a sign-up may be for a welcome mail: Clerk tries a webhook for 28 hours and the inbox sends an event for
// 24 more. What is older was replayed or imported.
const WelcomeWithin = 72 * time.Hour

// Welcome is what the welcome mail works with.
type Welcome struct {
	Mailer interface { // a mail.Mailer
		Send(ctx context.Context, u mail.User) error
	}
	Claims interface { // a store.Welcomes
		Claim(ctx context.Context, userID, runID string) (store.Claim, error)
		Release(ctx context.Context, userID, runID string) error
		Done(ctx context.Context, userID string) error
	}
	Deleted    func(ctx context.Context, userID string) (bool, error) // tells whether the user has a tombstone
	Unverified bool                                                   // also to an address that is not verified
}

// WelcomeResult is what a run returns, for Inngest's page.
type WelcomeResult struct {
	UserID  string `json:"user_id"`
	Outcome string `json:"outcome"`
}

var errHeld = errors.New("another run is sending this mail: wait until it has, or has given up")

// Function returns the function. docs/adr/0005-welcome-once.md says why a user gets one mail.
func (w Welcome) Function() Function {
	return Function{
		ID: SendWelcome, Name: "Send the welcome e-mail", Events: []string{"clerk/" + clerk.UserCreated}, claims: true,
		Run: func(ctx context.Context, e Event) (any, error) { return w.run(ctx, e) },
	}
}

func (w Welcome) run(ctx context.Context, e Event) (WelcomeResult, error) {
	u, err := e.User()
	if err != nil {
		return WelcomeResult{}, err
	}
	result := func(outcome string) (WelcomeResult, error) { return WelcomeResult{UserID: u.ID, Outcome: outcome}, nil }
	signedUp := e.At
	if t := u.CreatedAt.Time(); !t.IsZero() && t.Before(signedUp) {
		signedUp = t
	}
	switch {
	case u.Email == "":
		return result("skipped: no address")
	case !u.EmailVerified && !w.Unverified:
		return result("skipped: the address is not verified")
	case e.Name != replayPrefix+SendWelcome && time.Since(signedUp) > WelcomeWithin:
		return result("skipped: not a new user")
	}
	switch dead, err := w.Deleted(ctx, u.ID); {
	case err != nil:
		return WelcomeResult{}, err
	case dead:
		return result("skipped: deleted")
	}
	switch claim, err := w.Claims.Claim(ctx, u.ID, e.RunID); {
	case err != nil:
		return WelcomeResult{}, err
	case claim == store.Sent:
		return result("sent before")
	case claim == store.Held:
		return WelcomeResult{}, errHeld
	}
	if err = w.Mailer.Send(ctx, mail.User{ID: u.ID, Email: u.Email, FullName: u.FullName}); err != nil {
		_ = w.Claims.Release(context.WithoutCancel(ctx), u.ID, e.RunID) // else the lease ends by itself
		if errors.Is(err, mail.ErrRefused) {
			err = NoRetry(err)
		}
		return WelcomeResult{}, err
	}
	// From here to the end of Done is the window in which a crash sends the mail twice.
	if err := w.Claims.Done(context.WithoutCancel(ctx), u.ID); err != nil {
		return WelcomeResult{}, err
	}
	return result("sent")
}
