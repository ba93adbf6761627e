package reconcile_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"clerksync/clerk"
	"clerksync/internal/testenv"
	"clerksync/reconcile"
	"clerksync/store/database"

	"github.com/prometheus/client_golang/prometheus"
)

// TestInstanceOfWebhooks: the instance that the first verified webhook names is kept at once, and then a key of another
// is refused.
func TestInstanceOfWebhooks(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		state := database.NewCheckpoints(db)
		check := func(key, want string) error {
			fake := testenv.NewClerkAPI(t)
			fake.Instance = key
			return reconcile.CheckInstance(t.Context(), api(t, fake, 0), state, want, false)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var log bytes.Buffer
		watch := reconcile.NewWatch(state, slog.New(slog.NewTextHandler(&log, nil)), prometheus.NewRegistry())
		ended := make(chan struct{})
		go func() { defer close(ended); watch.Run(ctx) }()
		watch.Verified(time.Now(), "")
		watch.Verified(time.Now(), "ins_ours")
		watch.Verified(time.Now(), "ins_other")
		for deadline := time.Now().Add(20 * time.Second); !errors.Is(check("ins_other", ""), clerk.ErrKey); {
			if time.Now().After(deadline) {
				t.Fatal("the instance is not kept")
			}
		}
		cancel()
		<-ended
		for name, tc := range map[string]struct{ key, want, err string }{
			"ours":                     {"ins_ours", "", ""},
			"another":                  {"ins_other", "", "the users here are of ins_ours"},
			"another that the app set": {"ins_other", "ins_other", ""},
			"Clerk does not tell":      {"", "", ""},
		} {
			if err := check(tc.key, tc.want); (err == nil) != (tc.err == "") || err != nil &&
				!strings.Contains(err.Error(), tc.err) {
				t.Errorf("%s: got %v, want %q", name, err, tc.err)
			}
		}

		// The next process: what is kept stays, and that webhooks are of another instance is said.
		ctx, cancel = context.WithCancel(t.Context())
		cancel()
		watch = reconcile.NewWatch(state, slog.New(slog.NewTextHandler(&log, nil)), prometheus.NewRegistry())
		watch.Verified(time.Now(), "ins_other")
		watch.Run(ctx)
		if err := check("ins_ours", ""); err != nil {
			t.Errorf("ours is refused: %v", err)
		}
		if n := strings.Count(log.String(), "set CLERK_INSTANCE_ID"); n != 1 {
			t.Errorf("it is said %d times, want once: %s", n, &log)
		}
	})
}
