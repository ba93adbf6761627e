package store

import (
	"context"
	"time"
)

// Source says what asked for a write.
type Source struct {
	Kind string // such as "webhook", "integration", "backfill", or the name of a tier
	ID   string // the svix-id of the webhook; "" if there is none
}

// Change says what a write did to a user, for whoever watches.
type Change struct {
	UserID  string
	Source  Source
	Outcome Outcome
	Version string    // of the write; "" for a deletion
	Was     string    // the row's version before; "" if there was no row, or none that clerksync had written
	Fields  []string  // the names of the fields that changed, or, if the write is stale, of those that differ
	EventAt time.Time // when Clerk says that it happened; the zero time if nothing says so
}

// Watch makes Write call f with what it has done, once for each part of a list of writes, after the rows are written
// and before Write returns. If f fails, its error is that of each write of the part, so that they are repeated. Call
// Watch before the first write.
func (s *Users) Watch(f func(context.Context, []Change) error) { s.watch = f }

// tell calls the watcher with the writes that have been done.
func (b *bulk) tell(ctx context.Context) {
	if b.watch == nil || b.mode == DryRun {
		return
	}
	var changes []Change
	var of []*Result
	for i, w := range b.writes {
		r := &b.results[i]
		if r.Err != nil || r.Outcome == "" {
			continue
		}
		c := Change{
			UserID: w.User.ID, Source: w.Source, Outcome: r.Outcome, Was: r.Version, EventAt: w.EventTime.Clerk.Time(),
		}
		if !w.Deleted {
			c.Version = w.version()
		}
		for _, f := range r.Fields {
			c.Fields = append(c.Fields, f.Name)
		}
		changes, of = append(changes, c), append(of, r)
	}
	if len(changes) == 0 {
		return
	}
	if err := b.watch(ctx, changes); err != nil {
		for _, r := range of {
			r.Err = err
		}
	}
}
