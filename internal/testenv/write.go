package testenv

import (
	"testing"

	"clerksync/clerk"
	"clerksync/store"
)

// Write writes one user, and fails the test if that fails.
func Write(t testing.TB, s *store.Users, w store.Write) store.Outcome {
	t.Helper()
	r := s.Write(t.Context(), []store.Write{w}, store.All)[0]
	if r.Err != nil {
		t.Errorf("write %s: %v", w.User.ID, r.Err)
	}
	return r.Outcome
}

// Delete deletes one user, and fails the test if that fails.
func Delete(t testing.TB, s *store.Users, id string) store.Outcome {
	t.Helper()
	return Write(t, s, store.Write{User: clerk.User{ID: id}, Deleted: true})
}
