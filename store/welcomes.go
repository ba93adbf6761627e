package store

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	"clerksync/store/database"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Claim says what Welcomes.Claim found. If its state is Won, it is the caller's claim on the mail.
type Claim struct {
	State  ClaimState
	userID string
	token  string // of this claim: another attempt of the same run has another token
}

// ClaimState says whether the caller may send a mail, and if not, why.
type ClaimState string

// The states.
const (
	Won         ClaimState = "won"          // the caller sends the mail, within ClaimLease
	Sent        ClaimState = "sent"         // another attempt has sent it
	PerhapsSent ClaimState = "perhaps sent" // another attempt may have sent it, so nobody sends it again
	Held        ClaimState = "held"         // another attempt has claimed it within ClaimLease
)

// ClaimLease is how long a claim keeps all other attempts from the mail. A run may take a minute; the rest allows for
// clocks that differ.
const ClaimLease = 90 * time.Second

// Welcomes remembers in the collection clerksync_welcome_mails to whom the welcome mail was sent:
// docs/adr/0005-welcome-once.md.
type Welcomes struct{ retention }

type welcome struct {
	Token     string    `bson:"token"`
	ClaimedAt time.Time `bson:"claimed_at"`
	PerhapsAt time.Time `bson:"perhaps_at,omitempty"`
	SentAt    time.Time `bson:"sent_at,omitempty"`
}

// over tells whether the lease of a claim is over.
func (c welcome) over() bool { return time.Since(c.ClaimedAt) >= ClaimLease }

// NewWelcomes returns the welcome mails of db. Call Setup once before the first claim.
func NewWelcomes(db *database.DB) *Welcomes {
	index := database.Index{Field: "claimed_at", TTL: TombstoneRetention}
	return &Welcomes{retention{db.Collection("clerksync_welcome_mails"), index}}
}

// Claim claims the user's mail for one attempt of a run; then only this attempt may send it. Another attempt, even of
// the same run, can claim the mail after the lease is over or the mail is released, unless it was sent or perhaps sent.
func (w *Welcomes) Claim(ctx context.Context, userID, runID string) (Claim, error) {
	token := rand.Text()
	mine := bson.D{{Key: "run_id", Value: runID}, {Key: "token", Value: token}, {Key: "claimed_at", Value: time.Now()}}
	held, won, err := database.Claim(ctx, w.rows, userID, mine, func(c welcome) bool {
		return c.SentAt.IsZero() && c.PerhapsAt.IsZero() && c.over()
	})
	switch {
	case err != nil:
		return Claim{}, err
	case won:
		return Claim{Won, userID, token}, nil
	case !held.SentAt.IsZero():
		return Claim{State: Sent}, nil
	case !held.PerhapsAt.IsZero() && held.over():
		return Claim{State: PerhapsSent}, nil
	}
	return Claim{State: Held}, nil
}

// Sending notes that the last byte of the mail is about to go out. From then until the mail server answers, nobody
// knows whether the mail was sent. Sending also starts the lease anew, for the time until the answer. It fails if
// another attempt has claimed the mail; then the mail must not be sent.
func (w *Welcomes) Sending(ctx context.Context, c Claim) error {
	now := time.Now()
	set := bson.D{{Key: "perhaps_at", Value: now}, {Key: "claimed_at", Value: now}}
	return w.update(ctx, c, bson.D{{Key: "$set", Value: set}})
}

// Release gives back a mail that was not sent, so that another attempt can claim it. It fails if another attempt has
// claimed the mail already.
func (w *Welcomes) Release(ctx context.Context, c Claim) error {
	return w.update(ctx, c, bson.D{
		{Key: "$set", Value: bson.D{{Key: "claimed_at", Value: time.Now().Add(-ClaimLease)}}},
		{Key: "$unset", Value: bson.D{{Key: "perhaps_at", Value: ""}}},
	})
}

// Done notes that the mail was sent.
func (w *Welcomes) Done(ctx context.Context, c Claim) error {
	_, err := database.Change(ctx, w.rows, c.userID, nil, func(welcome) bson.D {
		return bson.D{{Key: "$set", Value: bson.D{{Key: "sent_at", Value: time.Now()}}}}
	})
	return err
}

// SendAgain allows a mail that was perhaps sent to be sent once more, and tells whether there was such a mail. Call it
// only when a person has decided so.
func (w *Welcomes) SendAgain(ctx context.Context, userID string) (bool, error) {
	return database.Change(ctx, w.rows, userID, hold(), func(c welcome) bson.D {
		if c.PerhapsAt.IsZero() || !c.SentAt.IsZero() || !c.over() {
			return nil
		}
		return bson.D{{Key: "$unset", Value: bson.D{{Key: "perhaps_at", Value: ""}}}}
	})
}

// hold returns the fields that change with every claim.
func hold() []string { return []string{"token", "claimed_at"} }

// update changes the mail's row. It fails if another attempt has claimed the mail since c.
func (w *Welcomes) update(ctx context.Context, c Claim, change bson.D) error {
	done, err := database.Change(ctx, w.rows, c.userID, hold(), func(now welcome) bson.D {
		if now.Token != c.token {
			return nil
		}
		return change
	})
	if err == nil && !done {
		err = errors.New("the mail is no longer this run's to send")
	}
	return err
}
