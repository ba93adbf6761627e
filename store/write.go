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
	Unchanged Outcome = "unchanged" // the row had the same values; at most its version changed
	Stale     Outcome = "stale"     // the row is newer; nothing was written
	Deleted   Outcome = "deleted"   // the user is deleted, and there is no row
)

// Mode says which writes Users.Write carries out.
type Mode int

// The modes.
const (
	// All carries out every write that is not older than the row.
	All Mode = iota
	// Differing writes only the rows that differ from Clerk. If a row is equal but its version begins with an older
	// time than Clerk's, the row gets the newer version: otherwise an older event that arrives late could overwrite it.
	// If a row has a user name with a suffix and the name without it is free again, the suffix is removed.
	Differing
	// DryRun writes nothing and says what Differing would do.
	DryRun
)

// Result says what a Write did.
type Result struct {
	Outcome Outcome
	// Fields are those in which the row differed, for the outcomes Updated and Stale.
	Fields []Field
	// Version is the row's version before the write; "" if there was no row, or none that clerksync had written.
	Version string
	// Newer says that the write is newer than the row before it, even if both have the same values.
	Newer bool
	// Behind says that clerksync wrote the row with a map of other fields, so a difference need not come from Clerk.
	Behind bool
	Err    error // why the write has to be repeated
}

const (
	// maxBulk bounds what is written in one round trip: 500 users are 250 KB.
	maxBulk = 500
	// maxRounds is how often a row is tried: twice more for user names that are taken, and the rest for races that
	// other processes won, which is more than ever happens.
	maxRounds = 10
)

var (
	// ErrRefused says that the database refuses a row whatever its user name, so that a unique index of the app's on
	// another field must be the reason. Until the row that has the value changes, a retry cannot help. See TakenError.
	ErrRefused = errors.New("a unique index of the app's refuses the row")
	// ErrUnfit says that a row cannot be written as the map says, because of what the app has in it or of what Clerk's
	// user has. A retry cannot help. The error around it says what it is.
	ErrUnfit = errors.New("the row cannot be written")
	// errRaced says that in each round another process changed the row between read and write.
	errRaced = fmt.Errorf("other processes wrote the row %d times", maxRounds)
)

// Write makes the rows equal to what Clerk said about their users, by the version rule and the order of tombstones.
// Writes may be repeated and may come in any order: in the end each row has the newest version, and deleted users stay
// deleted. Write returns one result for each write, in the same order. A write that fails does not affect the others. A
// few hundred writes take as many round trips as one.
func (s *Users) Write(ctx context.Context, writes []Write, mode Mode) []Result {
	var results []Result
	for part := range slices.Chunk(writes, maxBulk) {
		b := &bulk{Users: s, mode: mode, writes: part, results: make([]Result, len(part))}
		b.run(ctx)
		b.tell(ctx)
		results = append(results, b.results...)
	}
	return results
}

// Overrule writes what Clerk's API says about a user although the row's version is newer. It does so only if that
// version is still exactly was, and must be wrong: because it lies in the future, or because the row's event is much
// older than the question to Clerk. Otherwise the outcome is Stale.
func (s *Users) Overrule(ctx context.Context, w Write, was string) (Outcome, error) {
	w.overrules = was
	r := s.Write(ctx, []Write{w}, All)[0]
	return r.Outcome, r.Err
}

// bulk is a few hundred writes in progress.
type bulk struct {
	*Users
	mode     Mode
	writes   []Write
	results  []Result
	attempts []*attempt // one for each write, also for those that are not tried
}

// attempt is the write of one row.
type attempt struct {
	Write
	result *Result
	was    string   // the row's version when it was read last
	done   bool     // the row is written
	again  bool     // of a deletion: there was a tombstone before
	names  []string // see bulk.names; nil until they are asked for
	name   string   // the user name that was last tried
	sent   planned  // what was last tried to be written
	err    error    // of the last try
	insert bool     // the last try was an insert
	taken  int      // how many of the user names, the best first, other rows have
	looked bool     // its tombstone was looked for before an insert
	freed  bool     // it was refused, but the row that had the value had given it up already, see taken.go
}

func (b *bulk) run(ctx context.Context) {
	winner, live, dead := b.winners()
	if b.mode != DryRun {
		defer b.rows.LockAll(append(ids(live), ids(dead)...))()
		fail(dead, b.bury(ctx, dead))
	}
	todo := live
	for n := 0; n < maxRounds && len(todo) > 0; n++ {
		todo = b.round(ctx, todo)
	}
	for _, a := range todo {
		a.result.Err = fmt.Errorf("write user %q: %w", a.User.ID, errRaced)
	}
	// This look for tombstones comes after the writes. So if the user is deleted at the same time, the row is removed
	// either here or by the process that deletes. If this process dies between the writes and here, the row stays until
	// SweepBuried removes it.
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
	for i, w := range b.writes { // a user's older writes get the error of the newest
		b.results[i].Err = b.results[winner[w.User.ID]].Err
	}
}

// winners returns the one write for each user that has to be done: a deletion, or else the newest write; winner has
// their places. It sets the outcome of the other writes.
func (b *bulk) winners() (winner map[string]int, live, dead []*attempt) {
	winner = map[string]int{}
	for i, w := range b.writes {
		j, ok := winner[w.User.ID]
		if !ok || !b.writes[j].Deleted && (w.Deleted || w.version() >= b.writes[j].version()) {
			winner[w.User.ID] = i
		}
	}
	for i, w := range b.writes {
		a := &attempt{Write: w, result: &b.results[i], again: w.Deleted}
		b.attempts = append(b.attempts, a)
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

// round reads the rows, and plans and does the writes. It returns the attempts that must be tried again, because
// another process changed the row or because the user name is taken.
func (b *bulk) round(ctx context.Context, todo []*attempt) (again []*attempt) {
	todo, err := b.unwritten(ctx, todo)
	if err != nil {
		fail(todo, err)
		return nil
	}
	rows, others, err := b.read(ctx, todo)
	if err != nil {
		fail(todo, err)
		return nil
	}
	var inserts, updates, refused []*attempt
	var changes []database.Update
	for _, a := range todo {
		was := rows[a.User.ID]
		name, ok := b.name(a, was, others)
		if !ok {
			refused = append(refused, a)
			continue
		}
		p, outcome, err := b.plan(a.Write, was, name)
		var change database.Update
		writes := outcome == Updated ||
			outcome == Unchanged && (b.mode == All || raises(was.state.Version, p.state.Version))
		if err == nil && writes {
			change, err = b.change(a.User.ID, was, p, outcome)
		}
		if err != nil {
			a.result.Err = fmt.Errorf("write user %q: %w", a.User.ID, err)
			continue
		}
		b.say(a, was, p, outcome)
		switch a.sent, a.was, a.name, a.insert = p, was.state.Version, name, !was.there; {
		case a.insert:
			inserts = append(inserts, a)
		case writes:
			updates, changes = append(updates, a), append(changes, change)
		}
	}
	if b.mode == DryRun {
		return nil
	}
	inserts = b.withoutDead(ctx, inserts)
	again = append(b.refused(ctx, refused), retry(inserts, b.insert(ctx, inserts), "insert")...)
	return append(again, retry(updates, b.rows.UpdateEach(ctx, changes), "update")...)
}

// unwritten leaves out the attempts whose row was written. If a bulk update did not match all of its rows, MongoDB does
// not say which ones it missed, or only since version 8.0, with another command, which we could not test. So unwritten
// reads from each of them the two fields that every write changes.
func (b *bulk) unwritten(ctx context.Context, todo []*attempt) ([]*attempt, error) {
	unsure := func(a *attempt) bool { return errors.Is(a.err, database.ErrUnmatched) }
	of := slices.DeleteFunc(slices.Clone(todo), func(a *attempt) bool { return !unsure(a) })
	if len(of) < 2 { // then this is the one that was missed
		return todo, nil
	}
	rows, err := b.rows.FindMany(ctx, ids(of), b.m.State+".version", b.m.State+".synced_at")
	if err != nil {
		return todo, err
	}
	written := func(a *attempt) bool {
		a.done = unsure(a) && b.Users.read(rows[a.User.ID]).isOurs(a.sent)
		return a.done
	}
	return slices.DeleteFunc(slices.Clone(todo), written), nil
}

// read returns the rows, and, for the rows whose user name has a suffix, which of the names without suffix are still
// taken.
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
	others, err := b.rows.Taken(ctx, b.fields.Username, wanted)
	return rows, others, err
}

// say sets the result of an attempt to the outcome of its plan.
func (b *bulk) say(a *attempt, was found, p planned, outcome Outcome) {
	if a.result.Outcome == "" {
		a.result.Version = was.state.Version
		a.result.Newer = a.version() > was.state.Version
		a.result.Behind = was.state.Version != "" && was.state.Map != p.state.Map
	}
	if a.result.Outcome = outcome; outcome == Updated || outcome == Stale {
		a.result.Fields = p.differs
	}
}

// withoutDead returns the inserts of users without a tombstone: a deleted user's row must not be seen even for a
// moment.
func (b *bulk) withoutDead(ctx context.Context, inserts []*attempt) (rest []*attempt) {
	unsure := slices.DeleteFunc(slices.Clone(inserts), func(a *attempt) bool { return a.looked })
	stones, err := b.buried(ctx, ids(unsure))
	if err != nil {
		fail(inserts, err)
		return nil
	}
	for _, a := range inserts {
		a.looked = true
		if stones[a.User.ID] != nil {
			a.result.Outcome = Deleted
		} else {
			rest = append(rest, a)
		}
	}
	return rest
}

// insert inserts new rows. It gives each a user name that no other of them has, because a duplicate would cost another
// round.
func (b *bulk) insert(ctx context.Context, inserts []*attempt) []error {
	given := map[string]bool{}
	docs := make([]any, len(inserts))
	for i, a := range inserts {
		for _, name := range b.names(a)[a.taken:] {
			if a.name = name; !given[name] {
				break
			}
		}
		given[a.name] = true
		b.fields.Rename(a.sent.values, a.name)
		docs[i] = b.fields.New(a.User.ID, a.sent.values)
	}
	return b.rows.InsertEach(ctx, ids(inserts), docs)
}

// name returns the user name to try next, and false if all names have been tried.
func (b *bulk) name(a *attempt, was found, others map[string]bool) (string, bool) {
	clash := a.err != nil && database.IsDuplicate(a.err)
	on := database.DuplicateFields(a.err)
	switch {
	case !clash:
	case a.insert && (was.there || slices.Contains(on, b.m.Key)): // the duplicate was the key
		clash, a.taken = false, 0
	case on != nil && !slices.Contains(on, b.fields.Username): // no other name helps
		return "", false
	}
	keeps := keepsName(was, a.User) || suffixed(was, a.User) && others[a.User.Username]
	if clash && !keeps {
		a.taken++
	}
	switch all := b.names(a); {
	case keeps && (!clash || a.name != was.username):
		return was.username, true
	case !keeps && a.taken < len(all):
		return all[a.taken], true
	}
	return "", false
}

// names returns the user names to try, the best first: only "" if the map has no field with a unique user name.
func (b *bulk) names(a *attempt) []string {
	switch {
	case a.names != nil:
	case b.fields.Username == "":
		a.names = []string{""}
	default:
		a.names = names(a.User)
	}
	return a.names
}

// change returns the update that carries out a plan. The error is ErrUnfit.
func (s *Users) change(id string, was found, p planned, outcome Outcome) (database.Update, error) {
	change, nulls, err := s.fields.Update(was.raw, p.values, outcome != Unchanged)
	guard := append(slices.Clip(was.guard), database.Guard(was.raw, nulls...)...)
	return database.Update{ID: id, Guard: guard, Change: change}, unfit(err)
}

func unfit(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrUnfit, err)
}

// retry returns the attempts that failed because of another process or a taken user name, and sets the errors of the
// others.
func retry(of []*attempt, errs []error, what string) (again []*attempt) {
	for i, a := range of {
		switch a.err = errs[i]; {
		case a.err == nil:
			a.done = true
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
