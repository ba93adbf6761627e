package history

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"clerksync/store"
)

// Why says why the row of a user is as it is.
type Why struct {
	UserID    string
	Row       *store.State // nil if there is no row
	DeletedAt time.Time    // of the tombstone; the zero time if there is none
	Past
	// Remarks say what the entries alone do not: that the user is deleted, that the row is the app's, and where the
	// entries do not explain the row.
	Remarks []Remark
}

// Remark is a line of Why.
type Remark struct {
	Kind RemarkKind `json:"kind"`
	Text string     `json:"text"`
}

// RemarkKind says what a remark is about.
type RemarkKind string

// The kinds of remarks.
const (
	// Gap is a write that the row shows and the history has not: the process was killed between the two.
	Gap       RemarkKind = "gap"
	Off       RemarkKind = "off"       // nothing is noted
	TooOld    RemarkKind = "too_old"   // the row was written before the oldest entry that is kept
	RowOlder  RemarkKind = "row_older" // the row is older than the history
	NoRow     RemarkKind = "no_row"    // there is no row, and nothing has deleted the user
	Gone      RemarkKind = "deleted"   // the user is deleted
	NotOurs   RemarkKind = "not_ours"  // clerksync has never written the row
	Unnoticed RemarkKind = "unnoticed" // a row is there although a deletion was noted last
)

// ErrUnknown says that there is no row, no tombstone and no entry of a user.
var ErrUnknown = errors.New("nothing is known of this user")

// Why returns what is known of a user. The error is ErrUnknown if that is nothing.
func (h *History) Why(ctx context.Context, users *store.Users, id string) (Why, error) {
	w := Why{UserID: id}
	var err error
	// The history first: what is noted between the two reads makes the row newer than the history, as a write does
	// whose entry is on its way. Reading it once more tells that from a gap.
	for range 2 {
		if w, err = h.look(ctx, users, id); err != nil || !slices.ContainsFunc(w.Remarks, isGap) {
			break
		}
	}
	if err == nil && w.Row == nil && w.DeletedAt.IsZero() && w.Empty() {
		err = ErrUnknown
	}
	return w, err
}

// unnoted ends the text of a Gap.
const unnoted = ": the process was killed before it could note it, or the history was off then"

func isGap(r Remark) bool { return r.Kind == Gap }

func (h *History) look(ctx context.Context, users *store.Users, id string) (w Why, err error) {
	w.UserID = id
	if w.Past, err = h.Get(ctx, id); err != nil {
		return w, err
	}
	switch row, err := users.Get(ctx, id); {
	case err == nil:
		w.Row = &row.Clerk
	case !errors.Is(err, store.ErrNotFound):
		return w, err
	}
	var dead bool
	if w.DeletedAt, dead, err = users.DeletedAt(ctx, id); err != nil {
		return w, err
	}
	if dead && w.DeletedAt.IsZero() { // a tool has damaged its time
		w.DeletedAt = time.Unix(0, 0).UTC()
	}
	w.Remarks = w.remarks(time.Now(), h.Retention)
	return w, nil
}

// remarks compares the newest entries with the row and the tombstone.
func (w Why) remarks(now time.Time, retention time.Duration) (all []Remark) {
	add := func(kind RemarkKind, text string) { all = append(all, Remark{kind, text}) }
	if retention == 0 {
		add(Off, "the history is off, so what is written is not noted")
	}
	last := w.last()
	deleted := last != nil && last.isDeletion()
	switch {
	case !w.DeletedAt.IsZero():
		w.ofDeleted(add, now, retention, deleted)
	case w.Row == nil && last != nil && !deleted:
		add(NoRow, "there is no row, and no tombstone either: somebody has removed the row, or the database is that "+
			"of a backup")
	case w.Row == nil && deleted:
		add(NoRow, "there is no row, and no tombstone any more: an event could make the row again")
	case w.Row == nil:
	case w.Row.Version == "":
		add(NotOurs, "the row is the app's: clerksync has never written it")
	default:
		w.ofRow(add, now, retention, last)
	}
	return append(all, w.between(now)...)
}

// last returns the entry with the newest version that was applied; nil if there is none.
func (w Why) last() *Entry {
	if len(w.Applied) == 0 {
		return nil
	}
	return &w.Applied[0]
}

func (w Why) ofDeleted(add func(RemarkKind, string), now time.Time, retention time.Duration, noted bool) {
	add(Gone, "the user is deleted, since "+clock(w.DeletedAt, now)+"; no event brings the row back")
	if w.Row != nil {
		add(Gone, "a row is there all the same: the nightly clean-up removes it")
	}
	switch {
	case noted || retention == 0:
	case now.Sub(w.DeletedAt) > retention:
		add(TooOld, "that is longer ago than the history goes back")
	case w.Empty():
		// After users erase that is as it has to be: nothing that is repeated makes a document then.
		add(Gone, "the history has nothing of the user: it was erased, or off, or the process that deleted the "+
			"user was killed before it could note it")
	default:
		add(Gap, "what deleted the user is not noted"+unnoted)
	}
}

// ofRow compares the row, which clerksync has written, with the last entry.
func (w Why) ofRow(add func(RemarkKind, string), now time.Time, retention time.Duration, last *Entry) {
	written := clock(w.Row.SyncedAt, now)
	switch {
	case w.explained():
	case retention > 0 && now.Sub(w.Row.SyncedAt) > retention:
		add(TooOld, "the row was last written at "+written+", which is longer ago than the history goes back")
	case last != nil && last.isDeletion() && last.Version > w.Row.Version:
		add(Unnoticed, "a deletion is the last that is noted, and the row of "+written+" is older: the database is "+
			"that of a backup, or somebody has put the row back")
	case last != nil && last.Version > w.Row.Version:
		add(RowOlder, "the row, of "+written+", is older than the history: the database is that of a backup, or "+
			"somebody has put the row back")
	case retention == 0:
	default:
		add(Gap, "the row was last written at "+written+", and what wrote it is not noted"+unnoted)
	}
}

// explained tells whether the entry that was applied last is the row's. Deletions from before its event may have a
// newer version: a user who is restored has the time of the last change, which may be older than the deletion.
func (w Why) explained() bool {
	_, event, _ := strings.Cut(w.Row.Version, ".")
	for _, e := range w.Applied {
		if e.Version == w.Row.Version || !e.isDeletion() || e.Version > event {
			return e.Version == w.Row.Version
		}
	}
	return false
}

// between finds entries before which a write is missing: the row's version before is none that is noted.
func (w Why) between(now time.Time) (all []Remark) {
	for i := range len(w.Applied) - 1 { // of the oldest one nobody knows what was before
		e := w.Applied[i]
		isBefore := func(o Entry) bool { return o.Version == e.Was }
		wasBefore := func(o Entry) bool { return isBefore(o) && o.Overruled }
		if e.Was == "" || slices.ContainsFunc(w.Applied, isBefore) || slices.ContainsFunc(w.Skipped, wasBefore) {
			continue
		}
		all = append(all, Remark{Gap, "before " + clock(e.At, now) + " there was a write that is not noted" + unnoted})
	}
	return all
}

// Line is one line of the story of a user.
type Line struct {
	At   time.Time `json:"at,omitzero"` // the zero time of a remark
	Text string    `json:"text"`
}

// Lines tells all of it in words: the remarks first, then the entries, the newest first.
func (w Why) Lines(now time.Time) []Line {
	var lines []Line
	for _, e := range slices.Concat(w.Applied, w.Skipped) {
		lines = append(lines, Line{e.At, e.Words(now)})
	}
	slices.SortStableFunc(lines, func(a, b Line) int { return b.At.Compare(a.At) })
	remarks := make([]Line, 0, len(w.Remarks)+len(lines))
	for _, r := range w.Remarks {
		remarks = append(remarks, Line{Text: r.Text})
	}
	return append(remarks, lines...)
}
