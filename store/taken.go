package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
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
	indexes, row, err := s.uniques(ctx, w.User.ID)
	if err != nil {
		return nil, err
	}
	values, err := s.fields.Values(w.User, "", time.Now())
	if err != nil {
		return nil, err
	}
	for _, ix := range indexes {
		wanted, writes, none := make([]any, len(ix.Fields)), false, true
		for i, path := range ix.Fields {
			if v := at(row, path); v != nil { // the app has written it
				wanted[i], none = *v, false
			}
			for _, v := range values {
				if v.Field.Path == path && (row == nil || !v.Field.Create) {
					wanted[i], writes, none = v.Value, true, none && v.Value == nil
				}
			}
		}
		if !writes {
			continue
		}
		holder, err := s.rows.Clash(ctx, ix, wanted, w.User.ID)
		if err != nil || holder != nil {
			return s.heldBy(w, ix.Name, holder, none), err
		}
	}
	return nil, nil
}

// uniques returns the unique indexes, except the one by which user names are given, and the row of a user, or nil.
func (s *Users) uniques(ctx context.Context, id string) ([]database.IndexInfo, bson.Raw, error) {
	indexes, err := s.rows.ListIndexes(ctx)
	if err != nil {
		return nil, nil, err
	}
	rows, err := s.rows.FindMany(ctx, []string{id})
	return slices.DeleteFunc(indexes, func(ix database.IndexInfo) bool {
		return !ix.Unique || slices.Contains(ix.Fields, s.fields.Username())
	}), rows[id], err
}

func (s *Users) heldBy(w Write, index string, holder bson.Raw, none bool) *TakenError {
	e := &TakenError{UserID: w.User.ID, Index: index, none: none}
	key, _ := holder.LookupErr(s.fields.Key)
	switch id, _ := key.StringValueOK(); {
	case !clerk.IsUserID(id):
		e.other = printable(holder.Lookup(mapping.IDField))
	case none:
		e.other = id
	default:
		e.Holder = id
	}
	return e
}

// printable returns the _id of a row of the app's, unless it may be personal data, such as an address.
func printable(id bson.RawValue) string {
	text, isText := id.StringValueOK()
	switch {
	case id.Type == bson.TypeObjectID:
		return id.ObjectID().Hex()
	case isText && regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]*$`).MatchString(text):
		return text
	}
	return "a row whose _id is not shown here"
}

// at returns the value that a row has at a path; nil means null or nothing.
func at(row bson.Raw, path string) *bson.RawValue {
	v, err := row.LookupErr(strings.Split(path, ".")...)
	if err != nil || v.Type == bson.TypeNull {
		return nil
	}
	return &v
}

// same tells whether a value of a row is v.
func same(has bson.RawValue, v any) bool {
	t, data, err := bson.MarshalValue(v)
	return err == nil && t == has.Type && bytes.Equal(data, has.Value)
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
		case a.refused:
			a.result.Err = fmt.Errorf("write user %q: %w whatever its user name: make the indexes on the app's collection "+
				"not unique", a.User.ID, ErrRefused)
		default:
			a.refused, a.err, a.taken = true, nil, 0
			again = append(again, a)
		}
	}
	return again
}

// GiveUp removes from the row of a user the values that the fields of a unique index have and w, which is what Clerk
// says about the user, would replace anyway. So another row can have them. It follows the version rule, and does
// nothing if somebody else writes the row at the same time. The row keeps its version, so w or any newer write completes
// it. Write w next; if that fails, call back, which puts the values back into a row that nobody has written since. back
// is nil if GiveUp removed nothing. Only reconcile may call GiveUp, because it has asked Clerk.
func (s *Users) GiveUp(ctx context.Context, w Write, index string) (back func(context.Context) error, _ error) {
	defer s.rows.Lock(w.User.ID)()
	indexes, row, err := s.uniques(ctx, w.User.ID)
	if err != nil || row == nil {
		return nil, err
	}
	was := readRow(w.User.ID, row)
	values, err := s.fields.Values(w.User, "", time.Now())
	if _, ok := w.takes(was.Clerk.Version); !ok || err != nil {
		return nil, err
	}
	in := func(path string) bool {
		return slices.ContainsFunc(indexes, func(ix database.IndexInfo) bool {
			return ix.Name == index && slices.Contains(ix.Fields, path)
		})
	}
	for _, v := range values {
		path := v.Field.Path
		if has := at(row, path); in(path) && has != nil && !v.Field.Create && !same(*has, v.Value) {
			return s.empty(ctx, was, v.Field, database.Guard(row, path), *has)
		}
	}
	return nil, nil
}

// empty removes the value that a row has in a field, see GiveUp.
func (s *Users) empty(
	ctx context.Context, was found, f *mapping.Field, guard bson.D, has bson.RawValue,
) (back func(context.Context) error, _ error) {
	change := bson.D{{Key: "$unset", Value: bson.D{{Key: f.Path, Value: ""}}}}
	if f.Absent.Null {
		change = bson.D{{Key: "$set", Value: bson.D{{Key: f.Path, Value: nil}}}}
	}
	do := func(ctx context.Context, guard, change bson.D) error {
		u := database.Update{ID: was.ID, Guard: append(slices.Clone(was.guard), guard...), Change: change}
		return s.rows.UpdateEach(ctx, []database.Update{u})[0]
	}
	switch err := do(ctx, guard, change); {
	case errors.Is(err, database.ErrUnmatched):
		return nil, nil
	case database.IsDuplicate(err):
		return nil, fmt.Errorf("write user %q: %w without its %s, which another user has now: make the index partial, "+
			"or sparse", was.ID, ErrRefused, f.Path)
	case err != nil:
		return nil, fmt.Errorf("write user %q: %w", was.ID, err)
	}
	return func(ctx context.Context) error {
		defer s.rows.Lock(was.ID)()
		err := do(ctx, bson.D{{Key: f.Path, Value: nil}}, bson.D{{Key: "$set", Value: bson.D{{Key: f.Path, Value: has}}}})
		if errors.Is(err, database.ErrUnmatched) || database.IsDuplicate(err) {
			return nil
		}
		return err
	}, nil
}
