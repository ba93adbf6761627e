package freshness

import (
	"context"
	"fmt"
	"time"

	"clerksync/inbox"
	"clerksync/reconcile"
	"clerksync/store/database"
)

// DocumentName is the _id of the report in clerksync_state.
const DocumentName = "freshness"

// State says whether something is known of a kind of changes.
type State string

// The states.
const (
	Off      State = "off"      // nobody looks for such changes: there is no Clerk key, or the tier is off
	Unproven State = "unproven" // no run has proven anything yet
	Proven   State = "proven"
)

// Scope is what is known of one kind of changes at Clerk.
type Scope struct {
	State State `bson:"state" json:"state"`
	// Until is the time before which every such change is in the rows; the zero time unless State is Proven.
	Until time.Time `bson:"until,omitempty" json:"until,omitzero"`
	// TargetSeconds is how old the oldest change that is not in the rows may become.
	TargetSeconds int64 `bson:"target_seconds,omitempty" json:"target_seconds,omitempty"`
}

// Target returns TargetSeconds as a duration.
func (s Scope) Target() time.Duration { return time.Duration(s.TargetSeconds) * time.Second }

// Age returns how old the oldest change may be that is not in the rows. ok is false if that is not known.
func (s Scope) Age(now time.Time) (age time.Duration, ok bool) {
	if s.State != Proven {
		return 0, false
	}
	return max(now.Sub(s.Until), 0), true
}

// Late tells whether such a change may be older than the target, or nothing is proven although somebody looks.
func (s Scope) Late(now time.Time) bool {
	age, known := s.Age(now)
	return s.State == Unproven || known && age > s.Target()
}

// Report tells an app whether it may trust the collection, and why not. It is in the database too, see DocumentName;
// docs/freshness.md describes its fields, which stay as they are.
type Report struct {
	At      time.Time `bson:"at"              json:"at"`             // when it was made
	Trusted bool      `bson:"trusted"         json:"trusted"`        //
	Since   time.Time `bson:"since,omitempty" json:"since,omitzero"` // trusted since then
	Reasons []string  `bson:"reasons"         json:"reasons"`        // why not, and what to do: a line each
	// Changes move a user's time at Clerk or came by a webhook, Deletions are of users who had a row, and All are all,
	// those too that move no time.
	Changes   Scope `bson:"changes"   json:"changes"`
	Deletions Scope `bson:"deletions" json:"deletions"`
	All       Scope `bson:"all"       json:"all"`
	Buried    int   `bson:"buried"    json:"buried"` // see reconcile.Buried
	// Waiting and Dead are since when the oldest event waits, and the oldest dead letter is there, that may not be in
	// the rows.
	Waiting time.Time `bson:"waiting,omitempty" json:"waiting,omitzero"`
	Dead    time.Time `bson:"dead,omitempty"    json:"dead,omitzero"`
}

// maxAge is how old the report of a running service may be, which makes one every half minute.
const maxAge = 2 * time.Minute

// Old tells whether the report is so old that no service runs, or that its database does not answer.
func (r Report) Old(now time.Time) bool { return now.Sub(r.At) > maxAge }

// Off tells whether nobody compares the rows with Clerk.
func (r Report) Off() bool {
	return r.Changes.State == Off && r.Deletions.State == Off && r.All.State == Off
}

// Read returns the report that was saved last, by any process, and whether there is one.
func Read(ctx context.Context, state database.Checkpoints) (r Report, there bool, err error) {
	there, err = state.Load(ctx, DocumentName, &r)
	return r, there, err
}

// known is what the database says at a time.
type known struct {
	proof     reconcile.Proof
	unwritten inbox.Unwritten
}

// report returns the report of what is known.
//
// Changes: all that moved a user's time before k.proof.Changes are in the rows. A new address moves no time, and a
// deletion does not either, but the inbox knows those of them that a webhook has brought and that are not written yet.
// Until the webhook came, nobody here knew of the change, so it counted for All or Deletions. So Changes is the earlier
// of the two. Events that came before all rows were compared are left out (see inbox.Unwritten): their changes are in
// the rows, or the rows are newer.
func (f *Freshness) report(k known, now time.Time) Report {
	scope := func(target time.Duration, until time.Time) Scope {
		switch {
		case target == 0:
			return Scope{State: Off}
		case until.IsZero():
			return Scope{State: Unproven, TargetSeconds: int64(target.Seconds())}
		}
		return Scope{State: Proven, Until: until, TargetSeconds: int64(target.Seconds())}
	}
	r := Report{
		At: now, Reasons: []string{}, Buried: k.proof.Buried, Waiting: k.unwritten.Waiting, Dead: k.unwritten.Dead,
		Deletions: scope(f.Targets.Deletions, k.proof.Deletions), All: scope(f.Targets.All, k.proof.All),
	}
	changes := k.proof.Changes
	for _, at := range []time.Time{r.Waiting, r.Dead} {
		if !at.IsZero() && at.Before(changes) {
			changes = at
		}
	}
	r.Changes = scope(f.Targets.Changes, changes)
	r.Reasons = append(r.Reasons, r.reasons(now, k.proof)...)
	r.Trusted = len(r.Reasons) == 0
	return r
}

// reasons returns why an app may not trust the rows.
func (r Report) reasons(now time.Time, proof reconcile.Proof) (all []string) {
	add := func(is bool, format string, args ...any) {
		if is {
			all = append(all, fmt.Sprintf(format, args...))
		}
	}
	if r.Off() {
		return []string{"nothing is compared with Clerk: set its secret key, and let the tiers run"}
	}
	changes, inTheInbox := r.Changes, false
	for _, e := range []struct {
		at   time.Time
		text string
	}{
		{r.Waiting, "an event waits since %s: the functions do not run, see 'clerksync doctor'"},
		{r.Dead, "a dead letter is there since %s: see 'clerksync deadletters list'"},
	} {
		if !e.at.IsZero() && now.Sub(e.at) > changes.Target() {
			inTheInbox = true
			add(true, e.text, stamp(e.at))
		}
	}
	add(changes.State == Off, "the recent tier is off: let it run")
	add(proof.Listed.IsZero(), "not all users were compared with Clerk: run 'clerksync backfill', "+
		"or wait for the full run of the night")
	add(changes.State == Proven && changes.Late(now) && !inTheInbox, "changes since %s may be missing: no recent run "+
		"has succeeded for all users since, see 'clerksync doctor'; 'clerksync reconcile' compares all",
		stamp(changes.Until))
	add(r.Deletions.State == Off, "no tier removes the deleted: let the absent tier run")
	add(r.Deletions.State == Unproven, "the absent run has not succeeded yet: wait for it, an hour at most")
	add(r.Deletions.State == Proven && r.Deletions.Late(now), "deletions since %s may be missing: the absent run does "+
		"not succeed, see 'clerksync doctor'", stamp(r.Deletions.Until))
	add(r.All.State == Off, "the full tier is off: let it run")
	add(r.All.State == Unproven && !proof.Listed.IsZero(), "the full run has not succeeded yet: run 'clerksync "+
		"reconcile', or wait for the night")
	add(r.All.State == Proven && r.All.Late(now), "the full run has not succeeded since %s: see 'clerksync doctor'",
		stamp(r.All.Until))
	return all
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 MST") }
