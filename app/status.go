package app

import (
	"context"

	"clerksync/clerk"
	"clerksync/inngest"
	"clerksync/reconcile"
	"clerksync/status"
	"clerksync/webhook"
)

// statusPage returns the page at status.Path, or nil if nobody could open it. api is nil without a key of Clerk's.
func (a *App) statusPage(server inngest.Server, api *clerk.API, functions []string) (*status.Page, error) {
	if a.cfg.AdminToken == "" && a.dev == nil {
		return nil, nil
	}
	o := status.Options{
		Token: a.cfg.AdminToken, Open: a.dev != nil,
		DB: a.db, Users: a.users, History: a.history, Activity: a.activity,
		Inngest: server, Functions: functions, Log: a.log,
	}
	if api != nil {
		o.ClerkUsers = api.Count
		for tier := range a.cfg.Crons() {
			o.Tiers = append(o.Tiers, reconcile.Tier(tier))
		}
	}
	if a.dev != nil {
		o.Play = func(ctx context.Context, what string) error { return a.dev.Play(ctx, a.URL()+webhook.Path, what) }
	}
	return status.New(o)
}
