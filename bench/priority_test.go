package bench_test

import (
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

// BenchmarkPriority puts 400 events into an inbox, 8 at a time, while 64 functions read and write rows without a pause:
// through the same 32 connections, and as the service does it, with connections of its own. It reports how many events
// were refused, how long one waited, and how much the functions got done meanwhile. Run it with -benchtime 1x.
func BenchmarkPriority(b *testing.B) {
	uri := externalDatabase(b, "0s")
	own := testenv.Connect(b, uri, "bench_"+strings.ToLower(rand.Text()[:12]))
	client, err := mongo.Connect(options.Client().ApplyURI(uri).SetMaxPoolSize(32).SetTimeout(10 * time.Second))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = client.Disconnect(context.Background()) })
	shared := &database.DB{Database: client.Database(own.Name()), OneProcess: own.OneProcess}
	for name, db := range map[string]*database.DB{"the same connections": shared, "its own connections": own} {
		b.Run(name, func(b *testing.B) {
			if err := inbox.Setup(b.Context(), db); err != nil {
				b.Fatal(err)
			}
			box := inbox.New(inbox.Options{
				DB: db, Sender: taken{}, ResendAfter: time.Hour, Handled: func(string) bool { return true },
				Log: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
			})
			ctx, stop := context.WithCancel(b.Context())
			var run sync.WaitGroup
			defer run.Wait()
			defer stop()
			run.Go(func() { box.Run(ctx, time.Second) })
			var worked atomic.Int64
			busy := make(chan struct{}, 64)
			for f := range 64 {
				run.Go(func() {
					for i := 0; ctx.Err() == nil; i++ {
						id := bson.D{{Key: "_id", Value: fmt.Sprint("user_", f, "_", i%10)}}
						_ = db.Collection("users").FindOne(ctx, id).Err()
						set := bson.D{{Key: "$set", Value: bson.D{{Key: "at", Value: i}}}}
						if _, err := db.Collection("users").UpdateOne(ctx, id, set, options.UpdateOne().SetUpsert(true)); err == nil {
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
			var mu sync.Mutex
			var took []time.Duration
			var refused atomic.Int64
			start, before := time.Now(), worked.Load()
			var clerk sync.WaitGroup
			for k := range 8 {
				clerk.Go(func() {
					for i := range 50 {
						ctx, cancel := context.WithTimeout(ctx, 10*time.Second) // as the webhook's
						sent := time.Now()
						id := fmt.Sprint("msg_", strings.Fields(name)[0], k, "_", i)
						if err := box.Put(ctx, inbox.Event{ID: id, Name: "clerk/user.created", Data: event(b, "priority", i, sent), TS: 1}); err != nil {
							refused.Add(1)
						}
						cancel()
						mu.Lock()
						took = append(took, time.Since(sent))
						mu.Unlock()
					}
				})
			}
			clerk.Wait()
			lasted := time.Since(start).Seconds()
			slices.Sort(took)
			b.ReportMetric(float64(len(took))/lasted, "events/s")
			b.ReportMetric(float64(worked.Load()-before)/lasted, "writes/s")
			b.ReportMetric(float64(refused.Load()), "refused")
			b.ReportMetric(float64(percentile(took, 50).Milliseconds()), "p50-ms")
			b.ReportMetric(float64(percentile(took, 99).Milliseconds()), "p99-ms")
			b.ReportMetric(0, "ns/op")
		})
	}
}
