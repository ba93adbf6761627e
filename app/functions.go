package app

import (
	"clerksync/config"
	"clerksync/functions"
	"clerksync/inbox"
	"clerksync/reconcile"
	"clerksync/store"
)

// allFunctions returns the Inngest functions, without what only a running service has. For their ids alone, users and
// the others may be zero.
func allFunctions(
	c config.Config, own []functions.Function, users *store.Users, claims *store.Welcomes, runs *store.Runs,
	dead inbox.Table, r *reconcile.Reconcile,
) (*functions.Functions, error) {
	f := &functions.Functions{
		Users: users, Runs: runs, InstanceID: c.InstanceID, ForwardPrivateMetadata: c.ForwardPrivateMetadata,
		Own: own, BatchSize: c.Batch.Size, BatchTimeout: c.Batch.Timeout,
	}
	f.Crons = append(f.Crons, functions.Upkeep(
		users.SweepBuried,
		functions.Retention{Name: "tombstones", After: store.TombstoneRetention, Remove: users.ForgetDeleted},
		functions.Retention{Name: "welcome_mails", After: store.TombstoneRetention, Remove: claims.Forget},
		functions.Retention{Name: "runs", After: store.RunRetention, Remove: runs.Forget},
		functions.Retention{Name: "dropped_dead_letters", After: inbox.DroppedRetention, Remove: dead.ForgetDropped},
	))
	if c.SecretKey != "" {
		crons := map[reconcile.Tier]string{}
		for tier, cron := range c.Crons() {
			crons[reconcile.Tier(tier)] = cron
		}
		f.Crons = append(f.Crons, functions.Reconcile(r, crons)...)
	}
	if c.Mail.SMTPURL == "" {
		return f, nil
	}
	m, mistakes := Mailer(c.Mail)
	f.Welcome = &functions.Welcome{Mailer: m, Claims: claims, Unverified: c.Mail.Unverified}
	return f, mistakes.Err()
}

// FunctionIDs returns the ids of all functions that the settings make, own among them.
func FunctionIDs(cfg config.Config, own []functions.Function) ([]string, error) {
	fns, err := allFunctions(cfg, own, nil, &store.Welcomes{}, &store.Runs{}, inbox.Table{}, nil)
	return fns.IDs(), err
}
