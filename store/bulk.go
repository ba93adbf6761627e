package store

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"clerksync/clerk"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// Write is what Clerk said of a user, or, if Deleted is set, that the user with User.ID is deleted.
type Write struct {
	User    clerk.User
	When    When
	Deleted bool
	// AnsweredAt is when what Clerk said was there, by the later of its clock and ours; 0 where an event said it.
	AnsweredAt clerk.Millis
}

// Written is what became of a Write: Outcome, or why it has to be repeated.
type Written struct {
	Outcome Outcome
	Err     error
}

const (
	// maxBulk bounds what is written in one round trip: 500 users are 250 KB.
	maxBulk = 500
	// singles is how many single operations are in flight where there are no bulk ones, well below what deadlocks FerretDB v1.
	singles = 8
)

// WriteMany does what Apply and Delete do with each of the writes, by the same rules and in a few round trips for hundreds of them. One
// that fails harms no other. It returns what became of each, in their order.
func (s *Users) WriteMany(ctx context.Context, writes []Write) []Written {
	results := make([]Written, len(writes))
	for start := 0; start < len(writes); start += maxBulk {
		end := min(start+maxBulk, len(writes))
		s.writeMany(ctx, writes[start:end], results[start:end])
	}
	return results
}

// bulk is a bulk write in progress.
type bulk struct {
	*Users
	writes  []Write
	results []Written
	names   map[string]bool // that it gives to new rows
}

func (s *Users) writeMany(ctx context.Context, writes []Write, results []Written) {
	b := &bulk{Users: s, writes: writes, results: results, names: map[string]bool{}}
	live, dead := b.winners()
	defer s.locks.LockAll(b.ids(append(live, dead...)))()
	if s.db.OneProcess {
		b.each(dead, func(i int) (Outcome, error) { return s.delete(ctx, writes[i].User.ID) })
		b.writeEmbedded(ctx, live)
		return
	}
	b.fail(dead, b.bury(ctx, dead))
	b.write(ctx, live)
}

// winners returns the writes that count, one for each user: a deletion, or else the newest. The others get their outcome.
func (b *bulk) winners() (live, dead []int) {
	winner := map[string]int{}
	newer := func(i, j int) bool { // i than j
		if b.writes[i].Deleted || b.writes[j].Deleted {
			return !b.writes[j].Deleted
		}
		return version(b.writes[i].User.ChangedAt, b.writes[i].When) >= version(b.writes[j].User.ChangedAt, b.writes[j].When)
	}
	for i, w := range b.writes {
		if j, ok := winner[w.User.ID]; !ok || newer(i, j) {
			winner[w.User.ID] = i
		}
	}
	for i, w := range b.writes {
		switch j := winner[w.User.ID]; {
		case j == i && w.Deleted:
			b.results[i].Outcome = Deleted
			dead = append(dead, i)
		case j == i:
			live = append(live, i)
		case b.writes[j].Deleted:
			b.results[i].Outcome = Deleted
		default:
			b.results[i].Outcome = Stale
		}
	}
	return live, dead
}

func (b *bulk) ids(of []int) []string {
	ids := make([]string, len(of))
	for k, i := range of {
		ids[k] = b.writes[i].User.ID
	}
	return ids
}

// fail gives the error, if there is one, to all writes of the users of these.
func (b *bulk) fail(of []int, err error) {
	if err == nil {
		return
	}
	users := map[string]bool{}
	for _, id := range b.ids(of) {
		users[id] = true
	}
	for i, w := range b.writes {
		if users[w.User.ID] {
			b.results[i] = Written{Err: err}
		}
	}
}

// each does single operations: side by side on FerretDB, where there are many, else one after the other.
func (b *bulk) each(of []int, do func(i int) (Outcome, error)) {
	var mu sync.Mutex
	one := func(i int) {
		o, err := do(i)
		mu.Lock()
		defer mu.Unlock()
		b.results[i] = Written{Outcome: o, Err: err}
		b.fail([]int{i}, err)
	}
	if b.db.OneProcess {
		_ = sideBySide(of, func(i int) error { one(i); return nil }) // none fails
		return
	}
	for _, i := range of {
		one(i)
	}
}

// one writes users one by one.
func (b *bulk) one(ctx context.Context, of []int) {
	b.each(of, func(i int) (Outcome, error) { return b.applyLocked(ctx, b.writes[i].User, b.writes[i].When) })
}

// bury deletes users: their tombstones first, as Delete does.
func (b *bulk) bury(ctx context.Context, dead []int) error {
	if len(dead) == 0 {
		return nil
	}
	var stones []bson.D
	for _, id := range b.ids(dead) {
		stones = append(stones, tombstone(id))
	}
	if _, err := b.tombstones.InsertMany(ctx, stones, options.InsertMany().SetOrdered(false)); err != nil && !onlyDuplicates(err) {
		return fmt.Errorf("write tombstones: %w", Redact(err))
	}
	return b.removeMany(ctx, b.ids(dead))
}

func (s *Users) removeMany(ctx context.Context, ids []string) error {
	if _, err := s.rows.DeleteMany(ctx, byIDs(ids)); err != nil {
		return fmt.Errorf("remove users: %w", Redact(err))
	}
	return nil
}

func onlyDuplicates(err error) bool {
	var e mongo.BulkWriteException
	if !errors.As(err, &e) || e.WriteConcernError != nil {
		return false
	}
	for _, we := range e.WriteErrors {
		if !IsDuplicate(we) {
			return false
		}
	}
	return true
}

// write is apply for many users, on a database whose updates are atomic.
func (b *bulk) write(ctx context.Context, live []int) {
	live, err := b.withoutDead(ctx, live)
	if err != nil || len(live) == 0 {
		b.fail(live, err)
		return
	}
	old, err := b.GetMany(ctx, b.ids(live))
	if err != nil {
		b.fail(live, err)
		return
	}
	var created, updated, again []int
	var rows []Row
	var models []mongo.WriteModel
	for _, i := range live {
		was := old[b.writes[i].User.ID]
		r, outcome := plan(was, b.writes[i])
		switch b.results[i].Outcome = outcome; outcome {
		case Created:
			created, rows = append(created, i), append(rows, b.named(r, b.writes[i].User))
		case Updated, Unchanged:
			updated = append(updated, i)
			models = append(models, mongo.NewUpdateOneModel().SetFilter(b.guard(was, r)).SetUpdate(changes(r)))
		}
	}
	again = append(again, b.insertMany(ctx, created, rows)...)
	again = append(again, b.updateMany(ctx, updated, models)...)
	if _, err := b.withoutDead(ctx, live); err != nil {
		b.fail(live, err)
		return
	}
	b.one(ctx, again)
}

// plan returns the row that a write makes of was, which has no id if there is none, and what that will be; if the best user name is
// free.
func plan(was Row, w Write) (Row, Outcome) {
	r := newRow(w.User, w.When)
	if r.Username = was.Username; w.User.Username != "" || was.Username == "" {
		r.Username = names(w.User)[0]
	}
	switch {
	case was.ID == "":
		return r, Created
	case was.Clerk.Version > r.Clerk.Version:
		return r, Stale
	case same(was, r):
		return r, Unchanged
	}
	return r, Updated
}

// named returns a new row with a user name that no other of this bulk has: a duplicate would have to be written once more.
func (b *bulk) named(r Row, u clerk.User) Row {
	for _, r.Username = range names(u) {
		if !b.names[r.Username] {
			break
		}
	}
	b.names[r.Username] = true
	return r
}

// withoutDead removes the rows of those who have a tombstone, and returns the others.
func (b *bulk) withoutDead(ctx context.Context, live []int) (rest []int, _ error) {
	if len(live) == 0 {
		return nil, nil
	}
	stones, err := readIDs(ctx, b.tombstones, byIDs(b.ids(live)))
	if err != nil {
		return live, fmt.Errorf("look for tombstones: %w", Redact(err))
	}
	var dead []string
	for _, i := range live {
		if id := b.writes[i].User.ID; stones[id] {
			b.results[i].Outcome = Deleted
			dead = append(dead, id)
		} else {
			rest = append(rest, i)
		}
	}
	if len(dead) > 0 {
		if err := b.removeMany(ctx, dead); err != nil {
			return live, err
		}
	}
	return rest, nil
}

// insertMany inserts new rows and returns those that have to be written one by one: the row is there by now, or the name is another's.
func (b *bulk) insertMany(ctx context.Context, of []int, rows []Row) (again []int) {
	if len(rows) == 0 {
		return nil
	}
	for _, i := range of {
		b.results[i].Outcome = Created
	}
	_, err := b.rows.InsertMany(ctx, rows, options.InsertMany().SetOrdered(false))
	return b.retry(of, err, "insert users")
}

// updateMany updates rows and returns those that have to be written one by one.
func (b *bulk) updateMany(ctx context.Context, of []int, models []mongo.WriteModel) (again []int) {
	if len(models) == 0 {
		return nil
	}
	res, err := b.rows.BulkWrite(ctx, models, options.BulkWrite().SetOrdered(false))
	again = b.retry(of, err, "update users")
	if err == nil && res.MatchedCount < int64(len(of)) || len(again) > 0 {
		return of // it does not say which have become newer meanwhile; what is applied again is unchanged
	}
	return again
}

// retry returns which of a bulk write met a duplicate key, and gives the others their errors.
func (b *bulk) retry(of []int, err error, what string) (again []int) {
	var e mongo.BulkWriteException
	switch {
	case err == nil:
	case errors.As(err, &e) && e.WriteConcernError == nil && len(e.WriteErrors) > 0:
		for _, we := range e.WriteErrors {
			if IsDuplicate(we) {
				again = append(again, of[we.Index])
			} else {
				b.fail(of[we.Index:we.Index+1], fmt.Errorf("%s: %w", what, Redact(we)))
			}
		}
	default:
		b.fail(of, fmt.Errorf("%s: %w", what, Redact(err)))
	}
	return again
}

// writeEmbedded is apply for many users on FerretDB, in the one process that writes there: while it holds the locks nobody deletes
// any of them. Bulk updates deadlock there and $in reads the whole collection, so only rows that are all new go in at once.
func (b *bulk) writeEmbedded(ctx context.Context, live []int) {
	if len(live) == 0 {
		return
	}
	if _, err := b.Get(ctx, b.writes[live[0]].User.ID); !errors.Is(err, ErrNotFound) {
		b.one(ctx, live)
		return
	}
	stones, err := readIDs(ctx, b.tombstones, bson.D{})
	if err != nil {
		b.fail(live, fmt.Errorf("look for tombstones: %w", Redact(err)))
		return
	}
	var created []int
	var rows []Row
	sent := map[int]Row{}
	for _, i := range live {
		w := b.writes[i]
		if stones[w.User.ID] {
			b.one(ctx, []int{i})
			continue
		}
		r := b.named(newRow(w.User, w.When), w.User)
		created, rows, sent[i] = append(created, i), append(rows, r), r
		b.results[i].Outcome = Created
	}
	if len(rows) == 0 {
		return
	}
	if _, err := b.rows.InsertMany(ctx, rows, options.InsertMany().SetOrdered(false)); err == nil {
		return
	}
	b.each(created, func(i int) (Outcome, error) { // it stopped at the first error and does not say where
		if r, err := b.Get(ctx, sent[i].ID); err == nil && same(r, sent[i]) && r.Clerk.SyncedAt.Equal(sent[i].Clerk.SyncedAt) {
			return Created, nil // before it stopped
		}
		return b.applyLocked(ctx, b.writes[i].User, b.writes[i].When)
	})
}
