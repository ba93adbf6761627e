package functions_test

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"clerksync/clerk"
	"clerksync/functions"
	"clerksync/internal/testenv"
	"clerksync/reconcile"
	"clerksync/store"
	"clerksync/store/database"
	"clerksync/store/mapping"
)

// TestReconcile: a run goes page by page, each a step that is tried again alone, until all is equal; one that the brake
// holds, or whose key is not accepted, fails at once.
func TestReconcile(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		tier     reconcile.Tier
		change   func(fake *testenv.ClerkAPI, people []testenv.ClerkUser)
		want     reconcile.Found
		err      string
		attempts int
	}{
		// The first look, a page of no rows, three pages of users; each is a request of Inngest's, and the last one
		// returns.
		"full": {
			tier: reconcile.Full, want: reconcile.Found{Users: 230, Rows: 0, Missing: 230}, attempts: 1 + 1 + 3 + 1,
		},
		"absent": {tier: reconcile.Absent, attempts: 1 + 1 + 1},
		"recent": {tier: reconcile.Recent, attempts: 1 + 1 + 1},
		"a step fails": {
			tier: reconcile.Full, want: reconcile.Found{Users: 230, Missing: 230}, attempts: 1 + 1 + 3 + 1 + 1,
			change: func(fake *testenv.ClerkAPI, _ []testenv.ClerkUser) {
				var once atomic.Bool
				fake.Fail = func(r *http.Request) int {
					if r.URL.Query().Get("starting_after") != "" && once.CompareAndSwap(false, true) {
						return http.StatusTeapot
					}
					return 0
				}
			},
		},
		"wrong key": {
			tier: reconcile.Full, err: "the secret key is not accepted", attempts: 2,
			change: func(fake *testenv.ClerkAPI, _ []testenv.ClerkUser) { fake.Key = "sk_live_other" },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fake := testenv.NewClerkAPI(t)
			people := testenv.People(230)
			fake.Put(people...)
			if tc.change != nil {
				tc.change(fake, people)
			}
			api, err := clerk.NewAPI(clerk.APIOptions{
				SecretKey: testenv.ClerkKey, URL: fake.URL, Share: 1, PageSize: 100,
			})
			if err != nil {
				t.Fatal(err)
			}
			db := testenv.NewMemory().Connect(t, "test", nil, nil)
			r := &reconcile.Reconcile{
				API: api, Users: store.NewUsers(db, mapping.Default()), State: database.NewCheckpoints(db),
				Log: slog.New(slog.DiscardHandler), MaxDelete: 1,
			}
			ids := map[reconcile.Tier]string{
				reconcile.Recent: "reconcile-users-with-clerk-recent",
				reconcile.Absent: "reconcile-users-with-clerk-absent", reconcile.Full: "reconcile-users-with-clerk",
			}
			f := setup(t, functions.Functions{
				Crons: functions.Reconcile(r, map[reconcile.Tier]string{tc.tier: "* * * * *"}),
			})
			got := f.Run(t, ids[tc.tier], testenv.Event{
				ID: "01J", Name: "inngest/scheduled.timer", Data: []byte(`{"cron":"x"}`),
			})
			var p reconcile.Progress
			if got.Failed != (tc.err != "") || tc.err == "" && (json.Unmarshal(got.Output, &p) != nil || !p.Done() ||
				p.Found != tc.want) {
				t.Errorf("got %s %s, want %+v", got.Output, got.Error, tc.want)
			}
			if !strings.Contains(got.Error, tc.err) || got.Attempts != tc.attempts {
				t.Errorf("got %q in %d attempts, want %q in %d", got.Error, got.Attempts, tc.err, tc.attempts)
			}
		})
	}
}
