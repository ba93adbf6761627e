package app

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"clerksync/clerk"
	"clerksync/inbox"
	"clerksync/internal/testenv"
	"clerksync/store"
	"clerksync/store/database"
	"clerksync/store/mapping"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.mongodb.org/mongo-driver/v2/bson"
)

// gauges returns the values of all gauges, by name.
func gauges(t *testing.T, reg *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]float64{}
	for _, f := range families {
		all[strings.TrimPrefix(f.GetName(), "clerksync_")] = f.GetMetric()[0].GetGauge().GetValue()
	}
	return all
}

// TestCounts: the gauges are what is in the database. A dropped dead letter is none, and a dead letter does not wait.
func TestCounts(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		ctx := t.Context()
		users, table, reg := store.NewUsers(db, mapping.Default()), inbox.NewTable(db), prometheus.NewRegistry()
		c := newCounts(users, table, reg)
		if got := gauges(t, reg); len(got) != 0 {
			t.Errorf("before anything was read: got %v", got)
		}
		read := func() map[string]float64 {
			t.Helper()
			n, err := c.read(ctx)
			if err != nil {
				t.Fatal(err)
			}
			c.last.Store(&n)
			return gauges(t, reg)
		}
		nothing := map[string]float64{
			"users": 0, "tombstones": 0, "dead_letters": 0, "inbox_waiting": 0, "inbox_oldest_waiting_seconds": 0,
		}
		if d := cmp.Diff(nothing, read()); d != "" {
			t.Errorf("an empty database (-want +got):\n%s", d)
		}
		testenv.Delete(t, users, testenv.UserID(time.Now(), 1))
		for i, res := range users.Write(ctx, []store.Write{
			{User: clerk.User{ID: testenv.UserID(time.Now(), 2)}},
			{User: clerk.User{ID: testenv.UserID(time.Now(), 3)}},
		}, store.All) {
			if res.Err != nil {
				t.Fatal(i, res.Err)
			}
		}
		now := time.Now()
		failure := bson.D{{Key: "error", Value: "x"}, {Key: "at", Value: now}}
		for i, doc := range []bson.D{
			{{Key: "due_at", Value: now}, {Key: "received_at", Value: now.Add(-time.Minute)}},
			{{Key: "due_at", Value: now.Add(time.Hour)}, {Key: "received_at", Value: now.Add(-time.Hour)}},
			{{Key: "failure", Value: failure}, {Key: "received_at", Value: now.Add(-24 * time.Hour)}},
			{{Key: "failure", Value: append(failure, bson.E{Key: "dropped_at", Value: now})}},
		} {
			row := append(bson.D{{Key: "_id", Value: fmt.Sprint("msg_", i)}}, doc...)
			if _, err := db.Collection("clerksync_inbox").InsertOne(ctx, row); err != nil {
				t.Fatal(err)
			}
		}
		got := read()
		if s := got["inbox_oldest_waiting_seconds"]; s < 3600 || s > 3600+60 {
			t.Errorf("the oldest waits for %v seconds, want an hour", s)
		}
		want := maps.Clone(nothing)
		maps.Copy(want, map[string]float64{
			"users": 2, "tombstones": 1, "dead_letters": 1, "inbox_waiting": 2,
			"inbox_oldest_waiting_seconds": got["inbox_oldest_waiting_seconds"],
		})
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
	})
}

// TestCountsPace: the database is asked every half minute, and a slow one less often. While it fails, the last numbers
// stay and the oldest event gets older.
func TestCountsPace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		reg := prometheus.NewRegistry()
		c := newCounts(nil, inbox.Table{}, reg)
		start := time.Now()
		var mu sync.Mutex
		var at []int // seconds after the start
		took, down := time.Duration(0), error(nil)
		become := func(slow time.Duration, err error) {
			mu.Lock()
			defer mu.Unlock()
			took, down = slow, err
		}
		asked := func() []int {
			mu.Lock()
			defer mu.Unlock()
			return slices.Clone(at)
		}
		c.read = func(context.Context) (counted, error) {
			mu.Lock()
			defer mu.Unlock()
			at = append(at, int(time.Since(start).Seconds()))
			<-time.After(took)
			return counted{users: len(at), pending: inbox.Pending{Events: 1, Oldest: start}}, down
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { c.Run(ctx); close(ended) }()
		wait := func(d time.Duration) { <-time.After(d); synctest.Wait() }

		wait(65 * time.Second)
		become(10*time.Second, nil) // from 90 s on
		wait(250 * time.Second)
		if d := cmp.Diff([]int{0, 30, 60, 90, 90 + 200}, asked()); d != "" {
			t.Errorf("asked after seconds (-want +got):\n%s", d)
		}
		become(0, errors.New("down"))
		before := gauges(t, reg)
		wait(time.Hour)
		after := gauges(t, reg)
		if before["users"] != 5 || after["users"] != 5 || len(asked()) < 10 ||
			after["inbox_oldest_waiting_seconds"] != before["inbox_oldest_waiting_seconds"]+3600 {
			t.Errorf("while it is down: got %v, then %v", before, after)
		}
		stop()
		<-ended
	})
}
