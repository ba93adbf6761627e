package config_test

import (
	"strings"
	"testing"
	"time"

	"clerksync/config"

	"github.com/google/go-cmp/cmp"
)

// TestFreshnessTargets: how old changes may become follows from when the tiers run.
func TestFreshnessTargets(t *testing.T) {
	t.Parallel()
	const minute, hour = time.Minute, time.Hour
	type targets = map[string]time.Duration
	for name, tc := range map[string]struct {
		settings []string
		want     targets
		mistake  string
	}{
		"without a key": {[]string{"CLERK_SECRET_KEY="}, targets{}, ""},
		"defaults":      {nil, targets{"recent": 10 * minute, "absent": 3 * hour, "full": 49 * hour}, ""},
		"set": {
			[]string{"FRESHNESS_TARGET=1h"}, targets{"recent": hour, "absent": 3 * hour, "full": 49 * hour}, "",
		},
		"the tiers run seldom": {
			[]string{
				"RECONCILE_RECENT_CRON=0 * * * *", "RECONCILE_ABSENT_CRON=0 3 * * 1", "RECONCILE_CRON=0 3 1 * *",
			},
			targets{"recent": 2 * hour, "absent": 2*7*24*hour + hour, "full": 2*31*24*hour + hour},
			"",
		},
		"only by day": {
			[]string{"RECONCILE_RECENT_CRON=*/5 8-17 * * *", "RECONCILE_ABSENT_CRON=off", "RECONCILE_CRON=OFF"},
			targets{"recent": 2 * (14*hour + 5*minute)},
			"",
		},
		"never": {
			[]string{"RECONCILE_RECENT_CRON=0 0 31 2 *", "RECONCILE_ABSENT_CRON=off", "RECONCILE_CRON=off"},
			targets{},
			"",
		},
		"too short": {
			[]string{"FRESHNESS_TARGET=5m"}, nil, "FRESHNESS_TARGET is shorter than the recent tier can keep: " +
				"set it to 7m0s or more, or let RECONCILE_RECENT_CRON run more often",
		},
		"nothing": {
			[]string{"FRESHNESS_TARGET=0"}, nil, "FRESHNESS_TARGET is shorter than the recent tier can keep",
		},
		"not a time": {[]string{"FRESHNESS_TARGET=10"}, nil, "FRESHNESS_TARGET cannot be read: set it to a duration"},
		"bad cron": {
			[]string{"FRESHNESS_TARGET=10m", "RECONCILE_RECENT_CRON=x"},
			targets{"absent": 3 * hour, "full": 49 * hour},
			"",
		},
		"tier is off": {
			[]string{"FRESHNESS_TARGET=10m", "RECONCILE_RECENT_CRON=off"},
			targets{"absent": 3 * hour, "full": 49 * hour},
			"",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, mistakes := config.Read(append([]string{"CLERK_SECRET_KEY=sk_test_x"}, tc.settings...), nil)
			text := ""
			if err := append(mistakes, c.Check()...).Only("FRESHNESS_").Err(); err != nil {
				text = err.Error()
			}
			if !strings.HasPrefix(text, tc.mistake) || (text == "") != (tc.mistake == "") {
				t.Errorf("got %q, want %q", text, tc.mistake)
			}
			if got := c.FreshnessTargets(); tc.mistake == "" && !cmp.Equal(tc.want, got) {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}
