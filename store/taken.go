package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"clerksync/clerk"
	"clerksync/store/database"
	"clerksync/store/mapping"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// The app may have unique indexes on fields that clerksync writes, such as one on the address. Clerk may give an
// address to another user while the older holder's change or deletion is still on its way. The row cannot be written
// then; it can when the holder's event has come. The version rule does not care when that is.

// TakenError says that a unique index of the app's refuses a row, because another row has the same value. It is an
// ErrRefused. Its text names ids and the index, and no value.
type TakenError struct {
	UserID string
	Index  string // its name
	Holder string // Clerk's id of the user who may give the value up; "" if the row is the app's, or has no value
	other  string // the row that has the value, for a person
	none   bool   // the value is none at all
}

// TakenText is in the text of every TakenError, and so of the dead letters that come of it.
const TakenText = "the app's unique index"

func (e *TakenError) Error() string {
	why := fmt.Sprintf("refuses the row, because %s, a row of the app's, has the same value: "+
		"change it there, clerksync never does", e.other)
	switch {
	case e.none:
		why = fmt.Sprintf("takes one row without a value, and %s is that: make the index partial, or sparse", e.other)
	case e.Holder != "":
		why = fmt.Sprintf("refuses the row, because %s has the same value: it is written when that user's change or "+
			"deletion is; if its webhook is lost, 'clerksync reconcile' mends it", e.Holder)
	}
	return fmt.Sprintf("write user %q: %s %s %s", e.UserID, TakenText, e.Index, why)
}

// Unwrap returns ErrRefused.
func (*TakenError) Unwrap() error { return ErrRefused }

// taken returns the TakenError of a write that a unique index refuses. It returns nil if no other row has the values
// any more, or if the server cannot list its indexes. It looks for the other row because the server's own text quotes
// values, and not every server names the index. Only a refused write pays for that.
func (s *Users) taken(ctx context.Context, w Write) (*TakenError, error) {
	indexes, row, next, err := s.uniques(ctx, w)
	if err != nil {
		return nil, err
	}
	for _, ix := range indexes {
		values, writes, none := make([]any, len(ix.Fields)), false, true
		for i, path := range ix.Fields {
			from := row
			if s.sets(path, row == nil) {
				from, writes = next, true
			}
			if v := at(from, path); v != nil {
				values[i], none = *v, false
			}
		}
		if !writes {
			continue
		}
		holder, err := s.rows.Clash(ctx, ix, values, w.User.ID)
		if err != nil || holder != nil {
			return s.heldBy(w, ix.Name, holder, none), err
		}
	}
	return nil, nil
}

// uniques returns the unique indexes, except the one by which user names are given; the user's row as it is, nil if
// there is none; and as w would insert it.
func (s *Users) uniques(ctx context.Context, w Write) (indexes []database.IndexInfo, row, next bson.Raw, _ error) {
	all, err := s.rows.ListIndexes(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	for _, ix := range all {
		if ix.Unique && (s.fields.Username == "" || !slices.Contains(ix.Fields, s.fields.Username)) {
			indexes = append(indexes, ix)
		}
	}
	rows, err := s.rows.FindMany(ctx, []string{w.User.ID})
	if err != nil {
		return nil, nil, nil, err
	}
	values, err := s.fields.Values(w.User, "", time.Now(), true)
	if err != nil {
		return nil, nil, nil, err
	}
	next, err = bson.Marshal(s.fields.New(w.User.ID, values))
	return indexes, rows[w.User.ID], next, err
}

// sets tells whether a write sets the field at a path of the app's.
func (s *Users) sets(path string, insert bool) bool {
	return slices.ContainsFunc(s.m.Fields, func(f mapping.Field) bool {
		return f.Path == path && !f.Unique && (insert || !f.Create)
	})
}

func (s *Users) heldBy(w Write, index string, holder bson.Raw, none bool) *TakenError {
	e := &TakenError{UserID: w.User.ID, Index: index, none: none}
	switch id := database.Text(holder, s.m.Key); {
	case !clerk.IsUserID(id):
		e.other = database.RowID(holder)
	case none:
		e.other = id
	default:
		e.Holder = id
	}
	return e
}

// at returns the value that a row has at a path; nil means null or nothing.
func at(row bson.Raw, path string) *bson.RawValue {
	v, err := row.LookupErr(strings.Split(path, ".")...)
	if err != nil || v.Type == bson.TypeNull {
		return nil
	}
	return &v
}

// refused sets the errors of attempts that the database has refused whatever their user name. It returns those that
// must be tried again, because the other row has given its value up meanwhile.
func (b *bulk) refused(ctx context.Context, of []*attempt) (again []*attempt) {
	for _, a := range of {
		switch taken, err := b.taken(ctx, a.Write); {
		case err != nil:
			a.result.Err = fmt.Errorf("write user %q: %w", a.User.ID, err)
		case taken != nil:
			a.result.Err = taken
		case a.freed:
			a.result.Err = fmt.Errorf("write user %q: %w whatever its user name: make the unique indexes on "+
				"the app's fields not unique", a.User.ID, ErrRefused)
		default:
			a.freed, a.err, a.taken = true, nil, 0
			again = append(again, a)
		}
	}
	return again
}

// GiveUp removes from the row of a user the values that the fields of a unique index have and w, which is what Clerk
// says about the user, would replace anyway. So another row can have them. It follows the version rule, and does
// nothing if somebody else writes the row at the same time. The row keeps its version, so w or any newer write
// completes it. Write w next; if that fails, call back, which puts the values back into a row that nobody has written
// since. back is nil if GiveUp removed nothing. Only reconcile may call GiveUp, because it has asked Clerk.
func (s *Users) GiveUp(ctx context.Context, w Write, index string) (back func(context.Context) error, _ error) {
	defer s.rows.Lock(w.User.ID)()
	indexes, row, next, err := s.uniques(ctx, w)
	if err != nil || row == nil {
		return nil, err
	}
	was := s.read(row)
	if _, ok := w.takes(was.state.Version); !ok {
		return nil, nil
	}
	for _, ix := range indexes {
		for _, path := range ix.Fields {
			has, gets := at(row, path), at(next, path)
			if ix.Name == index && s.sets(path, false) && has != nil && (gets == nil || !has.Equal(*gets)) {
				return s.empty(ctx, w.User.ID, was, path, *has)
			}
		}
	}
	return nil, nil
}

// empty removes the value that a row has at a path, see GiveUp.
func (s *Users) empty(
	ctx context.Context, id string, was found, path string, has bson.RawValue,
) (back func(context.Context) error, _ error) {
	do := func(ctx context.Context, guard bson.D, op string, value any) error {
		change := bson.D{{Key: op, Value: bson.D{{Key: path, Value: value}}}}
		u := database.Update{ID: id, Guard: append(slices.Clone(was.guard), guard...), Change: change}
		return s.rows.UpdateEach(ctx, []database.Update{u})[0]
	}
	op := "$unset"
	if slices.ContainsFunc(s.m.Fields, func(f mapping.Field) bool { return f.Path == path && f.Absent.Null }) {
		op = "$set"
	}
	switch err := do(ctx, database.Guard(was.raw, path), op, nil); {
	case errors.Is(err, database.ErrUnmatched):
		return nil, nil
	case database.IsDuplicate(err):
		return nil, fmt.Errorf("write user %q: %w without its %s, which another user has now: make the index partial, "+
			"or sparse", id, ErrRefused, path)
	case err != nil:
		return nil, fmt.Errorf("write user %q: %w", id, err)
	}
	return func(ctx context.Context) error {
		defer s.rows.Lock(id)()
		rows, err := s.find(ctx, []string{id})
		now := rows[id]
		if err != nil || !now.there || now.state.Version != was.state.Version || at(now.raw, path) != nil {
			return err
		}
		err = do(ctx, bson.D{{Key: path, Value: nil}}, "$set", has)
		if errors.Is(err, database.ErrUnmatched) || database.IsDuplicate(err) {
			return nil
		}
		return err
	}, nil
}
