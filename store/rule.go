package store

import (
	"cmp"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"clerksync/clerk"
)

// The version rule, docs/adr/0001-version-rule.md. A version is two times: the newest time anywhere in the user, and
// the time of the event. It is a string that sorts as these do, so that one comparison can guard a write. A write whose
// version is older than the row's is stale; one that is equal is applied again.

// EventTime is when an event happened, as far as it tells.
type EventTime struct {
	Clerk clerk.Millis // by Clerk's clock; 0 where the event has lost that
	// Arrived is when Inngest got it. It orders events that have lost Clerk's time; each of them counts as older than
	// any event that still has it.
	Arrived clerk.Millis
}

// Write is what Clerk said of a user, or, if Deleted is set, that the user with User.ID is deleted.
type Write struct {
	User      clerk.User
	EventTime EventTime
	// AnsweredAt is when Clerk's API had answered, by the later of our clock and Clerk's: no time in the answer can be
	// newer. It is 0 for an event, whose own time says that.
	AnsweredAt clerk.Millis
	Deleted    bool

	overrules string // see Users.Overrule
}

// farAhead is how far in the future a version must be to be wrong and no matter of two clocks; and how much older than
// a question to Clerk a row's event must be for the answer to overrule it: Clerk's lists may lag behind.
const farAhead clerk.Millis = 10 * 60 * 1000

// version returns the version that a write gives to a row. The first half is never newer than the event itself: a time
// from the future would make the row deaf for everything that comes after. It depends on nothing but the event, so that
// a retry makes the same one.
func (w Write) version() string {
	changed := w.User.ChangedAt
	if limit := cmp.Or(w.AnsweredAt, w.EventTime.Clerk, w.EventTime.Arrived); limit != 0 {
		changed = min(changed, endOfSecond(limit))
	}
	v := half(changed) + "." + half(w.EventTime.Clerk)
	if w.EventTime.Clerk == 0 {
		v += "." + half(w.EventTime.Arrived)
	}
	return v
}

// endOfSecond returns the last millisecond that a time can mean: Clerk's specimens and older payloads hold whole
// seconds.
func endOfSecond(t clerk.Millis) clerk.Millis {
	if t%1000 == 0 {
		return t + 999
	}
	return t
}

func half(t clerk.Millis) string { return fmt.Sprintf("%013d", t) }

// isVersion tells whether a text has the form of a version: two times, and a third one where the second is not Clerk's.
var isVersion = regexp.MustCompile(`^\d{13}\.\d{13}(\.\d{13})?$`).MatchString //nolint:gochecknoglobals // a constant

// halves returns the two times of a version: of one that ends with an arrival, that is the second.
func halves(version string) (changed, event clerk.Millis) {
	times := strings.Split(version, ".")
	first, _ := strconv.ParseInt(times[0], 10, 64) // they are digits
	last, _ := strconv.ParseInt(times[len(times)-1], 10, 64)
	return clerk.Millis(first), clerk.Millis(last)
}

// FromFuture tells whether a version begins with a time that is more than ten minutes after now. Such a row would take
// no event until then. now is by the later of our clock and Clerk's.
func FromFuture(version string, now clerk.Millis) bool {
	changed, _ := halves(version)
	return changed > now+farAhead
}

// takes tells whether a row with the version was takes the write, and which version it has then.
func (w Write) takes(was string) (version string, ok bool) {
	version = w.version()
	changed, event := halves(was)
	switch {
	case version >= was:
		return version, true
	case w.overrules != was:
		return "", false
	case FromFuture(was, w.AnsweredAt):
		return version, true
	case event < w.EventTime.Clerk-farAhead:
		// The newest time in the user went down, as it does when an address is removed. Keeping the first half keeps
		// events from before that stale.
		return half(changed) + "." + half(w.EventTime.Clerk), true
	}
	return "", false
}

// plan is what a write makes of a row: what the row will be, and what that is.
type plan struct {
	row     Row
	outcome Outcome
	// raised says of an Unchanged row that Clerk's own time is newer than the row's. Without that time a late older
	// event would win.
	raised bool
}

// plan compares a write, and the user name that it is to have, with the row as it is.
func (w Write) plan(was found, name string) plan {
	version, ok := w.takes(was.Clerk.Version)
	p := plan{row: newRow(w.User, name, version)}
	switch {
	case !was.there:
		p.outcome = Created
	case !ok:
		p.outcome = Stale
	case len(was.differs(p.row)) == 0:
		before, _ := halves(was.Clerk.Version)
		now, _ := halves(version)
		p.outcome, p.raised = Unchanged, before < now || was.Clerk.Version == ""
	default:
		p.outcome = Updated
	}
	return p
}
