package main

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime/pprof"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"clerksync/config"

	"clerksync/functions"

	"github.com/inngest/inngestgo"
)

// TestRegistrationLeaks: registering again and again leaves nothing behind, whatever Inngest answers. A registration
// without an answer once left a goroutine, every 6 seconds; one with an answer two of them and a connection.
func TestRegistrationLeaks(t *testing.T) {
	for name, tc := range map[string]struct {
		answer func(w http.ResponseWriter, r *http.Request)
		err    string
	}{
		"it takes them":      {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"ok":true}`) }, ""},
		"it refuses them":    {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, `{"error":"not today"}`, 400) }, "not today"},
		"it does not answer": {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "did not answer in time"},
		"it takes them, and does not say all of it": {func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, `{"ok`)
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}, ""},
		"it breaks the connection": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "cannot be reached"},
	} {
		t.Run(name, func(t *testing.T) {
			var connections atomic.Int64
			mux := http.NewServeMux()
			mux.HandleFunc("GET /health", func(http.ResponseWriter, *http.Request) {})
			mux.HandleFunc("POST /fn/register", func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body) // so that it learns of a client that hangs up
				tc.answer(w, r)
			})
			inngest := httptest.NewUnstartedServer(mux)
			inngest.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
			inngest.Config.ConnState = func(_ net.Conn, s http.ConnState) {
				switch s {
				case http.StateNew:
					connections.Add(1)
				case http.StateClosed:
					connections.Add(-1)
				}
			}
			inngest.Start()
			defer inngest.Close()
			defer inngest.CloseClientConnections()
			settings := good(t)
			settings["INNGEST_DEV"] = inngest.URL
			cfg, err := config.Read(environ(settings))
			if err != nil {
				t.Fatal(err)
			}
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			a := &app{cfg: cfg, log: slog.New(slog.DiscardHandler), listener: listener}
			defer a.close(t.Context())
			if err := a.registerBy(t.Context(), 100*time.Millisecond, func(c inngestgo.Client) error { return (&functions.Functions{}).Register(c) }); err != nil {
				t.Fatal(err)
			}
			for range 5 {
				err := a.registerOnce(t.Context())
				if (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
					t.Errorf("got %v, want %q", err, tc.err)
				}
			}
			until(t, "the registrations end", func() bool {
				var stacks bytes.Buffer
				if err := pprof.Lookup("goroutine").WriteTo(&stacks, 2); err != nil {
					t.Fatal(err)
				}
				return !strings.Contains(stacks.String(), "outOfBandSync")
			})
			if n := connections.Load(); n > 2 {
				t.Errorf("%d connections to Inngest are open, want them to be used again", n)
			}
		})
	}
}

// TestStopWhileRegistering: a registration that is under way when the service ends neither holds up the end nor is
// called a failure.
func TestStopWhileRegistering(t *testing.T) {
	t.Parallel()
	begun := make(chan struct{})
	var once sync.Once
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("POST /fn/register", func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		once.Do(func() { close(begun) })
		<-r.Context().Done()
	})
	inngest := httptest.NewServer(mux)
	defer inngest.Close()
	settings := good(t)
	settings["INNGEST_DEV"] = inngest.URL
	s := serve(t, settings)
	<-begun
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	if strings.Contains(s.log.String(), "cannot be registered") {
		t.Errorf("it logged\n%s", s.log)
	}
}
