package inbox

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"clerksync/clerk"
	"clerksync/store/database"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Failure says why an event became a dead letter.
type Failure struct {
	Function string    `bson:"function,omitempty"` // its id at Inngest; "" if no run has failed
	RunID    string    `bson:"run_id,omitempty"`
	Error    string    `bson:"error"`
	At       time.Time `bson:"at"`
	// DroppedAt is when an operator decided not to replay the event.
	DroppedAt time.Time `bson:"dropped_at,omitempty"`
}

// DeadLetter is an event that failed for good.
type DeadLetter struct {
	Event
	Failure
	ReceivedAt time.Time // when it arrived, or, if it came through Inngest's own integration, when it failed
	Sends      int       // how often Inngest may have accepted it
}

func (r row) deadLetter() DeadLetter {
	return DeadLetter{Event: r.event(), Failure: *r.Failure, ReceivedAt: r.ReceivedAt, Sends: r.Sends}
}

// FailPending turns an event in the inbox into a dead letter, which is not sent again. eventID is the id under which
// Inngest ran the event. there tells whether the event is in the inbox, even if it was a dead letter before.
// FailPending may be called again.
func (b *Inbox) FailPending(ctx context.Context, eventID string, f Failure) (there bool, _ error) {
	id := ParseEventID(eventID).Row
	if id == "" { // no event has this id
		return false, nil
	}
	f.At = time.Now()
	known := false // this failure is noted already
	done, err := database.Change(ctx, b.rows, id, nil, func(r row) bson.D {
		there, known = true, r.Failure != nil && r.Failure.RunID == f.RunID
		return bson.D{
			{Key: "$set", Value: bson.D{{Key: "failure", Value: f}}},
			{Key: "$unset", Value: bson.D{{Key: "due_at", Value: ""}}},
		}
	})
	if done && !known {
		b.tellFailed(ctx, id, f)
	}
	return there && err == nil, err
}

// Fail keeps an event as a dead letter even if it is not in the inbox, because it came through Inngest's own
// integration or was cleared. e.ID is the id under which Inngest ran the event. An event without an id gets an id that
// is a hash of its content. Fail may be called again.
func (b *Inbox) Fail(ctx context.Context, e Event, f Failure) error {
	if e.ID == "" || e.ID[0] == ':' { // see EventID.Own
		e.ID = fmt.Sprintf("no-id-%.16x", sha256.Sum256(append([]byte(e.Name), e.Data...))) + e.ID
	}
	if there, err := b.FailPending(ctx, e.ID, f); there || err != nil {
		return err
	}
	f.At = time.Now()
	r := newRow(e, f.At)
	r.ID, r.Sends, r.Failure = ParseEventID(e.ID).Row, 1, &f
	_, err := b.rows.InsertOne(ctx, r)
	if database.IsDuplicate(err) { // another process was faster, or the event has just been delivered
		_, err = b.FailPending(ctx, e.ID, f)
		return err
	}
	if err != nil {
		return fmt.Errorf("keep a dead letter: %w", database.Redact(err))
	}
	b.tellFailed(ctx, r.ID, f)
	return nil
}

func (b *Inbox) tellFailed(ctx context.Context, id string, f Failure) {
	b.metrics.failed.Inc()
	// The error is not logged, because a function of the app may have put secrets into it.
	b.Log.ErrorContext(ctx, "event failed for good; see clerksync deadletters", "svix_id", id, "function", f.Function)
}

// DeadLetters returns the dead letters without their data, the oldest failure first. It includes those that were
// dropped only if dropped is set.
func (t Table) DeadLetters(ctx context.Context, dropped bool) (all []DeadLetter, _ error) {
	filter := undropped()
	if dropped {
		filter = failed()
	}
	err := t.each(ctx, filter, ofData(), func(r row) { all = append(all, r.deadLetter()) })
	if err != nil {
		return nil, fmt.Errorf("list the dead letters: %w", err)
	}
	slices.SortFunc(all, func(a, b DeadLetter) int {
		return cmp.Or(a.At.Compare(b.At), strings.Compare(a.ID, b.ID))
	})
	return all, nil
}

// CountDeadLetters returns how many dead letters there are, without those that were dropped. It reads none of them.
func (t Table) CountDeadLetters(ctx context.Context) (int, error) {
	return t.rows.Count(ctx, undropped())
}

// failed is the filter for the dead letters. It names due_at too, because that has an index.
func failed() bson.D { return bson.D{exists("failure", true), exists("due_at", false)} }

// undropped is the filter for the dead letters that were not dropped.
func undropped() bson.D { return append(failed(), exists("failure.dropped_at", false)) }

// ErrNoDeadLetter says that there is no dead letter with this id.
var ErrNoDeadLetter = errors.New("no such dead letter")

// errPending is the ErrNoDeadLetter for an event that is pending.
var errPending = fmt.Errorf("%w", ErrNoDeadLetter)

// DeadLetter returns a dead letter with its data; the error is ErrNoDeadLetter if there is none.
func (t Table) DeadLetter(ctx context.Context, id string) (DeadLetter, error) {
	r, _, err := database.Get[row](ctx, t.rows, id)
	if err == nil && r.Failure == nil {
		err = ErrNoDeadLetter
	}
	if err != nil {
		return DeadLetter{}, err
	}
	return r.deadLetter(), nil
}

// ErrOld says that an event is older than maxReplayAge.
var ErrOld = errors.New(
	"the event is older than 90 days: its user may have been deleted since, and nobody would know any more")

const (
	// maxReplayAge is how old an event that could bring a deleted user back may be when it is replayed. Clerk itself
	// replays no older events, and tombstones are kept for twice as long (store.TombstoneRetention).
	maxReplayAge = 90 * 24 * time.Hour
	// DroppedRetention is how long a dropped dead letter can still be replayed.
	DroppedRetention = 30 * 24 * time.Hour
)

// old tells whether a replay of the event could bring back a deleted user whose tombstone may be gone. user.deleted is
// never old, because it brings nobody back.
func (r row) old() bool {
	return slices.Contains([]string{EventName(clerk.UserCreated), EventName(clerk.UserUpdated)}, r.Name) &&
		time.Since(time.UnixMilli(r.TS)) > maxReplayAge
}

// Replay makes a dead letter pending again. A running service then sends it under an id that is new to Inngest, and
// repeats that for 24 hours until a function has written the user's row. The error may be ErrNoDeadLetter or, unless
// force is set, ErrOld.
func (t Table) Replay(ctx context.Context, id string, force bool) error {
	why := ErrNoDeadLetter
	done, err := t.change(ctx, id, func(r row) bson.D {
		switch {
		case r.Failure == nil:
			why = errPending
			return nil
		case !force && r.old():
			why = ErrOld
			return nil
		}
		now := time.Now()
		return bson.D{
			{Key: "$set", Value: bson.D{
				{Key: "due_at", Value: now},
				{Key: "give_up_at", Value: now.Add(giveUpAfter)},
				{Key: "replayed", Value: r.Replayed || r.Failure.RunID != ""},
				{Key: "accepted", Value: 0},
			}},
			{Key: "$unset", Value: bson.D{{Key: "failure", Value: ""}}},
		}
	})
	if done || err != nil {
		return err
	}
	return why
}

// Drop hides a dead letter from the list. For DroppedRetention it can still be replayed. The error may be
// ErrNoDeadLetter.
func (t Table) Drop(ctx context.Context, id string) error {
	done, err := t.change(ctx, id, func(r row) bson.D {
		if r.Failure == nil {
			return nil
		}
		return bson.D{{Key: "$set", Value: bson.D{{Key: "failure.dropped_at", Value: time.Now()}}}}
	})
	if err == nil && !done {
		err = ErrNoDeadLetter
	}
	return err
}

// ForgetDropped removes at most limit dead letters that were dropped before a time, and returns how many it removed. A
// dead letter that is replayed at the same time stays.
func (t Table) ForgetDropped(ctx context.Context, before time.Time, limit int) (int, error) {
	return t.rows.RemoveOld(ctx, "failure.dropped_at", before, limit)
}
