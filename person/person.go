// Package person finds all that clerksync keeps of one user, for that user to see, and erases it. Nothing else of
// clerksync needs it.
package person

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"clerksync/clerk"
	"clerksync/history"
	"clerksync/inbox"
	"clerksync/reconcile"
	"clerksync/store"
	"clerksync/store/database"
)

// Records are the collections in which something is kept of users. clerksync_runs is not among them: it has ids of
// messages, and nothing that leads from them to a user.
type Records struct {
	Users    *store.Users
	Inbox    inbox.Table
	Welcomes *store.Welcomes
	History  *history.History
	State    database.Checkpoints
}

// Kept is all that is kept of a user.
type Kept struct {
	Row         json.RawMessage // the whole document; nil if there is none
	Deleted     bool            // there is a tombstone
	DeletedAt   time.Time       // when it was made
	Events      []inbox.Kept    // that wait or have failed, the oldest first
	WelcomeMail json.RawMessage // when it was sent; nil if that is not known
	History     history.Past    // what was written to the row, and what was not
	Runs        []string        // of reconcile, whose saved state has the user's id
	Naming      []string        // ids of events that are about somebody else and name the user's id
}

// Nothing tells whether nothing at all is kept of the user.
func (k Kept) Nothing() bool {
	return k.Row == nil && !k.Deleted && k.WelcomeMail == nil && k.History.Empty() &&
		len(k.Events)+len(k.Runs)+len(k.Naming) == 0
}

// Check returns an error that says what is wrong with the id of a user.
func Check(id string) error {
	if !clerk.IsUserID(id) {
		return errors.New("no id of a Clerk user: it is user_ and 27 letters and digits")
	}
	return nil
}

// Find returns all that is kept of a user. It only reads.
func (r Records) Find(ctx context.Context, id string) (k Kept, err error) {
	if k.Row, err = absent(r.Users.Document(ctx, id)); err != nil {
		return k, err
	}
	if k.DeletedAt, k.Deleted, err = r.Users.DeletedAt(ctx, id); err != nil {
		return k, err
	}
	if k.Events, k.Naming, err = r.Inbox.OfUser(ctx, id); err != nil {
		return k, err
	}
	if k.WelcomeMail, err = absent(r.Welcomes.Document(ctx, id)); err != nil {
		return k, err
	}
	if k.History, err = r.History.Get(ctx, id); err != nil {
		return k, err
	}
	k.Runs, err = reconcile.Named(ctx, r.State, id)
	return k, err
}

// absent returns nil for a document that is not there.
func absent(document json.RawMessage, err error) (json.RawMessage, error) {
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	return document, err
}

// export is the JSON of Export.
type export struct {
	UserID     string          `json:"user_id"`
	ExportedAt time.Time       `json:"exported_at"`
	Row        json.RawMessage `json:"row,omitempty"`
	// Written are the names of the fields in Row that clerksync writes; all others are the app's.
	Written     []string        `json:"row_fields_of_clerksync,omitempty"`
	DeletedAt   *time.Time      `json:"deleted_at,omitempty"`
	Events      []exportedEvent `json:"events,omitempty"`
	WelcomeMail json.RawMessage `json:"welcome_mail,omitempty"`
	History     *history.Past   `json:"history,omitempty"`
	Runs        []string        `json:"named_in_reconcile,omitempty"`
	Naming      []string        `json:"named_in_events_of_others,omitempty"`
}

type exportedEvent struct {
	ID         string          `json:"id"`
	Name       string          `json:"name"`
	HappenedAt time.Time       `json:"happened_at"`
	ReceivedAt time.Time       `json:"received_at"`
	Sends      int             `json:"sends"`
	Failure    *failure        `json:"failure,omitempty"`
	Data       json.RawMessage `json:"data"`
}

type failure struct {
	Function  string    `json:"function,omitempty"`
	RunID     string    `json:"run_id,omitempty"`
	Error     string    `json:"error"`
	At        time.Time `json:"at"`
	DroppedAt time.Time `json:"dropped_at,omitzero"`
}

// ErrNothing says that nothing is kept of a user.
var ErrNothing = errors.New("nothing is kept of this user")

// Export returns all that is kept of a user as one JSON object, whose form docs/gdpr.md describes. The error may be
// ErrNothing.
func (r Records) Export(ctx context.Context, id string) (json.RawMessage, error) {
	k, err := r.Find(ctx, id)
	switch {
	case err != nil:
		return nil, err
	case k.Nothing():
		return nil, ErrNothing
	}
	e := export{
		UserID: id, ExportedAt: time.Now().UTC(),
		Row: k.Row, WelcomeMail: k.WelcomeMail, Runs: k.Runs, Naming: k.Naming,
	}
	if k.Row != nil {
		e.Written = r.Users.Written()
	}
	if k.Deleted {
		e.DeletedAt = &k.DeletedAt
	}
	if !k.History.Empty() {
		e.History = &k.History
	}
	for _, ev := range k.Events {
		out := exportedEvent{
			ID: ev.ID, Name: ev.Name, HappenedAt: time.UnixMilli(ev.TS).UTC(), ReceivedAt: ev.ReceivedAt.UTC(),
			Sends: ev.Sends, Data: ev.Data,
		}
		if !json.Valid(ev.Data) {
			out.Data, _ = json.Marshal(string(ev.Data)) // a string always is JSON
		}
		if f := ev.Failure; f != nil {
			out.Failure = &failure{f.Function, f.RunID, f.Error, f.At.UTC(), f.DroppedAt.UTC()}
		}
		e.Events = append(e.Events, out)
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false) // an & in the URL of a picture stays one
	if err := encoder.Encode(e); err != nil {
		return nil, fmt.Errorf("write what is kept as JSON: %w", err)
	}
	return bytes.TrimSpace(text.Bytes()), nil
}
