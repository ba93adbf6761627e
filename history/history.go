// Package history remembers for each user which writes were applied to the row, and which were not and why: when, by
// what, with which version, and the names of the fields that changed. It never has a value of a field. It watches
// store.Users, which knows nothing of it.
package history

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"clerksync/store"
	"clerksync/store/database"

	"go.mongodb.org/mongo-driver/v2/bson"
)

const (
	// keep is how many entries of each of the two lists a user has.
	keep = 20
	// deletion is how the version of a deletion ends, which has the time twice before that.
	deletion = ".deleted"
	// maxOwed bounds how many entries wait in memory for a database that does not take them, and owedAtOnce how many of
	// them one Record tries again.
	maxOwed    = 5000
	owedAtOnce = 200
)

// Entry is one write that was applied to a user, or was not.
type Entry struct {
	// Version is the one that the row got, or would have got, see store.Change. Of a deletion, which has none, it is
	// made of the time, so that the lists can be sorted by it.
	Version  string        `bson:"version" json:"version"`
	Was      string        `bson:"was,omitempty" json:"version_before,omitempty"` // the row's; "" if it had none
	Outcome  store.Outcome `bson:"outcome" json:"outcome"`
	Source   string        `bson:"source" json:"source"`                           // store.Source.Kind
	SourceID string        `bson:"source_id,omitempty" json:"source_id,omitempty"` // store.Source.ID
	At       time.Time     `bson:"at" json:"at"`                                   // when it was noted, after the write
	ClerkAt  time.Time     `bson:"clerk_at,omitempty" json:"clerk_at,omitzero"`    // by Clerk's clock; or zero
	Fields   []string      `bson:"fields,omitempty" json:"fields,omitempty"`       // that changed, by name
	// Again says that the write was done before and nobody had noted it; by what, and which fields it changed, is not
	// known for sure.
	Again bool `bson:"again,omitempty" json:"again,omitempty"`
	// Overruled says of an entry that was not applied that it was at first: its version was wrong, so Clerk's answer
	// was written although it had an older one.
	Overruled bool `bson:"overruled,omitempty" json:"overruled,omitempty"`
}

// Past is what is remembered of a user, in both lists the newest version first.
type Past struct {
	Applied []Entry `bson:"applied" json:"applied,omitempty"`
	Skipped []Entry `bson:"skipped" json:"not_applied,omitempty"` // what was not applied
}

// Empty tells whether nothing is remembered.
func (p Past) Empty() bool { return len(p.Applied)+len(p.Skipped) == 0 }

// History is the collection clerksync_history, with one document for each user. It is safe for concurrent use.
type History struct {
	// Retention is how long an entry is kept. With 0 nothing is noted.
	Retention time.Duration

	rows *database.Collection
	log  *slog.Logger

	mu     sync.Mutex
	owed   map[string]database.Push // entries that the database has not taken yet, by user and version
	logged map[string]bool          // the texts of errors that were logged
}

// New returns the history in db. Call Setup once before the first Record.
func New(db *database.DB, retention time.Duration, log *slog.Logger) *History {
	return &History{
		Retention: retention, rows: db.Collection("clerksync_history"), log: log,
		owed: map[string]database.Push{}, logged: map[string]bool{},
	}
}

// indexes: MongoDB removes a document when its newest entry is too old; Forget finds those with one that is.
func (h *History) indexes() []database.Index {
	if h.Retention == 0 {
		return nil
	}
	return []database.Index{{Field: "expires_at", TTL: time.Second}, {Field: "oldest"}}
}

// Setup makes the indexes. It may be called again. If nothing is noted, it does nothing. An error that will not pass,
// such as a login that may not write this collection, is logged: it stops no service.
func (h *History) Setup(ctx context.Context) error {
	for _, ix := range h.indexes() {
		switch err := h.rows.EnsureIndex(ctx, ix); {
		case err == nil:
		case database.WorthRepeating(err):
			return err
		default:
			h.warn(ctx, err)
		}
	}
	return nil
}

// LacksIndex tells whether Setup has something to do.
func (h *History) LacksIndex(ctx context.Context) (bool, error) {
	for _, ix := range h.indexes() {
		if lacks, err := h.rows.LacksIndex(ctx, ix); lacks || err != nil {
			return lacks, err
		}
	}
	return false, nil
}

// Record notes what writes did, in one command of the database. It is for store.Users.Watch. It returns only errors
// that may pass, so that the write is repeated; until then the entries wait in memory for the next call. An error that
// will not pass is logged, each text once, and stops no row.
func (h *History) Record(ctx context.Context, changes []store.Change) error {
	if h.Retention == 0 {
		return nil
	}
	var errs []error
	for _, c := range changes {
		if c.Applied() && !c.Deletion && c.Was > c.Version {
			errs = append(errs, h.overrule(ctx, c))
		}
	}
	pushes := h.pushes(changes, time.Now().UTC().Truncate(time.Millisecond))
	for i, err := range h.rows.PushEach(ctx, database.Lists{By: "version", Keep: keep}, pushes) {
		h.owe(pushes[i], err != nil && database.WorthRepeating(err))
		errs = append(errs, err)
	}
	var passing error
	for _, err := range errs {
		switch {
		case err == nil:
		case database.WorthRepeating(err):
			passing = fmt.Errorf("note what was written in %s: %w", h.rows.Name(), err)
		default:
			h.warn(ctx, err)
		}
	}
	return passing
}

// Flush notes all that is owed; call it at the end. If the database does not take it, it gives up.
func (h *History) Flush(ctx context.Context) error {
	for h.owes() {
		if err := h.Record(ctx, nil); err != nil {
			return err
		}
	}
	return nil
}

func (h *History) owes() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.owed) > 0
}

// warn logs an error whose text was not logged before. The texts of errors of the database are few and quote no value.
func (h *History) warn(ctx context.Context, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if text := err.Error(); !h.logged[text] {
		h.logged[text] = true
		h.log.ErrorContext(ctx, "the history cannot be written, so it has gaps; rows are not affected. This is "+
			"logged once",
			"collection", h.rows.Name(), "error", err)
	}
}

// owe remembers a push that the database has not taken, or forgets one that it has.
func (h *History) owe(p database.Push, owed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch _, has := h.owed[key(p)]; {
	case !owed:
		delete(h.owed, key(p))
	case !has && len(h.owed) < maxOwed:
		h.owed[key(p)] = p
	}
}

func key(p database.Push) string {
	return p.ID + " " + p.List + " " + database.Text(p.Entry, "version")
}

// pushes returns the entries of the changes and some that are owed. If the entry of a change is owed, that one is
// taken: the change is then its repetition, which does not know which fields changed.
func (h *History) pushes(changes []store.Change, now time.Time) []database.Push {
	var all []database.Push
	h.mu.Lock()
	defer h.mu.Unlock()
	taken := map[string]bool{}
	for _, c := range changes {
		p := h.push(c, now)
		if owed, has := h.owed[key(p)]; has {
			p = owed
		}
		if taken[key(p)] {
			continue
		}
		taken[key(p)] = true
		all = append(all, p)
	}
	for k, p := range h.owed {
		if len(all) >= len(changes)+owedAtOnce {
			break
		}
		if !taken[k] {
			all = append(all, p)
		}
	}
	// What makes a document comes before what only adds to one, and what was applied before its repetition.
	rank := map[bool]int{true: 1}
	slices.SortStableFunc(all, func(a, b database.Push) int {
		return cmp.Or(cmp.Compare(rank[a.There], rank[b.There]), cmp.Compare(a.List, b.List))
	})
	return all
}

// push returns how the entry of a change gets into the user's document. An entry is in the document once, whatever is
// repeated. What is about a deleted user, but for the deletion itself, makes no document: after users erase it would
// bring back what was erased.
func (h *History) push(c store.Change, now time.Time) database.Push {
	e := Entry{
		Version: c.Version, Was: c.Was, Outcome: c.Outcome, Source: c.Source.Kind, SourceID: c.Source.ID, At: now,
		ClerkAt: c.EventAt, Again: c.Again,
	}
	if c.Applied() && !c.Again {
		e.Fields = c.Fields
	}
	p := database.Push{
		ID: c.UserID, List: "applied", There: c.Outcome == store.Deleted && (c.Again || !c.Deletion),
		Set: bson.D{{Key: "expires_at", Value: now.Add(h.Retention)}},
		New: bson.D{{Key: "oldest", Value: now}},
	}
	if c.Deletion {
		at := now
		if !c.EventAt.IsZero() {
			at = c.EventAt
		}
		e.Version = fmt.Sprintf("%013[1]d.%013[1]d%s", at.UnixMilli(), deletion) // after a row's version of that time
	}
	p.Unless = []database.Has{{List: "applied", Field: "version", Text: e.Version}}
	switch {
	case !c.Applied():
		p.List = "skipped"
		p.Unless = append(p.Unless, database.Has{List: "skipped", Field: "version", Text: e.Version})
	case c.Deletion && c.Again:
		p.Unless = append(p.Unless, database.Has{List: "applied", Field: "outcome", Text: string(store.Deleted)})
	}
	p.Entry = e.stored()
	return p
}

// stored returns the entry as it is stored.
func (e Entry) stored() bson.Raw {
	raw, err := bson.Marshal(e)
	if err != nil {
		panic(err) // all fields are texts, times and flags
	}
	return raw
}

// overrule moves those entries that have a newer version than c to the ones that were not applied: the row has an older
// version now, and they would stand before everything that comes, until none of it has a place.
func (h *History) overrule(ctx context.Context, c store.Change) error {
	return h.rewrite(ctx, c.UserID, func(p *Past) {
		var moved []Entry
		p.Applied = slices.DeleteFunc(p.Applied, func(e Entry) bool {
			if e.Version > c.Version && !e.isDeletion() {
				e.Overruled = true
				moved = append(moved, e)
				return true
			}
			return false
		})
		p.Skipped = append(moved, p.Skipped...)
		p.Skipped = p.Skipped[:min(keep, len(p.Skipped))]
	})
}

// rewrite changes the document of a user, or removes it if nothing is left. If another process changes it at the same
// time, rewrite begins again.
func (h *History) rewrite(ctx context.Context, id string, change func(*Past)) error {
	defer h.rows.Lock(id)()
	for range 5 {
		raw, there, err := database.Get[bson.Raw](ctx, h.rows, id)
		if !there || err != nil {
			return err
		}
		was, err := h.read(id, raw)
		if err != nil {
			return err
		}
		now := Past{slices.Clone(was.Applied), slices.Clone(was.Skipped)}
		change(&now)
		guard := database.Guard(raw, "applied", "skipped")
		if now.Empty() {
			done, err := h.rows.DeleteIf(ctx, id, guard)
			if done || err != nil {
				return err
			}
			continue
		}
		set := bson.D{{Key: "oldest", Value: now.oldest()}}
		for name, list := range map[string][]Entry{"applied": now.Applied, "skipped": now.Skipped} {
			stored := bson.A{}
			for _, e := range slices.Backward(list) { // the oldest version first
				stored = append(stored, e.stored())
			}
			set = append(set, bson.E{Key: name, Value: stored})
		}
		u := database.Update{ID: id, Guard: guard, Change: bson.D{{Key: "$set", Value: set}}}
		if err := h.rows.UpdateEach(ctx, []database.Update{u})[0]; !errors.Is(err, database.ErrUnmatched) {
			return err
		}
	}
	return fmt.Errorf("write %s in %s: %w", id, h.rows.Name(), database.ErrUnmatched)
}

func (p Past) oldest() (at time.Time) {
	for _, e := range slices.Concat(p.Applied, p.Skipped) {
		if at.IsZero() || e.At.Before(at) {
			at = e.At
		}
	}
	return at
}

// Has tells whether anything is remembered of a user, also if it is damaged.
func (h *History) Has(ctx context.Context, id string) (bool, error) {
	_, there, err := database.Get[bson.Raw](ctx, h.rows, id)
	return there, err
}

// Get returns what is remembered of a user. It is empty if there is nothing.
func (h *History) Get(ctx context.Context, id string) (Past, error) {
	raw, there, err := database.Get[bson.Raw](ctx, h.rows, id)
	if !there || err != nil {
		return Past{}, err
	}
	return h.read(id, raw)
}

var errDamaged = errors.New("it is damaged: remove it")

// read decodes a user's document and turns its lists round, so that the newest version is first. An event that came a
// second time may have been noted as stale before the first time was noted: then it is no entry of its own.
func (h *History) read(id string, raw bson.Raw) (p Past, _ error) {
	if bson.Unmarshal(raw, &p) != nil {
		return Past{}, fmt.Errorf("read %s in %s: %w", id, h.rows.Name(), errDamaged)
	}
	p.Skipped = slices.DeleteFunc(p.Skipped, func(s Entry) bool {
		return slices.ContainsFunc(p.Applied, func(a Entry) bool { return a.Version == s.Version })
	})
	p.deduce()
	for _, list := range [][]Entry{p.Applied, p.Skipped} {
		slices.SortStableFunc(list, func(a, b Entry) int { return cmp.Compare(b.Version, a.Version) })
		for i := range list {
			list[i].At, list[i].ClerkAt = list[i].At.UTC(), list[i].ClerkAt.UTC()
		}
	}
	return p, nil
}

// deduce takes an entry that was not applied for one that was, if another write found the row with its version. What
// wrote it was cut off, or did not hear that it was done, and was overtaken, also by a deletion, before it came again.
func (p *Past) deduce() {
	applied := slices.Clone(p.Applied)
	p.Skipped = slices.DeleteFunc(p.Skipped, func(s Entry) bool {
		found := func(a Entry) bool { return a.Was == s.Version }
		if s.Overruled || !slices.ContainsFunc(applied, found) {
			return false
		}
		s.Outcome, s.Again, s.Was = store.Unchanged, true, ""
		p.Applied = append(p.Applied, s)
		return true
	})
}

// Remove removes what is remembered of a user, and tells whether there was anything.
func (h *History) Remove(ctx context.Context, id string) (bool, error) {
	defer h.rows.Lock(id)()
	return h.rows.DeleteIf(ctx, id, nil)
}

// Forget removes the entries from before a time from at most limit documents, and documents of which nothing is left.
// It returns how many documents it has changed or removed. MongoDB by itself removes only whole documents.
func (h *History) Forget(ctx context.Context, before time.Time, limit int) (int, error) {
	type document struct {
		ID string `bson:"_id"`
	}
	old, _, err := database.Oldest[document](ctx, h.rows, "oldest", before, limit)
	for i, d := range old {
		tooOld := func(e Entry) bool { return e.At.Before(before) }
		err := h.rewrite(ctx, d.ID, func(p *Past) {
			p.Applied = slices.DeleteFunc(p.Applied, tooOld)
			p.Skipped = slices.DeleteFunc(p.Skipped, tooOld)
		})
		if errors.Is(err, errDamaged) { // of no use to anybody, and it would keep the others
			_, err = h.Remove(ctx, d.ID)
		}
		if err != nil {
			return i, err
		}
	}
	return len(old), err
}
