package store_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"clerksync/clerk"
	"clerksync/internal/testenv"
	"clerksync/store"
	"clerksync/store/mapping"
)

// TestDatabaseCalls holds how many calls of the database a list of writes takes; one more is cleared from the inbox by
// an event's function. TestOneTakenNameRewritesTheBulk is its last rows: one user name that was taken made 500 updates
// of 500 single ones, and so did one row that another process had written meanwhile.
func TestDatabaseCalls(t *testing.T) {
	t.Parallel()
	list := func(n int, name string, at clerk.Millis) operation {
		var all operation
		for i := range n {
			all = append(all, of(ada(at, func(u *clerk.User) {
				u.ID, u.Username = fmt.Sprint("user_", i), fmt.Sprint(name, i)
			})))
		}
		return all
	}
	deletions := func(n int) operation {
		var all operation
		for i := range n {
			all = append(all, store.Write{User: clerk.User{ID: fmt.Sprint("user_", i)}, Deleted: true})
		}
		return all
	}
	foreignName := of(ada(1, func(u *clerk.User) { u.ID, u.Username = "user_x", "new-7" }))
	for name, tc := range map[string]struct {
		before, op operation
		meanwhile  operation // by another process, after the first read
		want       string
	}{
		"one is created":  {op: list(1, "a-", 1), want: "find find insert find"},
		"one is updated":  {before: list(1, "a-", 1), op: list(1, "b-", 2), want: "find update find"},
		"one is stale":    {before: list(1, "a-", 2), op: list(1, "b-", 1), want: "find find"},
		"one is deleted":  {before: list(1, "a-", 1), op: deletions(1), want: "insert delete"},
		"500 are created": {op: list(500, "a-", 1), want: "find find insert find"},
		"500 are updated": {before: list(500, "a-", 1), op: list(500, "b-", 2), want: "find update find"},
		"all kinds": {
			before: list(250, "a-", 1), op: slices.Concat(list(400, "b-", 2), deletions(100)),
			want: "insert delete find find insert update find",
		},
		"500, a name is taken": {
			before: append(list(500, "old-", 1), foreignName), op: list(500, "new-", 2),
			want: "find update find update find",
		},
		"500 new ones, a name is taken": {
			before: operation{foreignName}, op: list(500, "new-", 2), want: "find find insert find insert find",
		},
		"500, one is written by another meanwhile": {
			before: list(500, "a-", 1), op: list(500, "b-", 2), meanwhile: list(1, "c-", 3),
			want: "find update find find find",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lab := testenv.NewLab(t, 2)
			p, s := lab.Processes[0], users(t, lab.Processes[0].DB)
			if err := tc.before.do(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			var calls []string
			ended, err := p.Start(t.Context(), func(ctx context.Context) error { return tc.op.do(ctx, s) })
			for !ended {
				calls = append(calls, p.Call())
				if ended, err = p.Step(testenv.None); len(calls) == 1 && len(tc.meanwhile) > 0 {
					other := store.NewUsers(lab.Processes[1].DB, mapping.Default())
					if err := tc.meanwhile.do(t.Context(), other); err != nil {
						t.Fatal(err)
					}
				}
			}
			if got := strings.Join(calls, " "); err != nil || got != tc.want {
				t.Errorf("got %v, %s, want %s", err, got, tc.want)
			}
		})
	}
}
