package history

import (
	"fmt"
	"strings"
	"time"

	"clerksync/store"
)

// Words says in one line what became of a write, such as "full_name changed by webhook msg_1 at 12:03:11, 0.4 s after
// Clerk". Times are in UTC; those of another day than now have their date. The line has names of fields and ids, and no
// value of a field. Ids come from outside: whoever prints the line on a terminal escapes it.
func (e Entry) Words(now time.Time) string {
	at := clock(e.At, now)
	switch {
	case e.Overruled:
		return fmt.Sprintf("%s at %s, and overruled later: its version was newer than anything that Clerk said",
			e.did(), at)
	case e.Outcome == store.Stale:
		return fmt.Sprintf("stale: %s%s came at %s; the row was newer already", e.by(), e.of(now), at)
	case e.Outcome == store.Deleted && !e.isDeletion():
		return fmt.Sprintf("not applied, because the user is deleted: %s%s came at %s", e.by(), e.of(now), at)
	case e.Again && e.isDeletion():
		return fmt.Sprintf("%s before %s%s: what deleted the user first was cut off before it was noted", e.did(), at,
			e.after())
	case e.Again:
		return fmt.Sprintf("written by %s before %s%s: which fields changed is not known, because the first try was "+
			"cut off before it was noted", e.by(), at, e.after())
	}
	return fmt.Sprintf("%s at %s%s", e.did(), at, e.after())
}

// did says what an entry that was applied did.
func (e Entry) did() string {
	switch {
	case e.isDeletion():
		return "deleted by " + e.by()
	case e.Outcome == store.Created:
		return "created by " + e.by()
	case len(e.Fields) == 0:
		return "confirmed by " + e.by() + ", no field changed,"
	}
	return strings.Join(e.Fields, ", ") + " changed by " + e.by()
}

// isDeletion tells a deletion from a write that was not applied because of one.
func (e Entry) isDeletion() bool { return strings.HasSuffix(e.Version, deletion) }

// by names what asked for the write.
func (e Entry) by() string {
	names := map[string]string{
		"webhook": "webhook", "replay": "the replay of webhook", "integration": "Inngest's Clerk integration",
		"recent": "the recent tier of reconcile", "absent": "the absent tier of reconcile",
		"full": "the full tier of reconcile", "backfill": "the backfill", "ensure": "users ensure",
		"restore": "users restore", "erase": "users erase", "": "something that gave no name",
	}
	by, known := names[e.Source]
	if !known {
		by = e.Source
	}
	if e.SourceID != "" {
		by += " " + e.SourceID
	}
	return by
}

// of says when Clerk had what came too late.
func (e Entry) of(now time.Time) string {
	if e.ClerkAt.IsZero() {
		return ""
	}
	return " of " + clock(e.ClerkAt, now)
}

// after says how long after Clerk's change the write was noted. Of a backfill or a repair of old rows, that says
// nothing.
func (e Entry) after() string {
	late := e.At.Sub(e.ClerkAt)
	soon := e.Source == "webhook" || e.Source == "replay" || e.Source == "integration" || e.Source == "recent"
	if !soon || e.ClerkAt.IsZero() || late < 0 {
		return ""
	}
	return ", " + span(late) + " after Clerk"
}

// span is a duration in the unit that fits it.
func span(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%.0f min", d.Minutes())
	case d < 48*time.Hour:
		return fmt.Sprintf("%.0f h", d.Hours())
	}
	return fmt.Sprintf("%.0f days", d.Hours()/24)
}

// clock is a time of the day, with its date if that is another day than now's.
func clock(t, now time.Time) string {
	if t = t.UTC(); t.Format(time.DateOnly) == now.UTC().Format(time.DateOnly) {
		return t.Format(time.TimeOnly)
	}
	return t.Format(time.DateTime)
}
