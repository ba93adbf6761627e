package app

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"clerksync/functions"
	"clerksync/inbox"
	"clerksync/internal/testenv"
	"clerksync/store"
	"clerksync/store/mapping"
	"clerksync/trace"
	"clerksync/webhook"

	"github.com/prometheus/client_golang/prometheus"
)

// BenchmarkTraces is what a webhook costs between net/http and the inbox, and what a run costs with its write, without
// traces and with them, the export included.
func BenchmarkTraces(b *testing.B) {
	sink := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
	}))
	defer sink.Close()
	b.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", sink.URL)
	tr, err := trace.New(b.Context(), "", nil, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	for name, traces := range map[string]*traces{"without": nil, "with": {tr}} {
		b.Run("webhook/"+name, func(b *testing.B) {
			h, err := webhook.New(webhook.Options{
				Secrets: []string{testenv.Secret}, Forward: []string{"user.*"}, Answered: traces.answered,
				Put: func(context.Context, inbox.Event) error { return nil },
				Log: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
			})
			if err != nil {
				b.Fatal(err)
			}
			req := testenv.Signed(b, "/", testenv.Secret, "msg_1", time.Now(), []byte(adaSignsUp))
			b.ReportAllocs()
			for b.Loop() {
				r := req.Clone(b.Context())
				if r.Body, err = req.GetBody(); err != nil {
					b.Fatal(err)
				}
				w := httptest.NewRecorder()
				if h.ServeHTTP(w, r); w.Code != http.StatusAccepted {
					b.Fatal(w.Code)
				}
			}
		})
		b.Run("run/"+name, func(b *testing.B) {
			uri := os.Getenv(testenv.MongoURI)
			if uri == "" {
				b.Skipf("%s is not set", testenv.MongoURI)
			}
			db := testenv.Connect(b, uri, "bench_"+strings.ToLower(rand.Text()[:12]))
			fns := &functions.Functions{
				Users: store.NewUsers(db, mapping.Default()), Log: slog.New(slog.DiscardHandler), Wrote: traces.wrote,
				Inbox: inbox.New(inbox.Options{
					DB: db, Log: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
				}),
			}
			if traces != nil {
				fns.Trace = traces.run
				db.ObserveCollections()
				db.Observe(traces.command)
			}
			client, inngest := testenv.NewExecutor(b, func(int) int { return http.StatusOK })
			if err := fns.Register(client, true); err != nil {
				b.Fatal(err)
			}
			_, data, _ := strings.Cut(strings.TrimSuffix(adaSignsUp, "}"), `"data":`)
			n := 0
			b.ReportAllocs()
			for b.Loop() {
				n++
				user := []byte(strings.Replace(data, "user_2traced", fmt.Sprint("user_2traced", n), 1))
				if r := inngest.Run(b, "sync-user-from-clerk", testenv.Event{
					ID: fmt.Sprint("msg_", n), Name: "clerk/user.created", Data: user,
				}); r.Failed {
					b.Fatal(r.Error)
				}
			}
		})
	}
	tr.Close(b.Context())
}
