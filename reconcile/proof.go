package reconcile

import "time"

// Proof says what the runs prove about the rows: that every change of a kind that Clerk made before a time is in the
// rows. The zero time means that nothing is proven.
//
// What a run proves rests on four things. Clerk's lists show a change at most a minute after it was made, less what our
// clock is ahead of Clerk's (settle; older clocks than that are the doctor's). A run that ended without an error has
// listed every user, or every user changed in its time: pages overlap, and the full tier compares their number with
// Clerk's. The rows were written by the same map as now. And nobody but clerksync writes its fields: what others write
// into them is found by the full tier only.
//
// Not counted are users with a tombstone (here they are deleted for good, whatever Clerk has; see Buried) and rows that
// clerksync has never written (see Unknown).
type Proof struct {
	// Changes are those that move a user's time at Clerk. A run of the recent tier has seen those that were a minute
	// old when it began, back to SeenSince; those before that were seen by a full run or a backfill. If a user could
	// not be read or written, the run proves nothing, because it does not say whose changes are missing.
	Changes time.Time
	// Deletions are those of users who had a row. A run of the absent or the full tier has asked for every row when it
	// began, other than users younger than ten minutes (Newborn). It proves nothing if the brake held it, for then it
	// failed. If an event from before the deletion comes after the run, the row is back until the deletion's own event
	// comes or the next run: nobody can know better.
	Deletions time.Time
	// All are all changes, those too that move no time, and what others have written into the rows. Only a full run
	// sees them. It begins with the deletions, so that they are what it proves least of.
	All time.Time
	// Listed is as All, without deletions and without rows whose version is wrong: a backfill sees those changes too.
	Listed time.Time
	Buried int // how many users Clerk has who have a tombstone, by the last full run
}

// Proof returns what the runs prove for rows that are written by this map, see store.Users.MapID. It leaves out runs
// that began after now, because the clock of their machine was wrong.
func (s Status) Proof(mapID string, now time.Time) (p Proof) {
	ended := func(r Run) bool { return r.ended() && r.Map == mapID && !r.StartedAt.After(now.Add(clocks)) }
	wroteAll := func(r Run) bool { return ended(r) && r.wroteAll() }
	full, hasFull := last(s.Runs[Full], wroteAll)
	if hasFull {
		p.All, p.Listed = full.StartedAt.Add(-Newborn), full.StartedAt.Add(-settle)
	}
	if b := s.Backfill; wroteAll(b) {
		p.Listed = later(p.Listed, b.StartedAt.Add(-settle))
	}
	p.Changes = p.Listed
	recent, ok := last(s.Runs[Recent], func(r Run) bool { return wroteAll(r) && !r.Moving })
	if ok && !recent.SeenSince.IsZero() && !recent.SeenSince.After(p.Listed) {
		p.Changes = later(p.Changes, recent.StartedAt.Add(-settle))
	}
	for _, t := range []Tier{Absent, Full} { // a user who cannot be read is not deleted
		if run, ok := last(s.Runs[t], ended); ok {
			p.Deletions = later(p.Deletions, run.StartedAt.Add(-Newborn))
			p.Buried = run.Found.Buried // of the full run, because it is the last one
		}
	}
	return p
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
