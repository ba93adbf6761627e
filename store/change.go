package store

import (
	"cmp"
	"context"
	"errors"
	"time"
)

// Source says what asked for a write.
type Source struct {
	// Kind is webhook, replay (of a webhook that was a dead letter), integration (Inngest's own with Clerk), the name
	// of a tier of reconcile (recent, absent, full or backfill), ensure, restore, erase, or "" if nothing has said it.
	Kind string
	ID   string // the svix-id of the webhook, or Inngest's id of an event of the integration; "" if there is none
}

// Change says what a write did to a user, for whoever watches.
type Change struct {
	UserID  string
	Source  Source
	Outcome Outcome
	// Deletion says that the write was a deletion. If it was none, the outcome Deleted says that it was not applied.
	Deletion bool
	// Version is the one that the row has now, or, if the write was not applied, the one that it would have given to
	// the row. It is "" for a deletion.
	Version string
	Was     string   // the row's version before; "" if there was no row, none of clerksync's, or if this is a deletion
	Fields  []string // the names of the fields that changed, or, if the write is stale, of those that differ
	// Again says that the row had this version before, or the user this tombstone: an earlier try of the same write has
	// done it, or another event that says the same. Then Fields are not those that the earlier try changed.
	Again   bool
	EventAt time.Time // when it happened, by Clerk's clock; the zero time if nothing says so
}

// Applied tells whether the write was done to the row.
func (c Change) Applied() bool { return c.Deletion || c.Outcome != Stale && c.Outcome != Deleted }

// Watch makes Write call f with what it has done, once for each part of a list of writes, after the rows are written
// and before Write returns. A write that found the row right, and so wrote nothing, is not told. If f fails, its error
// is that of each write that it was told, so that they are repeated. Call Watch before the first write.
func (s *Users) Watch(f func(context.Context, []Change) error) { s.watch = f }

// tell calls the watcher with the writes that have been done.
func (b *bulk) tell(ctx context.Context) {
	if b.watch == nil || b.mode == DryRun {
		return
	}
	var changes []Change
	var of []*Result
	for _, a := range b.attempts {
		// If only the look for the tombstone has failed after the write, the row is written all the same.
		if c := a.change(); c.Outcome != "" && (a.result.Err == nil || a.done) {
			changes, of = append(changes, c), append(of, a.result)
		}
	}
	if len(changes) == 0 {
		return
	}
	if err := b.watch(ctx, changes); err != nil {
		for _, r := range of {
			r.Err = errors.Join(r.Err, err)
		}
	}
}

// change returns what the attempt did; its outcome is "" if it did nothing and was not refused either.
func (a *attempt) change() Change {
	c := Change{
		UserID: a.User.ID, Source: a.Source, Outcome: a.result.Outcome, Deletion: a.Deleted, Again: a.again,
		EventAt: cmp.Or(a.EventTime.Clerk, a.User.ChangedAt).Time(),
	}
	if a.AnsweredAt != 0 { // then the other time is when Clerk was asked
		c.EventAt = a.User.ChangedAt.Time()
	}
	if a.Deleted {
		return c
	}
	c.Version, c.Was = a.version(), a.was
	for _, f := range a.result.Fields {
		c.Fields = append(c.Fields, f.Name)
	}
	switch {
	case !c.Applied():
	case a.done:
		c.Version = a.sent.state.Version
		c.Again = c.Version == c.Was
	default:
		c.Outcome = ""
	}
	return c
}
