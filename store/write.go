package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"clerksync/store/database"
)

// Outcome is what a write did.
type Outcome string

// The outcomes.
const (
	Created   Outcome = "created"
	Updated   Outcome = "updated"
	Unchanged Outcome = "unchanged" // the row had the same values; it has the newer version now
	Stale     Outcome = "stale"     // the row is newer; nothing was written
	Deleted   Outcome = "deleted"   // the user is deleted, and there is no row
)

// Mode is what Users.Write does with its writes.
type Mode int

// The modes.
const (
	// All writes what is not older than the row.
	All Mode = iota
	// Differing writes only where the row differs from Clerk. An equal row whose version begins with an older time than
	// Clerk's gets the newer version: else a late older event would win over what was compared. A suffix of a user name
	// that is free again is taken off.
	Differing
	// DryRun writes nothing and says what Differing would do.
	DryRun
)

// Result is what became of a Write.
type Result struct {
	Outcome Outcome
	// Fields are those in which the row differed, of an outcome Updated or Stale in the modes Differing and DryRun.
	Fields []Field
	// Version is that of the row as it was found; "" if there was none, or none of ours.
	Version string
	// Newer says that the write is newer than the row as it was found, though it may have the same values.
	Newer bool
	Err   error // why the write has to be repeated
}

const (
	// maxBulk bounds what is written in one round trip: 500 users are 250 KB.
	maxBulk = 500
	// maxRounds is how often a row is tried: two more user names, and more lost races than any race has.
	maxRounds = 10
)

var (
	// ErrRefused says of one row that no user name helps, and no repetition. The last name that was tried is nobody
	// else's, so the name is hardly the reason.
	ErrRefused = errors.New("a unique index refuses the row whatever its user name: " +
		"drop a unique index of the app's on another field, such as email")
	// errRaced says that other processes changed the row between read and write again and again.
	errRaced = fmt.Errorf("other processes wrote the row %d times", maxRounds)
)

// Write brings rows to what Clerk said of their users, by the version rule and the order of tombstones. Writes may be
// repeated, and come in any order: the rows end at the newest version, and who is deleted stays so. It returns what
// became of each write, in their order; one that fails harms no other. A few hundred writes take as many round trips as
// one.
func (s *Users) Write(ctx context.Context, writes []Write, mode Mode) []Result {
	var results []Result
	for part := range slices.Chunk(writes, maxBulk) {
		b := &bulk{Users: s, mode: mode, writes: part, results: make([]Result, len(part))}
		b.run(ctx)
		results = append(results, b.results...)
	}
	return results
}

// Overrule writes what Clerk's API says of a user although the row's version is newer, if that is still exactly was and
// must be wrong: from the future, or, where the newest time in the user went down, of an event long before the
// question. Else the outcome is Stale.
func (s *Users) Overrule(ctx context.Context, w Write, was string) (Outcome, error) {
	w.overrules = was
	r := s.Write(ctx, []Write{w}, All)[0]
	return r.Outcome, r.Err
}

// bulk is a few hundred writes in progress.
type bulk struct {
	*Users
	mode    Mode
	writes  []Write
	results []Result
}

// attempt is the write of one row.
type attempt struct {
	Write
	result *Result
	sent   Row   // what was last written, or tried
	err    error // of that
	insert bool  // that it was an insert
	taken  int   // how many of the user names, best first, others have
	looked bool  // for a tombstone, before an insert
}

func (b *bulk) run(ctx context.Context) {
	winner, live, dead := b.winners()
	if b.mode != DryRun {
		defer b.rows.LockAll(append(ids(live), ids(dead)...))()
		fail(dead, b.bury(ctx, ids(dead)))
	}
	todo := live
	for n := 0; n < maxRounds && len(todo) > 0; n++ {
		todo = b.round(ctx, todo)
	}
	for _, a := range todo {
		a.result.Err = fmt.Errorf("write user %q: %w", a.User.ID, errRaced)
	}
	// After the writes, so that a deletion in between removes the row, here or in the process that deletes. A process
	// that dies between its write and this look leaves such a row: see SweepBuried.
	stones, err := b.buried(ctx, ids(live))
	if err == nil && b.mode != DryRun {
		err = b.rows.DeleteEach(ctx, slices.Collect(maps.Keys(stones)))
	}
	for _, a := range live {
		if stones[a.User.ID] != nil {
			*a.result = Result{Outcome: Deleted, Version: a.result.Version}
		}
		a.result.Err = errors.Join(a.result.Err, err)
	}
	for i, w := range b.writes { // the older writes of a user share the fate of the newest
		b.results[i].Err = b.results[winner[w.User.ID]].Err
	}
}

// winners returns the writes that count, one for each user: a deletion, or else the newest; winner has their places.
// The others get their outcome.
func (b *bulk) winners() (winner map[string]int, live, dead []*attempt) {
	winner = map[string]int{}
	for i, w := range b.writes {
		j, ok := winner[w.User.ID]
		if !ok || !b.writes[j].Deleted && (w.Deleted || w.version() >= b.writes[j].version()) {
			winner[w.User.ID] = i
		}
	}
	for i, w := range b.writes {
		a := &attempt{Write: w, result: &b.results[i]}
		switch j := winner[w.User.ID]; {
		case b.writes[j].Deleted:
			if a.result.Outcome = Deleted; j == i {
				dead = append(dead, a)
			}
		case j == i:
			live = append(live, a)
		default:
			a.result.Outcome = Stale
		}
	}
	return winner, live, dead
}

// round reads the rows, plans and writes, and returns what has to be tried again: where another process was quicker, or
// a user name is taken.
func (b *bulk) round(ctx context.Context, todo []*attempt) (again []*attempt) {
	rows, others, err := b.read(ctx, todo)
	if err != nil {
		fail(todo, err)
		return nil
	}
	var inserts, updates []*attempt
	var changes []database.Update
	for _, a := range todo {
		was := rows[a.User.ID]
		// After a bulk of updates that did not match all of its rows nobody knows which they were: MongoDB tells that
		// only from version 8.0 on, by another command, which we could not try.
		if errors.Is(a.err, database.ErrUnmatched) && was.isOurs(a.sent) {
			continue
		}
		name, err := a.name(was, others)
		if err != nil {
			a.result.Err = err
			continue
		}
		p := a.plan(was, name)
		b.say(a, was, p)
		switch a.sent, a.insert = p.row, !was.there; {
		case a.insert:
			inserts = append(inserts, a)
		case p.outcome == Stale, b.mode == Differing && p.outcome == Unchanged && !p.raised:
		default:
			updates = append(updates, a)
			changes = append(changes, database.Update{ID: a.User.ID, Guard: was.guard, Change: was.changes(p.row)})
		}
	}
	if b.mode == DryRun {
		return nil
	}
	inserts = b.withoutDead(ctx, inserts)
	again = retry(inserts, b.insert(ctx, inserts), "insert")
	return append(again, retry(updates, b.rows.UpdateEach(ctx, changes), "update")...)
}

// read returns the rows as they are, and which of the user names that rows have only with a suffix others still have.
func (b *bulk) read(ctx context.Context, todo []*attempt) (map[string]found, map[string]bool, error) {
	rows, err := b.find(ctx, ids(todo))
	if err != nil || b.mode == All {
		return rows, nil, err
	}
	var wanted []string
	for _, a := range todo {
		if suffixed(rows[a.User.ID], a.User) {
			wanted = append(wanted, a.User.Username)
		}
	}
	others, err := b.rows.Taken(ctx, "username", wanted)
	return rows, others, err
}

// say notes what a plan does to a row.
func (b *bulk) say(a *attempt, was found, p plan) {
	if a.result.Outcome == "" {
		a.result.Version = was.Clerk.Version
		a.result.Newer = a.version() > was.Clerk.Version
	}
	if a.result.Outcome = p.outcome; b.mode != All && (p.outcome == Updated || p.outcome == Stale) {
		a.result.Fields = was.differs(p.row)
	}
}

// withoutDead returns those who have no tombstone: a dead user's row is not to be seen even for a moment.
func (b *bulk) withoutDead(ctx context.Context, inserts []*attempt) (rest []*attempt) {
	var unsure []*attempt
	for _, a := range inserts {
		if !a.looked {
			unsure = append(unsure, a)
		}
		a.looked = true
	}
	stones, err := b.buried(ctx, ids(unsure))
	if err != nil {
		fail(inserts, err)
		return nil
	}
	for _, a := range inserts {
		if stones[a.User.ID] != nil {
			a.result.Outcome = Deleted
		} else {
			rest = append(rest, a)
		}
	}
	return rest
}

// insert inserts new rows, each with a user name that no other of them has: a duplicate would have to be tried once
// more.
func (b *bulk) insert(ctx context.Context, inserts []*attempt) []error {
	given := map[string]bool{}
	docs := make([]any, len(inserts))
	for i, a := range inserts {
		for _, name := range names(a.User)[a.taken:] {
			if a.sent.Username = name; !given[name] {
				break
			}
		}
		given[a.sent.Username] = true
		docs[i] = a.sent
	}
	return b.rows.InsertEach(ctx, ids(inserts), docs)
}

// name returns the user name that the row is to get, by what has been tried. The error says that there is none left.
func (a *attempt) name(was found, others map[string]bool) (string, error) {
	clash := a.err != nil && database.IsDuplicate(a.err)
	if clash && a.insert && was.there { // it was the _id
		clash, a.taken = false, 0
	}
	if keepsName(was, a.User) || suffixed(was, a.User) && others[a.User.Username] {
		if clash && a.sent.Username == was.Username {
			return "", a.refused()
		}
		return was.Username, nil
	}
	if clash {
		a.taken++
	}
	if all := names(a.User); a.taken < len(all) {
		return all[a.taken], nil
	}
	return "", a.refused()
}

func (a *attempt) refused() error { return fmt.Errorf("write user %q: %w", a.User.ID, ErrRefused) }

// retry returns those that another process or a user name has stopped, and gives the others their errors.
func retry(of []*attempt, errs []error, what string) (again []*attempt) {
	for i, a := range of {
		switch a.err = errs[i]; {
		case a.err == nil:
		case errors.Is(a.err, database.ErrUnmatched) || database.IsDuplicate(a.err):
			again = append(again, a)
		default:
			a.result.Err = fmt.Errorf("%s user %q: %w", what, a.User.ID, a.err)
		}
	}
	return again
}

func fail(all []*attempt, err error) {
	for _, a := range all {
		a.result.Err = err
	}
}

func ids(of []*attempt) []string {
	all := make([]string, len(of))
	for i, a := range of {
		all[i] = a.User.ID
	}
	return all
}
