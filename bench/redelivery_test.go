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
)

// taken is an Inngest that takes everything and runs nothing, so that events stay in the inbox.
type taken struct{}

func (taken) Send(context.Context, []inbox.Event) error { return nil }

// BenchmarkRedelivery puts 1,000 events into an inbox whose functions clear nothing, and then delivers all of them once more, among 250 new
// ones, 128 at a time, as Clerk does after a trouble. It reports how many were refused, and how long one waited for its answer. Run it with
// -benchtime 1x.
func BenchmarkRedelivery(b *testing.B) {
	uri := externalDatabase(b, "0s")
	for name, db := range map[string]*database.DB{
		"embedded": testenv.Embedded(b),
		"external": testenv.Connect(b, uri, "bench_"+strings.ToLower(rand.Text()[:12])),
	} {
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
			run.Go(func() { box.Run(ctx, time.Second) })
			defer run.Wait()
			defer stop()
			var all []inbox.Event
			for i := range 1250 {
				all = append(all, inbox.Event{ID: fmt.Sprint("msg_", i), Name: "clerk/user.created", Data: event(b, "redelivery", i, time.Now()), TS: 1})
			}
			deliver := func(events []inbox.Event) (refused int64, took []time.Duration) {
				var next, failed atomic.Int64
				var mu sync.Mutex
				var g sync.WaitGroup
				for range 128 {
					g.Go(func() {
						for i := next.Add(1) - 1; i < int64(len(events)); i = next.Add(1) - 1 {
							ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
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
				slices.Sort(took)
				return failed.Load(), took
			}
			if refused, _ := deliver(all[:1000]); refused > 0 {
				b.Fatalf("%d refused at the first delivery", refused)
			}
			b.ResetTimer()
			again := slices.Clone(all)
			slices.SortFunc(again, func(x, y inbox.Event) int { return strings.Compare(x.ID[len(x.ID)-1:]+x.ID, y.ID[len(y.ID)-1:]+y.ID) })
			start := time.Now()
			refused, took := deliver(again)
			b.ReportMetric(float64(len(again))/time.Since(start).Seconds(), "events/s")
			b.ReportMetric(float64(refused), "refused")
			b.ReportMetric(float64(percentile(took, 50).Milliseconds()), "p50-ms")
			b.ReportMetric(float64(percentile(took, 99).Milliseconds()), "p99-ms")
			b.ReportMetric(0, "ns/op")
		})
	}
}
