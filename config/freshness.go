package config

import (
	"time"

	"github.com/robfig/cron/v3"
)

const (
	// defaultTarget is the least default of FRESHNESS_TARGET.
	defaultTarget = 10 * time.Minute
	// spare is what the recent tier may take besides the time between two runs: it proves nothing of the last minute,
	// and it takes a moment.
	spare = 2 * time.Minute
	// leastRuns and leastTime are how much of a cron is looked at to find the longest time between two runs: the days
	// of a month, and the hours of a week.
	leastRuns, leastTime = 40, 8 * 24 * time.Hour
)

// FreshnessTargets returns, for each tier that runs by itself, how old the oldest change may become that is not in the
// rows although that tier looks for it: for the recent tier FRESHNESS_TARGET. For the others two runs and an hour may
// pass. There are none without a Clerk key.
func (c Config) FreshnessTargets() map[string]time.Duration {
	all := map[string]time.Duration{}
	if c.SecretKey == "" {
		return all
	}
	for tier, cron := range c.Crons() {
		switch gap := longestGap(cron); {
		case gap == 0:
		case tier != "recent":
			all[tier] = 2*gap + time.Hour
		case c.FreshnessTarget != nil:
			all[tier] = *c.FreshnessTarget
		default:
			all[tier] = max(defaultTarget, 2*gap)
		}
	}
	return all
}

// leastTarget returns the least FRESHNESS_TARGET that the recent tier can keep.
func (c Config) leastTarget() time.Duration {
	if isOff(c.Reconcile.RecentCron) {
		return time.Second
	}
	return longestGap(c.Reconcile.RecentCron) + spare
}

// longestGap returns the longest time between two runs of a cron, or 0 if it never runs or is none.
func longestGap(expression string) (gap time.Duration) {
	if !isCron(expression) || expression == "" || isOff(expression) {
		return 0
	}
	schedule, _ := cron.ParseStandard(expression)        // isCron has read it
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) // any year would do
	last := schedule.Next(start)
	for n := 0; n < leastRuns || last.Sub(start) < leastTime; n++ {
		next := schedule.Next(last)
		if next.IsZero() || last.IsZero() {
			return gap
		}
		gap, last = max(gap, next.Sub(last)), next
	}
	return gap
}
