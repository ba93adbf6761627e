package store

import (
	"context"

	"clerksync/clerk"
)

// Written is a Result.
type Written = Result

// Difference is how a row differs.
type Difference struct {
	UserID  string
	Outcome Outcome
	Fields  []Field
}

// Apply writes one.
func (s *Users) Apply(ctx context.Context, u clerk.User, at When) (Outcome, error) {
	r := s.Write(ctx, []Write{{User: u, When: at}}, All)[0]
	return r.Outcome, r.Err
}

// Delete deletes one.
func (s *Users) Delete(ctx context.Context, id string) (Outcome, error) {
	r := s.Write(ctx, []Write{{User: clerk.User{ID: id}, Deleted: true}}, All)[0]
	return r.Outcome, r.Err
}

// WriteMany writes many.
func (s *Users) WriteMany(ctx context.Context, writes []Write) []Written {
	return s.Write(ctx, writes, All)
}

// Compare compares.
func (s *Users) Compare(ctx context.Context, writes []Write) ([]Difference, error) {
	diffs := make([]Difference, len(writes))
	for i, r := range s.Write(ctx, writes, DryRun) {
		if r.Err != nil {
			return nil, r.Err
		}
		diffs[i] = Difference{writes[i].User.ID, r.Outcome, r.Fields}
	}
	return diffs, nil
}
