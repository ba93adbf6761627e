package store

import (
	"cmp"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"clerksync/clerk"
)

// The version rule, docs/adr/0001-version-rule.md. A version consists of two times: the newest time anywhere in the
// user, and the time of the event. It is a string that sorts as these times do, so that one comparison can guard a
// write. A write whose version is older than the row's is stale. A write whose version equals the row's is applied
// again.

// EventTime is when an event happened, as far as the event says so.
type EventTime struct {
	Clerk clerk.Millis // by Clerk's clock; 0 if the event no longer has this time
	// Arrived is when Inngest received the event. It orders the events that no longer have Clerk's time. Each of these
	// counts as older than any event that has it.
	Arrived clerk.Millis
}

// Write is what Clerk said about a user. If Deleted is set, it says that the user with User.ID is deleted.
type Write struct {
	User      clerk.User
	EventTime EventTime
	// AnsweredAt is when Clerk's API had answered, by the later of our clock and Clerk's, so no time in the answer can
	// be newer. It is 0 for an event, because no time in an event can be newer than the event's own time.
	AnsweredAt clerk.Millis
	Deleted    bool
	Source     Source

	overrules string // see Users.Overrule
}

// farAhead has two uses. A version that is further in the future than this is wrong, because two clocks do not differ
// by so much. And an answer of Clerk's API overrules a row only if the row's event is older than the question by more
// than this, because Clerk's lists may lag behind.
const farAhead clerk.Millis = 10 * 60 * 1000

// version returns the version that a write gives to a row. Its first half is never newer than the event itself: with a
// time from the future, the row would ignore all later events. The version depends on the write alone, so a retry makes
// the same version.
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

// endOfSecond returns the last millisecond that a time can mean: in Clerk's examples and older payloads times are whole
// seconds.
func endOfSecond(t clerk.Millis) clerk.Millis {
	if t%1000 == 0 {
		return t + 999
	}
	return t
}

func half(t clerk.Millis) string { return fmt.Sprintf("%013d", t) }

// isVersion tells whether a text has the form of a version: two times, and a third one, the arrival, if the second is
// 0.
var isVersion = regexp.MustCompile(`^\d{13}\.\d{13}(\.\d{13})?$`).MatchString //nolint:gochecknoglobals // a constant

// halves returns the two times of a version. If the version ends with an arrival, that is the second time.
func halves(version string) (changed, event clerk.Millis) {
	times := strings.Split(version, ".")
	first, _ := strconv.ParseInt(times[0], 10, 64) // they are digits
	last, _ := strconv.ParseInt(times[len(times)-1], 10, 64)
	return clerk.Millis(first), clerk.Millis(last)
}

// FromFuture tells whether a version begins with a time that is more than ten minutes after now. A row with such a
// version would ignore all events until that time. For now, pass the later of our clock and Clerk's.
func FromFuture(version string, now clerk.Millis) bool {
	changed, _ := halves(version)
	return changed > now+farAhead
}

// takes tells whether the write may be done to a row that has the version in was, and which version the row has then.
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
		// The newest time in the user is older than before, as happens when an address is removed. The first half
		// stays, so that events from before the removal stay stale.
		return half(changed) + "." + half(w.EventTime.Clerk), true
	}
	return "", false
}

// plan compares a write, and the user name that the row is to get, with the row as it was read. It returns what the
// row will be, and what the write does to it. The error is ErrUnfit.
func (s *Users) plan(w Write, was found, name string) (planned, Outcome, error) {
	version, ok := w.takes(was.state.Version)
	p := planned{state: s.newState(w.User, version)}
	var err error
	p.values, err = s.fields.Values(w.User, name, p.state.SyncedAt, !was.there, p.state.values()...)
	if err == nil && was.there {
		p.differs = s.fields.Differences(was.raw, p.values)
	}
	switch {
	case !was.there:
		return p, Created, unfit(err)
	case !ok: // then nothing is written, whatever the error
		return p, Stale, nil
	case len(p.differs) == 0:
		return p, Unchanged, unfit(err)
	}
	return p, Updated, nil
}

// raises tells whether a new version has a newer first half than the version in was, or is the row's first version. If
// an Unchanged row did not get such a version, an older event that arrives late would overwrite the row.
func raises(was, version string) bool {
	before, _ := halves(was)
	now, _ := halves(version)
	return before < now || was == ""
}
