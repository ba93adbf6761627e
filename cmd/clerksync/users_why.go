package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"clerksync/history"
	"clerksync/person"
)

type usersWhy struct {
	userID
	asJSON
}

// Help returns the text of --help besides the flags.
func (usersWhy) Help() string {
	return "It prints a line for each write that was applied to the row, and for each that was not, with the reason: " +
		"the newest first, at most 20 of each, from the last 30 days (HISTORY_RETENTION). Before them it says what " +
		"they do not explain, such as a write that a killed process could not note. Times are in UTC. It has names " +
		"of fields, and no values. It asks only the database, and may run beside the service."
}

// whyJSON is what --json prints.
type whyJSON struct {
	UserID    string    `json:"user_id"`
	Version   string    `json:"row_version,omitempty"`
	WrittenAt time.Time `json:"row_written_at,omitzero"`
	DeletedAt time.Time `json:"deleted_at,omitzero"`
	history.Past
	Remarks []history.Remark `json:"remarks,omitempty"`
	Lines   []history.Line   `json:"lines"`
}

// Run says why the row is as it is.
func (c usersWhy) Run(ctx context.Context, e env) error {
	return withRecords(ctx, e, func(r person.Records) error {
		w, err := r.History.Why(ctx, r.Users, string(c.ID))
		switch {
		case errors.Is(err, history.ErrUnknown):
			return fmt.Errorf("%s: %w: there is no row, no tombstone and no history; check the id, and "+
				"'clerksync users show' for events that wait", c.ID, err)
		case err != nil:
			return err
		}
		for i := range w.Remarks {
			if w.Remarks[i].Kind == history.Off {
				w.Remarks[i].Text += ": set HISTORY_RETENTION"
			}
		}
		lines := w.Lines(time.Now())
		if c.JSON {
			all := whyJSON{
				UserID: w.UserID, DeletedAt: w.DeletedAt, Past: w.Past, Remarks: w.Remarks, Lines: lines,
			}
			if w.Row != nil {
				all.Version, all.WrittenAt = w.Row.Version, w.Row.SyncedAt
			}
			return e.json(all)
		}
		for _, l := range lines {
			e.say("%s", oneLine(l.Text))
		}
		return nil
	})
}
