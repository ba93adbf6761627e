package functions

import (
	"context"
	"errors"
	"time"

	"clerksync/clerk"
	"clerksync/inbox"
	"clerksync/mail"
	"clerksync/store"
	"clerksync/store/database"
)

// sendWelcome is the id of the function that sends the welcome mail.
const sendWelcome = "send-welcome-email"

// welcomeWithin is how old a sign-up may be for a welcome mail. Clerk retries a webhook for 28 hours, and the inbox
// sends an event for another 24. Older sign-ups were replayed or imported.
const welcomeWithin = 72 * time.Hour

// Welcome has what the function that sends the welcome mail works with.
type Welcome struct {
	Mailer     *mail.Mailer
	Claims     *store.Welcomes
	Unverified bool // also send to addresses that are not verified
	// Since, if set, is a time before which nobody signed up who gets a mail, not even by a replay: in a database that
	// was restored from a backup, the claims of the mails that were sent since are missing.
	Since time.Time
	// Mailed, if set, is called after each attempt to send a mail, with the error of mail.Mailer.Send.
	Mailed func(err error)
}

var errHeld = errors.New("another attempt is sending this mail: wait until it has, or has given up")

// welcome returns the function that sends the welcome mail. It needs no runs, because the claims say who has got a
// mail. See docs/adr/0005-welcome-once.md.
func (f *Functions) welcome() registered {
	return f.own(Function{
		ID: sendWelcome, Name: "Send the welcome e-mail", Events: []string{inbox.EventName(clerk.UserCreated)},
		Run: func(ctx context.Context, e Event) (any, error) { return f.Welcome.run(ctx, f.Users, e) },
	}, "send-mail", nil)
}

func (w *Welcome) run(ctx context.Context, users *store.Users, e Event) (result, error) {
	u, err := e.User()
	if err != nil {
		return result{}, err
	}
	ended := func(outcome store.Outcome) (result, error) { return result{UserID: u.ID, Outcome: outcome}, nil }
	signedUp := e.At
	if t := u.CreatedAt.Time(); !t.IsZero() && t.Before(signedUp) {
		signedUp = t
	}
	switch {
	case u.Email == "":
		return ended("skipped: no address")
	case !u.EmailVerified && !w.Unverified:
		return ended("skipped: the address is not verified")
	case e.Name != replayPrefix+sendWelcome && time.Since(signedUp) > welcomeWithin:
		return ended("skipped: not a new user")
	case signedUp.Before(w.Since):
		return ended("skipped: signed up before the time since when mails are sent")
	}
	switch dead, err := users.IsDeleted(ctx, u.ID); {
	case err != nil:
		return result{}, err
	case dead:
		return ended("skipped: deleted")
	}
	claim, err := w.Claims.Claim(ctx, u.ID, e.RunID)
	switch {
	case err != nil:
		return result{}, err
	case claim.State == store.Sent:
		return ended("sent before")
	case claim.State == store.PerhapsSent:
		return ended("perhaps sent before: it is not sent again")
	case claim.State == store.Held:
		return result{}, errHeld
	}
	// If Inngest hangs up while the mail server has not answered yet, the answer is still needed. The deadline stays.
	deadline, _ := ctx.Deadline()
	ctx = context.WithoutCancel(ctx)
	bounded, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	sending := func(ctx context.Context) error { return w.Claims.Sending(ctx, claim) }
	err = w.Mailer.Send(bounded, mail.User{ID: u.ID, Email: u.Email, FullName: u.FullName}, sending)
	if w.Mailed != nil {
		w.Mailed(err)
	}
	switch {
	case errors.Is(err, mail.ErrPerhapsSent):
		e.Log.WarnContext(ctx, "a welcome mail was perhaps sent; it is not sent again", "user_id", u.ID, "error", err)
		return ended("perhaps sent: the mail server had all of it and did not say that it took it; it is not sent " +
			"again")
	case err != nil:
		_ = w.Claims.Release(ctx, claim) // if this fails, the claim expires
		if errors.Is(err, mail.ErrRefused) {
			err = NoRetry(err)
		}
		return result{}, err
	}
	if err := w.Claims.Done(ctx, claim); err != nil { // then the claim says that it was perhaps sent
		e.Log.WarnContext(ctx, "a welcome mail is sent, which could not be noted", "user_id", u.ID, "error", err)
	}
	return ended("sent")
}

// Replay marks a dead letter to be sent again, and tells whether it is a mail that was perhaps sent before. A run never
// sends such a mail again; only a person may want that. The errors are those of inbox.Table.Replay.
func Replay(ctx context.Context, db *database.DB, id string, force bool) (perhapsSent bool, err error) {
	t := inbox.NewTable(db)
	if inbox.ParseEventID(id).IsOwn(sendWelcome) {
		l, err := t.DeadLetter(ctx, id)
		if err != nil {
			return false, err
		}
		if u, err := clerk.ParseUser(clerk.Unwrap(l.Data).User); err == nil { // else the run says what is wrong with it
			if perhapsSent, err = store.NewWelcomes(db).SendAgain(ctx, u.ID); err != nil {
				return false, err
			}
		}
	}
	return perhapsSent, t.Replay(ctx, id, force)
}
