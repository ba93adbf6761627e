package store

import (
	"context"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// Claim is what Welcomes.Claim found.
type Claim string

// The claims.
const (
	Won  Claim = "won"  // the caller sends, within ClaimLease
	Sent Claim = "sent" // somebody has sent it
	Held Claim = "held" // another run is at it, or was within ClaimLease
)

// ClaimLease is for how long a run that has claimed a mail keeps others from it: longer than one sending takes.
const ClaimLease = time.Minute

// Welcomes remembers to whom the welcome mail was sent, in the collection clerksync_welcome_mails: docs/adr/0005-welcome-once.md.
type Welcomes struct {
	db    *DB
	rows  *mongo.Collection
	locks *Locks // by user id
}

type welcome struct {
	UserID    string    `bson:"_id"`
	RunID     string    `bson:"run_id"`
	ClaimedAt time.Time `bson:"claimed_at"`
	SentAt    time.Time `bson:"sent_at,omitempty"`
}

// NewWelcomes returns the welcomes of db. Call Setup once before the first claim.
func NewWelcomes(db *DB) *Welcomes {
	return &Welcomes{db: db, rows: db.Collection("clerksync_welcome_mails"), locks: db.Locks("clerksync_welcome_mails")}
}

// Setup makes the index by which MongoDB forgets claims, with the tombstones. It can be repeated.
func (w *Welcomes) Setup(ctx context.Context) error {
	return EnsureIndex(ctx, w.db.Logger(), w.rows, w.index())
}

// LackIndex tells whether Setup has something to do.
func (w *Welcomes) LackIndex(ctx context.Context) (bool, error) {
	return LacksIndex(ctx, w.rows, w.index())
}

func (w *Welcomes) index() Index {
	ix := Index{Field: "claimed_at"}
	if !w.db.OneProcess {
		ix.Options = options.Index().SetExpireAfterSeconds(int32(TombstoneRetention / time.Second))
	}
	return ix
}

// Claim takes the user's mail for a run. The run that has it gets it again; another run once the lease is over, and it is not sent.
func (w *Welcomes) Claim(ctx context.Context, userID, runID string) (Claim, error) {
	defer w.locks.Lock(userID)()
	now := time.Now().UTC().Truncate(time.Millisecond)
	_, err := w.rows.InsertOne(ctx, welcome{UserID: userID, RunID: runID, ClaimedAt: now})
	if err == nil {
		return Won, nil
	}
	if !IsDuplicate(err) {
		return "", fmt.Errorf("claim the mail of user %q: %w", userID, Redact(err))
	}
	var old welcome
	if err := w.rows.FindOne(ctx, byID(userID)).Decode(&old); err != nil {
		return "", fmt.Errorf("read the claim of user %q: %w", userID, Redact(err))
	}
	switch {
	case !old.SentAt.IsZero():
		return Sent, nil
	case old.RunID != runID && now.Sub(old.ClaimedAt) < ClaimLease:
		return Held, nil
	}
	filter := byID(userID)
	if !w.db.OneProcess { // there the lock does it
		filter = append(filter, bson.E{Key: "run_id", Value: old.RunID}, bson.E{Key: "claimed_at", Value: old.ClaimedAt})
	}
	res, err := w.rows.UpdateOne(ctx, filter, bson.D{{Key: "$set", Value: bson.D{{Key: "run_id", Value: runID}, {Key: "claimed_at", Value: now}}}})
	if err != nil {
		return "", fmt.Errorf("renew the claim of user %q: %w", userID, Redact(err))
	}
	if res.MatchedCount == 0 {
		return Held, nil
	}
	return Won, nil
}

// Release lets other runs have a mail that this run could not send. One that it does not hold is left alone.
func (w *Welcomes) Release(ctx context.Context, userID, runID string) error {
	defer w.locks.Lock(userID)()
	var old welcome
	err := w.rows.FindOne(ctx, byID(userID)).Decode(&old)
	if err == nil && old.RunID == runID {
		filter := byID(userID)
		if !w.db.OneProcess {
			filter = append(filter, bson.E{Key: "run_id", Value: runID})
		}
		_, err = w.rows.UpdateOne(ctx, filter, bson.D{{Key: "$set", Value: bson.D{{Key: "claimed_at", Value: time.Now().Add(-ClaimLease)}}}})
	}
	if err != nil {
		return fmt.Errorf("release the mail of user %q: %w", userID, Redact(err))
	}
	return nil
}

// Done says that the user's mail is sent.
func (w *Welcomes) Done(ctx context.Context, userID string) error {
	defer w.locks.Lock(userID)()
	_, err := w.rows.UpdateOne(ctx, byID(userID), bson.D{{Key: "$set", Value: bson.D{{Key: "sent_at", Value: time.Now()}}}})
	if err != nil {
		return fmt.Errorf("note that the mail of user %q is sent: %w", userID, Redact(err))
	}
	return nil
}
