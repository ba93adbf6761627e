package functions

import (
	"context"
	"strings"
	"testing"
	"time"
)

// TestJitterOverFiveMinutes: Inngest refuses all functions of an app for one such jitter, and says so only when it is
// asked to register them.
func TestJitterOverFiveMinutes(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		jitter time.Duration
		want   string
	}{
		"none":         {0, ""},
		"five minutes": {5 * time.Minute, ""},
		"more":         {5*time.Minute + time.Second, `"nightly" has a jitter of 5m1s`},
	} {
		err := check([]Function{{ID: "nightly", cron: "0 3 * * *", jitter: tc.jitter, Run: func(context.Context, Event) (any, error) { return nil, nil }}})
		if (err != nil) != (tc.want != "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %q", name, err, tc.want)
		}
	}
}
