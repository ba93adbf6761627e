package store

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"clerksync/clerk"

	"go.mongodb.org/mongo-driver/v2/mongo"
)

// Difference is how a row differs from what Clerk says.
type Difference struct {
	UserID  string
	Outcome Outcome // of the write that would mend it
	Fields  []Field // of an Updated
}

// Field is one that differs.
type Field struct{ Name, Row, Clerk string }

// Compare returns what WriteMany would do with each of the writes, and does nothing.
func (s *Users) Compare(ctx context.Context, writes []Write) ([]Difference, error) {
	b := &bulk{Users: s, writes: writes}
	all := make([]int, len(writes))
	for i := range writes {
		all[i] = i
	}
	ids := b.ids(all)
	stones, err := s.tombstonesOf(ctx, ids)
	if err != nil {
		return nil, fmt.Errorf("look for tombstones: %w", Redact(err))
	}
	rows, err := s.GetMany(ctx, ids)
	if err != nil {
		return nil, err
	}
	diffs := make([]Difference, len(writes))
	for i, w := range writes {
		id := w.User.ID
		if diffs[i].UserID = id; w.Deleted || stones[id] {
			diffs[i].Outcome = Deleted
			continue
		}
		r, outcome := plan(rows[id], w)
		if diffs[i].Outcome = outcome; outcome == Updated && !onlySuffix(rows[id], r, w.User) {
			diffs[i].Fields = fields(rows[id], r)
		} else if outcome == Updated {
			diffs[i].Outcome = Unchanged
		}
	}
	return diffs, nil
}

// onlySuffix tells whether two rows differ only in the suffix that a user name got because Clerk's own was taken.
func onlySuffix(was, r Row, u clerk.User) bool {
	for _, name := range names(u)[1:] {
		if was.Username == name {
			r.Username = name
			return same(was, r)
		}
	}
	return false
}

func (s *Users) tombstonesOf(ctx context.Context, ids []string) (map[string]bool, error) {
	if !s.db.OneProcess {
		return readIDs(ctx, s.tombstones, byIDs(ids))
	}
	stones := map[string]bool{}
	var mu sync.Mutex
	return stones, sideBySide(ids, func(id string) error {
		err := s.tombstones.FindOne(ctx, byID(id)).Err()
		if errors.Is(err, mongo.ErrNoDocuments) {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		stones[id] = true
		return err
	})
}

func fields(was, r Row) []Field {
	var all []Field
	add := func(name string, a, b any) {
		if a != b {
			all = append(all, Field{name, fmt.Sprint(a), fmt.Sprint(b)})
		}
	}
	add("email", was.Email, r.Email)
	add("full_name", was.FullName, r.FullName)
	add("profile_picture", was.ProfilePicture, r.ProfilePicture)
	add("username", was.Username, r.Username)
	add("clerk.created_at", was.Clerk.CreatedAt.UTC(), r.Clerk.CreatedAt)
	add("clerk.banned", was.Clerk.Banned, r.Clerk.Banned)
	add("clerk.locked", was.Clerk.Locked, r.Clerk.Locked)
	add("clerk.deprovisioned", was.Clerk.Deprovisioned, r.Clerk.Deprovisioned)
	add("clerk.email_verified", was.Clerk.EmailVerified, r.Clerk.EmailVerified)
	return all
}
