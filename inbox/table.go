package inbox

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"clerksync/clerk"
	"clerksync/store/database"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// Table is the collection clerksync_inbox, without the sending. Commands, the doctor and the nightly clean-up may use
// it while a service runs.
type Table struct{ rows *database.Collection } // by svix-id

// NewTable returns the table of db.
func NewTable(db *database.DB) Table { return Table{db.Collection("clerksync_inbox")} }

// row is an event in the collection. A pending event has a time at which it is due; a dead letter has a failure
// instead.
type row struct {
	ID         string    `bson:"_id"`
	Name       string    `bson:"name"`
	TS         int64     `bson:"ts"`
	V          string    `bson:"v,omitempty"`
	ReceivedAt time.Time `bson:"received_at"`
	// Sends counts how often Inngest may have accepted the event. It is part of the id of the next sending, see
	// EventID.
	Sends int `bson:"sends"`
	// Accepted counts how often Inngest has accepted the event, without the first time: to count that would cost one
	// more write for every event.
	Accepted int `bson:"accepted,omitempty"`
	// Blocked counts how often the event was not let through although others were, see postpone.
	Blocked int `bson:"blocked,omitempty"`
	// DueAt is when any process may send the event. Until then the process that wrote or claimed the event has its
	// lease.
	DueAt    time.Time `bson:"due_at,omitempty"`
	GiveUpAt time.Time `bson:"give_up_at"`
	Replayed bool      `bson:"replayed,omitempty"` // a run had failed before the event was replayed
	Failure  *Failure  `bson:"failure,omitempty"`
	Data     string    `bson:"data"` // JSON; last, because it makes the driver's buffer grow

	json json.RawMessage // Data as it came, so that sending it at once needs no copy; nil if the row was read
}

func newRow(e Event, now time.Time) row {
	return row{
		ID: e.ID, Name: e.Name, TS: e.TS, V: e.V, Data: string(e.Data), json: e.Data,
		ReceivedAt: now, GiveUpAt: now.Add(giveUpAfter),
	}
}

func (r row) event() Event {
	if r.json == nil {
		r.json = json.RawMessage(r.Data)
	}
	return Event{ID: r.ID, Name: r.Name, TS: r.TS, V: r.V, Data: r.json}
}

// change does the update that f returns for the row of an event, and tells whether it did. It does nothing if f returns
// nil, if there is no row, or if another process changed due_at meanwhile.
func (t Table) change(ctx context.Context, id string, f func(row) bson.D) (bool, error) {
	return database.Change(ctx, t.rows, id, []string{"due_at"}, f)
}

// each calls f with every row that the filter finds. It does not read the fields that the projection without excludes.
func (t Table) each(ctx context.Context, filter, without bson.D, f func(row)) error {
	return t.eachRaw(ctx, filter, without, func(raw bson.Raw) error {
		var r row
		err := bson.Unmarshal(raw, &r)
		if err == nil {
			f(r)
		}
		return err
	})
}

// NewestDeadLetters returns at most limit dead letters without their data, the newest failure first. Those that were
// dropped are not among them.
func (t Table) NewestDeadLetters(ctx context.Context, limit int) (all []DeadLetter, _ error) {
	newest := bson.D{{Key: "failure.at", Value: -1}}
	find := options.Find().SetProjection(ofData()).SetSort(newest).SetLimit(int64(limit))
	var rows []row
	cur, err := t.rows.Find(ctx, undropped(), find)
	if err == nil {
		err = cur.All(ctx, &rows)
	}
	if err != nil {
		return nil, fmt.Errorf("list the newest dead letters: %w", database.Redact(err))
	}
	for _, r := range rows {
		all = append(all, r.deadLetter())
	}
	return all, nil
}

// eachRaw calls f with every row, as each does, until f fails. f must not keep the row.
func (t Table) eachRaw(ctx context.Context, filter, without bson.D, f func(bson.Raw) error) error {
	cur, err := t.rows.Find(ctx, filter, options.Find().SetProjection(without))
	if err != nil {
		return database.Redact(err)
	}
	for err == nil && cur.Next(ctx) {
		err = f(cur.Current)
	}
	return database.Redact(cmp.Or(err, cur.Err(), cur.Close(ctx)))
}

// ofData returns the projection that excludes the events' data.
func ofData() bson.D { return bson.D{{Key: "data", Value: 0}} }

func exists(field string, value bool) bson.E {
	return bson.E{Key: field, Value: bson.D{{Key: "$exists", Value: value}}}
}

func byDue() database.Index { return database.Index{Field: "due_at"} }

// Setup makes the index of the collection. It may be called again.
func (t Table) Setup(ctx context.Context) error { return t.rows.EnsureIndex(ctx, byDue()) }

// LacksIndex tells whether Setup has something to do.
func (t Table) LacksIndex(ctx context.Context) (bool, error) { return t.rows.LacksIndex(ctx, byDue()) }

// Pending says how many events no function has cleared yet.
type Pending struct {
	Events int
	Oldest time.Time // since when the oldest waits: since it was received, replayed or, if Inngest was away, first sent
}

// StuckAfter is how long an event may wait before its functions are held not to run. By then it was sent three times.
const StuckAfter = 10 * time.Minute

// Pending counts the events that no function has cleared yet.
func (t Table) Pending(ctx context.Context) (p Pending, _ error) {
	err := t.each(ctx, bson.D{exists("due_at", true)}, ofData(), func(r row) {
		since := r.ReceivedAt
		if r.Replayed || r.Sends > 0 { // its 24 hours began later than it was received
			since = r.GiveUpAt.Add(-giveUpAfter)
		}
		if p.Events++; p.Events == 1 || since.Before(p.Oldest) {
			p.Oldest = since
		}
	})
	if err != nil {
		return Pending{}, fmt.Errorf("look for pending events: %w", err)
	}
	return p, nil
}

// Deletions returns the sorted ids of the events that say that a user is deleted: waiting are those that are pending,
// and dead are the dead letters that were not dropped. It reads all deletions in the collection.
func (t Table) Deletions(ctx context.Context, userID string) (waiting, dead []string, _ error) {
	err := t.each(ctx, bson.D{{Key: "name", Value: EventName(clerk.UserDeleted)}}, bson.D{}, func(r row) {
		id, err := clerk.ParseDeleted(clerk.Unwrap(json.RawMessage(r.Data)).User)
		switch {
		case err != nil || id != userID: // it is of another user, or cannot be read
		case r.Failure == nil:
			waiting = append(waiting, r.ID)
		case r.Failure.DroppedAt.IsZero():
			dead = append(dead, r.ID)
		}
	})
	if err != nil {
		return nil, nil, fmt.Errorf("look for the user's deletion: %w", err)
	}
	slices.Sort(waiting)
	slices.Sort(dead)
	return waiting, dead, nil
}
