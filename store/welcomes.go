package store

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	"clerksync/store/database"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Claim is what Welcomes.Claim found, and the hold on the mail if it is won.
type Claim struct {
	State  ClaimState
	userID string
	token  string // of the hold: another attempt of the same run has another one
}

// ClaimState says whose a mail is.
type ClaimState string

// The states.
const (
	Won         ClaimState = "won"          // the caller sends, within ClaimLease
	Sent        ClaimState = "sent"         // somebody has sent it
	PerhapsSent ClaimState = "perhaps sent" // somebody has, or was about to: nobody sends it again
	Held        ClaimState = "held"         // somebody is at it, or was within ClaimLease
)

// ClaimLease is for how long whoever has claimed a mail keeps all others from it: longer than a run may take (a
// minute), by as much as clocks may differ.
const ClaimLease = 90 * time.Second

// Welcomes remembers to whom the welcome mail was sent, in the collection clerksync_welcome_mails:
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

// NewWelcomes returns the welcomes of db. Call Setup once before the first claim.
func NewWelcomes(db *database.DB) *Welcomes {
	return &Welcomes{retention{db.Collection("clerksync_welcome_mails"), "claimed_at", TombstoneRetention}}
}

// Claim takes the user's mail for an attempt of a run, which alone may then send it. Another attempt, of that run too,
// gets it when the lease is over or the mail is released, unless it was sent or perhaps sent.
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

// Sending says that the last byte of the mail is about to go out, after which nobody knows whether it is sent until the
// mail server has said so, and lets the lease begin anew for the wait. It fails if the claim is no longer c's: then the
// mail must not go out.
func (w *Welcomes) Sending(ctx context.Context, c Claim) error {
	now := time.Now()
	set := bson.D{{Key: "perhaps_at", Value: now}, {Key: "claimed_at", Value: now}}
	return w.update(ctx, c, bson.D{{Key: "$set", Value: set}})
}

// Release lets others have a mail that was not sent. It fails if the claim is no longer c's.
func (w *Welcomes) Release(ctx context.Context, c Claim) error {
	return w.update(ctx, c, bson.D{
		{Key: "$set", Value: bson.D{{Key: "claimed_at", Value: time.Now().Add(-ClaimLease)}}},
		{Key: "$unset", Value: bson.D{{Key: "perhaps_at", Value: ""}}},
	})
}

// Done says that the mail is sent.
func (w *Welcomes) Done(ctx context.Context, c Claim) error {
	_, err := database.Change(ctx, w.rows, c.userID, nil, func(welcome) bson.D {
		return bson.D{{Key: "$set", Value: bson.D{{Key: "sent_at", Value: time.Now()}}}}
	})
	return err
}

// SendAgain lets a mail that was perhaps sent be sent once more, and tells whether there was such a one. That is a
// person's decision.
func (w *Welcomes) SendAgain(ctx context.Context, userID string) (bool, error) {
	return database.Change(ctx, w.rows, userID, hold(), func(c welcome) bson.D {
		if c.PerhapsAt.IsZero() || !c.SentAt.IsZero() || !c.over() {
			return nil
		}
		return bson.D{{Key: "$unset", Value: bson.D{{Key: "perhaps_at", Value: ""}}}}
	})
}

// hold are the fields that change with every change of hands.
func hold() []string { return []string{"token", "claimed_at"} }

// update changes the row of a claim that is still c's.
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
