package activity

import (
	"testing"
	"time"

	"clerksync/clerk"
	"clerksync/functions"
	"clerksync/internal/testenv"
	"clerksync/store"
	"clerksync/webhook"
)

// BenchmarkActivity is what this package adds to a webhook, and to the work for its event, with many at once and two
// viewers who do not look.
func BenchmarkActivity(b *testing.B) {
	a := process(testenv.NewMemory().Connect(b, "test", nil, nil), &clock{noon()})
	a.Subscribe()
	a.Subscribe()
	b.Run("webhook", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				a.Webhook(webhook.Answer{ID: "msg_1", Code: 202, Reason: "durable", At: noon()})
			}
		})
	})
	b.Run("wrote", func(b *testing.B) {
		b.ReportAllocs()
		w := functions.Wrote{
			Type: clerk.UserUpdated, Outcome: store.Updated, At: noon().Add(-time.Second), Received: noon(),
		}
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				a.Wrote(w)
			}
		})
	})
}
