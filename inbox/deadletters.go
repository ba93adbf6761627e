package inbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"clerksync/clerk"
	"clerksync/store/database"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// ErrNoDeadLetter says that no event with this id has failed for good.
var ErrNoDeadLetter = errors.New("no such dead letter")

// DeadLetter is an event that failed for good.
type DeadLetter struct {
	Event
	Failure
	ReceivedAt time.Time // when it came, or, if it came by Inngest's own integration, when it failed
	Sends      int       // how often Inngest may have accepted it
}

// DeadLetters are the failed events in the collection clerksync_inbox. It may be used while a service runs.
type DeadLetters struct{ table }

// NewDeadLetters returns the dead letters of db.
func NewDeadLetters(db *database.DB) DeadLetters { return DeadLetters{newTable(db)} }

// List returns the dead letters, the oldest failure first, without their data; those that were dropped only if told to.
func (d DeadLetters) List(ctx context.Context, dropped bool) ([]DeadLetter, error) {
	filter := bson.D{
		{Key: "failure", Value: bson.D{{Key: "$exists", Value: true}}},
		{Key: "due_at", Value: bson.D{{Key: "$exists", Value: false}}}, // by the index
	}
	cur, err := d.rows.Find(ctx, filter, options.Find().SetProjection(bson.D{{Key: "data", Value: 0}}))
	if err != nil {
		return nil, fmt.Errorf("list the dead letters: %w", database.Redact(err))
	}
	var rows []row
	if err := cur.All(ctx, &rows); err != nil {
		return nil, fmt.Errorf("list the dead letters: %w", database.Redact(err))
	}
	var all []DeadLetter
	for _, r := range rows {
		if dropped || r.Failure.DroppedAt.IsZero() {
			all = append(all, r.deadLetter())
		}
	}
	slices.SortFunc(all, func(a, b DeadLetter) int { return cmp.Or(a.At.Compare(b.At), strings.Compare(a.ID, b.ID)) })
	return all, nil
}

// Get returns a dead letter with its data, or ErrNoDeadLetter.
func (d DeadLetters) Get(ctx context.Context, id string) (DeadLetter, error) {
	r, _, err := database.Get[row](ctx, d.rows, id)
	if err != nil {
		return DeadLetter{}, fmt.Errorf("read a dead letter: %w", err)
	}
	if r.Failure == nil {
		return DeadLetter{}, ErrNoDeadLetter
	}
	return r.deadLetter(), nil
}

// MaxReplayAge is how old an event may be that could bring back a user: Clerk too replays no older one, and tombstones
// are kept for twice as long (store.TombstoneRetention).
const MaxReplayAge = 90 * 24 * time.Hour

// ErrOld says that an event is older than MaxReplayAge.
var ErrOld = errors.New("the event is older than 90 days: its user may have been deleted since, and nobody would know any more")

// old tells whether a replay of the event could bring back a user whose deletion is forgotten. A deletion brings nobody
// back.
func (l DeadLetter) old() bool {
	switch l.Name {
	case "clerk/" + clerk.UserCreated, "clerk/" + clerk.UserUpdated:
		return time.Since(time.UnixMilli(l.TS)) > MaxReplayAge
	}
	return false
}

// Replay hands the event to the running services, which send it under an id that Inngest does not know yet; for 24
// hours again, until a function has written its row. The error may be ErrNoDeadLetter or, unless it is forced, ErrOld.
func (d DeadLetters) Replay(ctx context.Context, id string, force bool) error {
	if l, err := d.Get(ctx, id); err != nil {
		return err
	} else if !force && l.old() {
		return ErrOld
	}
	done, _, err := d.revive(ctx, id)
	if err == nil && !done {
		err = ErrNoDeadLetter
	}
	return err
}

// Drop hides the event from List; it can still be replayed, for DroppedRetention. The error may be ErrNoDeadLetter.
func (d DeadLetters) Drop(ctx context.Context, id string) error {
	done, err := d.change(ctx, id, func(r row) bson.D {
		if r.Failure == nil {
			return nil
		}
		r.Failure.DroppedAt = time.Now()
		return bson.D{{Key: "$set", Value: bson.D{{Key: "failure", Value: r.Failure}}}}
	})
	if err == nil && !done {
		err = ErrNoDeadLetter
	}
	return err
}

// DroppedRetention is how long a dropped dead letter can still be replayed.
const DroppedRetention = 30 * 24 * time.Hour

// ForgetDropped removes dead letters that were dropped before a time, limit at the most, and returns how many.
func (d DeadLetters) ForgetDropped(ctx context.Context, before time.Time, limit int) (int, error) {
	all, err := d.List(ctx, true)
	if err != nil {
		return 0, err
	}
	all = slices.DeleteFunc(all, func(l DeadLetter) bool { return l.DroppedAt.IsZero() || !l.DroppedAt.Before(before) })
	n := 0
	for _, l := range all[:min(limit, len(all))] {
		gone, err := d.forget(ctx, l)
		if err != nil {
			return n, err
		}
		if gone {
			n++
		}
	}
	return n, nil
}

// forget removes a dead letter, unless somebody has replayed it since.
func (d DeadLetters) forget(ctx context.Context, l DeadLetter) (bool, error) {
	defer d.rows.Lock(l.ID)()
	now, err := d.Get(ctx, l.ID)
	if errors.Is(err, ErrNoDeadLetter) || err == nil && !now.DroppedAt.Equal(l.DroppedAt) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	gone, err := d.rows.DeleteIf(ctx, l.ID, bson.D{{Key: "failure.dropped_at", Value: l.DroppedAt}})
	if err != nil {
		return false, fmt.Errorf("remove a dropped dead letter: %w", err)
	}
	return gone, nil
}

func (r row) deadLetter() DeadLetter {
	return DeadLetter{Event: r.event(), Failure: *r.Failure, ReceivedAt: r.ReceivedAt, Sends: r.Sends}
}
