package bench_test

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"clerksync/inbox"
	"clerksync/internal/testenv"
	"clerksync/store/database"

	"github.com/prometheus/client_golang/prometheus"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// taken is an Inngest that takes everything and runs nothing, so that events stay in the inbox.
func taken(context.Context, []inbox.Event) error { return nil }

// runInbox runs an inbox on a database until the benchmark is over.
func runInbox(b *testing.B, db *database.DB) *inbox.Inbox {
	b.Helper()
	if err := inbox.NewTable(db).Setup(b.Context()); err != nil {
		b.Fatal(err)
	}
	box := inbox.New(inbox.Options{
		DB: db, Send: taken, ResendAfter: time.Hour, Handled: func(string) bool { return true },
		Log: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	})
	ctx, stop := context.WithCancel(b.Context())
	var run sync.WaitGroup
	run.Go(func() { box.Run(ctx, time.Second) })
	b.Cleanup(func() { stop(); run.Wait() })
	return box
}

func inboxEvents(b *testing.B, prefix string, n int) []inbox.Event {
	b.Helper()
	all := make([]inbox.Event, n)
	for i := range all {
		all[i] = inbox.Event{
			ID: fmt.Sprint("msg_", prefix, i), Name: "clerk/user.created", Data: event(b, prefix, i, time.Now()), TS: 1,
		}
	}
	return all
}

// deliver puts events into an inbox, as many at a time as there are senders. It returns how many were refused, how long
// each took (sorted), and how long all of them took.
func deliver(ctx context.Context, box *inbox.Inbox, events []inbox.Event, senders int) (
	refused int64, took []time.Duration, lasted time.Duration,
) {
	var next, failed atomic.Int64
	var mu sync.Mutex
	var g sync.WaitGroup
	begin := time.Now()
	for range senders {
		g.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(events)); i = next.Add(1) - 1 {
				ctx, cancel := context.WithTimeout(ctx, 10*time.Second) // as long as Clerk waits for a webhook
				start := time.Now()
				if err := box.Put(ctx, events[i]); err != nil {
					failed.Add(1)
				}
				cancel()
				mu.Lock()
				took = append(took, time.Since(start))
				mu.Unlock()
			}
		})
	}
	g.Wait()
	lasted = time.Since(begin)
	slices.Sort(took)
	return failed.Load(), took, lasted
}

func reportDelivery(b *testing.B, refused int64, took []time.Duration, lasted time.Duration) {
	b.Helper()
	b.ReportMetric(float64(len(took))/lasted.Seconds(), "events/s")
	b.ReportMetric(float64(refused), "refused")
	b.ReportMetric(float64(percentile(took, 50).Milliseconds()), "p50-ms")
	b.ReportMetric(float64(percentile(took, 99).Milliseconds()), "p99-ms")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkRedelivery puts 1,000 events into an inbox whose functions clear nothing. Then it delivers all of them once
// more, among 250 new ones, 128 at a time, as Clerk does after an outage. Run it with -benchtime 1x.
func BenchmarkRedelivery(b *testing.B) {
	uri := externalDatabase(b, "0s")
	for name, db := range map[string]*database.DB{
		"embedded": testenv.Embedded(b),
		"external": testenv.Connect(b, uri, "bench_"+strings.ToLower(rand.Text()[:12])),
	} {
		b.Run(name, func(b *testing.B) {
			box := runInbox(b, db)
			all := inboxEvents(b, "", 1250)
			if refused, _, _ := deliver(b.Context(), box, all[:1000], 128); refused > 0 {
				b.Fatalf("%d refused at the first delivery", refused)
			}
			b.ResetTimer()
			slices.SortFunc(all, func(x, y inbox.Event) int { // by their last digits: old and new ones are mixed
				return cmp.Or(cmp.Compare(x.ID[len(x.ID)-1], y.ID[len(y.ID)-1]), cmp.Compare(x.ID, y.ID))
			})
			refused, took, lasted := deliver(b.Context(), box, all, 128)
			reportDelivery(b, refused, took, lasted)
		})
	}
}

// BenchmarkPriority puts 400 events into an inbox, 8 at a time, while 64 functions read and write rows without a pause:
// through the same 32 connections, and as the service does it, with connections of its own. It also reports how much
// the functions got done meanwhile. Run it with -benchtime 1x.
func BenchmarkPriority(b *testing.B) {
	uri := externalDatabase(b, "0s")
	own := testenv.Connect(b, uri, "bench_"+strings.ToLower(rand.Text()[:12]))
	client, err := mongo.Connect(options.Client().ApplyURI(uri).SetMaxPoolSize(32).SetTimeout(10 * time.Second))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = client.Disconnect(context.Background()) })
	shared := &database.DB{Database: client.Database(own.Name()), OneProcess: own.OneProcess, Log: own.Log}
	for name, db := range map[string]*database.DB{"the same connections": shared, "its own connections": own} {
		b.Run(name, func(b *testing.B) {
			box := runInbox(b, db)
			ctx, stop := context.WithCancel(b.Context())
			var run sync.WaitGroup
			defer run.Wait()
			defer stop()
			var worked atomic.Int64
			busy := make(chan struct{}, 64)
			users := db.Collection("users")
			for f := range 64 {
				run.Go(func() {
					for i := 0; ctx.Err() == nil; i++ {
						id := bson.D{{Key: "_id", Value: fmt.Sprint("user_", f, "_", i%10)}}
						_ = users.FindOne(ctx, id).Err()
						set := bson.D{{Key: "$set", Value: bson.D{{Key: "at", Value: i}}}}
						if _, err := users.UpdateOne(ctx, id, set, options.UpdateOne().SetUpsert(true)); err == nil {
							worked.Add(1)
						}
						if i == 10 {
							busy <- struct{}{}
						}
					}
				})
			}
			for range 64 {
				<-busy
			}
			before := worked.Load()
			refused, took, lasted := deliver(ctx, box, inboxEvents(b, strings.Fields(name)[0], 400), 8)
			b.ReportMetric(float64(worked.Load()-before)/lasted.Seconds(), "writes/s")
			reportDelivery(b, refused, took, lasted)
		})
	}
}
