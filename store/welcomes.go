package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"clerksync/store/database"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
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
type Welcomes struct {
	db    *database.DB
	rows  *mongo.Collection
	locks *database.Locks // by user id
}

type welcome struct {
	UserID    string    `bson:"_id"`
	RunID     string    `bson:"run_id"`
	Token     string    `bson:"token"`
	ClaimedAt time.Time `bson:"claimed_at"` // changes with every change of hands: the guard of updates
	PerhapsAt time.Time `bson:"perhaps_at,omitempty"`
	SentAt    time.Time `bson:"sent_at,omitempty"`
}

// NewWelcomes returns the welcomes of db. Call Setup once before the first claim.
func NewWelcomes(db *database.DB) *Welcomes {
	return &Welcomes{db: db, rows: db.Collection("clerksync_welcome_mails"), locks: db.Locks("clerksync_welcome_mails")}
}

// Setup makes the index by which MongoDB forgets claims, with the tombstones. It can be repeated.
func (w *Welcomes) Setup(ctx context.Context) error {
	return database.EnsureIndex(ctx, w.db.Logger(), w.rows, w.index())
}

// LackIndex tells whether Setup has something to do.
func (w *Welcomes) LackIndex(ctx context.Context) (bool, error) {
	return database.LacksIndex(ctx, w.rows, w.index())
}

func (w *Welcomes) index() database.Index {
	ix := database.Index{Field: "claimed_at"}
	if !w.db.OneProcess {
		ix.Options = options.Index().SetExpireAfterSeconds(int32(TombstoneRetention / time.Second))
	}
	return ix
}

// Claim takes the user's mail for an attempt of a run, which alone may then send it. Another attempt, of that run too,
// gets it when the lease is over or the mail is released, unless it was sent or perhaps sent.
func (w *Welcomes) Claim(ctx context.Context, userID, runID string) (Claim, error) {
	defer w.locks.Lock(userID)()
	c := welcome{UserID: userID, RunID: runID, Token: rand.Text(), ClaimedAt: nowMillis()}
	won := Claim{State: Won, userID: userID, token: c.Token}
	_, err := w.rows.InsertOne(ctx, c)
	if err == nil {
		return won, nil
	}
	if !database.IsDuplicate(err) {
		return Claim{}, fmt.Errorf("claim the mail of user %q: %w", userID, database.Redact(err))
	}
	old, err := w.read(ctx, userID)
	if err != nil {
		return Claim{}, err
	}
	switch {
	case !old.SentAt.IsZero():
		return Claim{State: Sent}, nil
	case !old.over(c.ClaimedAt):
		return Claim{State: Held}, nil
	case !old.PerhapsAt.IsZero():
		return Claim{State: PerhapsSent}, nil
	}
	done, err := w.update(ctx, old, bson.D{{Key: "$set", Value: bson.D{
		{Key: "run_id", Value: c.RunID}, {Key: "token", Value: c.Token}, {Key: "claimed_at", Value: c.ClaimedAt},
	}}})
	if err != nil || !done {
		return Claim{State: Held}, err
	}
	return won, nil
}

// over tells whether the lease of a claim is over.
func (c welcome) over(now time.Time) bool { return now.Sub(c.ClaimedAt) >= ClaimLease }

var errClaimLost = errors.New("the mail is no longer this run's to send")

// Sending says that the last byte of the mail is about to go out, after which nobody knows whether it is sent until the
// mail server has said so, and lets the lease begin anew for the wait. It fails if the claim is no longer c's: then the
// mail must not go out.
func (w *Welcomes) Sending(ctx context.Context, c Claim) error {
	at := nowMillis()
	return w.change(ctx, c, bson.D{{Key: "$set", Value: bson.D{{Key: "perhaps_at", Value: at}, {Key: "claimed_at", Value: at}}}})
}

// Release lets others have a mail that was not sent. It fails if the claim is no longer c's.
func (w *Welcomes) Release(ctx context.Context, c Claim) error {
	return w.change(ctx, c, bson.D{
		{Key: "$set", Value: bson.D{{Key: "claimed_at", Value: nowMillis().Add(-ClaimLease)}}},
		{Key: "$unset", Value: bson.D{{Key: "perhaps_at", Value: ""}}},
	})
}

// Done says that the mail is sent.
func (w *Welcomes) Done(ctx context.Context, c Claim) error {
	defer w.locks.Lock(c.userID)()
	_, err := w.rows.UpdateOne(ctx, database.ByID(c.userID), bson.D{{Key: "$set", Value: bson.D{{Key: "sent_at", Value: nowMillis()}}}})
	if err != nil {
		return fmt.Errorf("note that the mail of user %q is sent: %w", c.userID, database.Redact(err))
	}
	return nil
}

// SendAgain lets a mail that was perhaps sent be sent once more, and tells whether there was such a one. That is a
// person's decision.
func (w *Welcomes) SendAgain(ctx context.Context, userID string) (bool, error) {
	defer w.locks.Lock(userID)()
	old, err := w.read(ctx, userID)
	if errors.Is(err, mongo.ErrNoDocuments) {
		return false, nil
	}
	if err != nil || old.PerhapsAt.IsZero() || !old.SentAt.IsZero() || !old.over(nowMillis()) {
		return false, err
	}
	return w.update(ctx, old, bson.D{{Key: "$unset", Value: bson.D{{Key: "perhaps_at", Value: ""}}}})
}

// change changes the row of a claim that is still c's.
func (w *Welcomes) change(ctx context.Context, c Claim, change bson.D) error {
	defer w.locks.Lock(c.userID)()
	old, err := w.read(ctx, c.userID)
	if err != nil {
		return err
	}
	if old.Token != c.token {
		return errClaimLost
	}
	done, err := w.update(ctx, old, change)
	if err == nil && !done {
		err = errClaimLost
	}
	return err
}

func (w *Welcomes) read(ctx context.Context, userID string) (welcome, error) {
	var c welcome
	if err := w.rows.FindOne(ctx, database.ByID(userID)).Decode(&c); err != nil {
		return c, fmt.Errorf("read the claim of user %q: %w", userID, database.Redact(err))
	}
	return c, nil
}

// update changes the row unless it has changed hands since it was read as old. The caller holds the user's lock.
func (w *Welcomes) update(ctx context.Context, old welcome, change bson.D) (bool, error) {
	filter := database.ByID(old.UserID)
	if !w.db.OneProcess { // there the lock does it
		filter = append(filter, bson.E{Key: "token", Value: old.Token}, bson.E{Key: "claimed_at", Value: old.ClaimedAt})
	}
	res, err := w.rows.UpdateOne(ctx, filter, change)
	if err != nil {
		return false, fmt.Errorf("change the claim of user %q: %w", old.UserID, database.Redact(err))
	}
	return res.MatchedCount > 0, nil
}

// nowMillis is the time as the database keeps it.
func nowMillis() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }
