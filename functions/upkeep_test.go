package functions_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"clerksync/functions"
	"clerksync/internal/testenv"

	"github.com/google/go-cmp/cmp"
)

// TestUpkeep: each kind is removed batch by batch until there is no more, and all tombstones are looked at, even if the
// indexes cannot be mended.
func TestUpkeep(t *testing.T) {
	t.Parallel()
	left := 1200
	var limits []int
	old := functions.Retention{
		Name: "records", After: 48 * time.Hour,
		Remove: func(_ context.Context, before time.Time, limit int) (int, error) {
			if age := time.Since(before); age < 47*time.Hour || age > 49*time.Hour {
				t.Errorf("removes what is older than %v, want 48 h", age)
			}
			limits = append(limits, limit)
			n := min(limit, left)
			left -= n
			return n, nil
		},
	}
	var looks []string
	deleted := func(_ context.Context, after string, limit int) (int, string, error) {
		if left != 1200 {
			t.Error("the tombstones go before the rows beside them")
		}
		looks = append(looks, after)
		return map[string]int{"": 2, "user_m": 0, "user_p": 1}[after],
			map[string]string{"": "user_m", "user_m": "user_p"}[after], nil
	}
	mended := 0
	mend := func(context.Context) error {
		mended++
		return errors.New("two rows have one key")
	}
	f := setup(t, functions.Functions{Crons: []functions.Cron{functions.Upkeep(mend, deleted, old)}})
	r := f.Run(t, "clean-up-old-records", testenv.Event{
		ID: "01J", Name: "inngest/scheduled.timer", Data: []byte(`{"cron":"x"}`),
	})
	if got, want := string(r.Output), `{"records":1200,"rows_of_deleted_users":3}`; got != want {
		t.Errorf("got %s, %s, want %s", got, r.Error, want)
	}
	if mended != 1 {
		t.Errorf("mended the indexes %d times, want once", mended)
	}
	if d := cmp.Diff([]string{"", "user_m", "user_p"}, looks); d != "" {
		t.Errorf("looks (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]int{500, 500, 500}, limits); d != "" {
		t.Errorf("limits (-want +got):\n%s", d)
	}
}
