package bench_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"clerksync/clerk"
	"clerksync/inbox"
	"clerksync/internal/testenv"
	"clerksync/webhook"

	"github.com/prometheus/client_golang/prometheus"
)

// put is an inbox that takes everything at once.
func put(context.Context, inbox.Event) error { return nil }

// discard is a response that only keeps its status.
type discard struct {
	header http.Header
	code   int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
func (d *discard) WriteHeader(code int)        { d.code = code }

// oneWebhook returns what answers one signed webhook of a user of 2.5 KB again and again, and its body.
func oneWebhook(b testing.TB) (answer func(), body []byte) {
	b.Helper()
	h, err := webhook.New(webhook.Options{
		Secrets: []string{testenv.Secret}, Forward: []string{"user.*"}, Put: put, Log: slog.New(slog.DiscardHandler),
		Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		b.Fatal(err)
	}
	body = event(b, "bench", 1, time.Now())
	req := testenv.Signed(b, "/webhooks/clerk", testenv.Secret, "msg_1", time.Now(), body)
	r := bytes.NewReader(body)
	req.Body = io.NopCloser(r)
	w := &discard{header: http.Header{}}
	return func() {
		r.Reset(body)
		if h.ServeHTTP(w, req); w.code != http.StatusAccepted {
			b.Fatal(w.code)
		}
	}, body
}

// BenchmarkWebhook is what a webhook costs between net/http and the inbox, and the parts of it.
func BenchmarkWebhook(b *testing.B) {
	answer, body := oneWebhook(b)
	b.Run("handler", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			answer()
		}
	})
	e, err := clerk.ParseEnvelope(body)
	if err != nil {
		b.Fatal(err)
	}
	for name, part := range map[string]func() error{
		"envelope": func() error { _, err := clerk.ParseEnvelope(body); return err },
		"secrets":  func() error { _, err := clerk.WithoutSecrets(e.Data, false); return err },
		"user":     func() error { _, err := clerk.ParseUser(e.Data); return err },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := part(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
