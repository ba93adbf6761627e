package reconcile_test

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"clerksync/clerk"
	"clerksync/reconcile"
	"clerksync/store"
)

type oneUser struct{}

func (oneUser) Count(context.Context) (int, error)                   { return 1, nil }
func (oneUser) CountCreated(context.Context, time.Time) (int, error) { return 0, nil }
func (oneUser) ListCreated(context.Context, string) (clerk.Page, error) {
	return clerk.Page{Users: []clerk.User{{ID: "user_a"}}, At: 1, AnsweredAt: 2}, nil
}

type refusing struct{}

func (refusing) Write(_ context.Context, ws []store.Write, _ store.Mode) []store.Result {
	rs := make([]store.Result, len(ws))
	for i := range rs {
		rs[i].Err = store.ErrRefused
	}
	return rs
}

type noState struct{}

func (noState) Load(context.Context, string, any) (bool, error) { return false, nil }
func (noState) Save(context.Context, string, any) error         { return nil }
func (noState) Remove(context.Context, string) error            { return nil }

// TestRefusedUserAloneInPageStopsBackfill: the only user of a page whom a unique index of the app's refuses was taken
// for a database that is down, and ended every run at that page.
func TestRefusedUserAloneInPageStopsBackfill(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		b := reconcile.Backfill{API: oneUser{}, Users: refusing{}, Checkpoints: noState{}, Log: slog.New(slog.DiscardHandler)}
		got, err := b.Run(t.Context())
		if err != nil || got.Failed != 1 {
			t.Errorf("after %s: got %+v, %v, want it counted as failed", time.Since(start), got, err)
		}
	})
}
