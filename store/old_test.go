package store_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"clerksync/internal/testenv"
	"clerksync/store"
)

// TestForget: old tombstones and claims go, a bounded number at a time; new ones stay.
func TestForget(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *store.DB) {
		s, w := users(t, db), store.NewWelcomes(db)
		for i := range 5 {
			id := fmt.Sprint("user_", i)
			testenv.Delete(t, s, id)
			if _, err := w.Claim(t.Context(), id, "run"); err != nil {
				t.Fatal(err)
			}
		}
		past, future := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
		for _, step := range []struct {
			before time.Time
			want   int
		}{{past, 0}, {future, 3}, {future, 2}, {future, 0}} {
			n, err := s.ForgetDeleted(t.Context(), step.before, 3)
			m, err2 := w.Forget(t.Context(), step.before, 3)
			if n != step.want || m != step.want || errors.Join(err, err2) != nil {
				t.Errorf("got %d tombstones and %d claims, %v, want %d", n, m, errors.Join(err, err2), step.want)
			}
		}
		if dead, err := s.IsDeleted(t.Context(), "user_0"); dead || err != nil {
			t.Errorf("got %v, %v, want it forgotten", dead, err)
		}
	})
}
