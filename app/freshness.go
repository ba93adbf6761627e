package app

import (
	"clerksync/config"
	"clerksync/freshness"
	"clerksync/reconcile"
	"clerksync/store/database"

	"github.com/prometheus/client_golang/prometheus"
)

// freshnessTargets returns how old the oldest change of each kind may become. The full tier removes rows too, so it
// stands in for the absent tier if that is off.
func freshnessTargets(c config.Config) freshness.Targets {
	of := c.FreshnessTargets()
	t := freshness.Targets{
		Changes: of[string(reconcile.Recent)], Deletions: of[string(reconcile.Absent)], All: of[string(reconcile.Full)],
	}
	if t.Deletions == 0 {
		t.Deletions = t.All
	}
	return t
}

// newFreshness returns what finds out how fresh the rows are.
func (a *App) newFreshness(reg prometheus.Registerer) *freshness.Freshness {
	return freshness.New(freshness.Options{
		Targets: freshnessTargets(a.cfg), MapID: a.users.MapID(), State: database.NewCheckpoints(a.db),
		Inbox: a.inbox.Table, Log: a.log, Registerer: reg,
	})
}
