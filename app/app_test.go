package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"clerksync/activity"
	"clerksync/config"
	"clerksync/internal/testenv"
	"clerksync/store"
	"clerksync/store/mapping"

	"github.com/google/go-cmp/cmp"
)

// options are those of a service on the embedded database in dir, with the settings in set besides.
func options(dir string, set ...string) Options {
	cfg, _ := config.Read(append([]string{
		"HOST=127.0.0.1", "PORT=0", "CLERK_WEBHOOK_SIGNING_SECRET=" + testenv.Secret, "MONGODB_URI=embedded:" + dir,
		"INNGEST_DEV=http://127.0.0.1:1", "EMBEDDED_PORT=0",
	}, set...), nil)
	return Options{Config: cfg, Map: mapping.Default(), Log: slog.New(slog.DiscardHandler)}
}

// TestApp: the service listens when New returns, answers while it runs, and leaves nothing open, whether it has run,
// has not run or has not started.
func TestApp(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	o := options(dir, fmt.Sprint("PORT=", testenv.FreePort(t)))
	if mistakes := Check(o.Config); len(mistakes) > 0 {
		t.Fatal(mistakes.Err())
	}
	a, err := New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, a.URL()+"/healthz", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req) // no wait: New has bound the port
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(res.Body); err != nil || res.StatusCode != http.StatusOK || string(body) != "ok" {
		t.Errorf("got %d %s %v, want 200 ok", res.StatusCode, body, err)
	}
	_ = res.Body.Close()
	stop()
	if err := errors.Join(<-ended, a.Close(t.Context())); err != nil {
		t.Errorf("it ended with %v", err)
	}

	for i, secrets := range []string{"", "whsec_x", o.Config.SigningSecrets} { // the first two cannot start
		o.Config.SigningSecrets = secrets
		a, err := New(t.Context(), o) // the port and the folder are free again
		if (err != nil) != (i < 2) || err != nil && !strings.Contains(err.Error(), "secret") {
			t.Fatalf("with the secrets %q: got %v", secrets, err)
		}
		if err == nil {
			err = a.Close(t.Context())
		}
		if i == 2 && err != nil {
			t.Errorf("it was closed with %v", err)
		}
	}
}

// TestStatus: the page is there for who has ADMIN_TOKEN, and in development. A browser that watches it does not hold up
// the end of the service.
func TestStatus(t *testing.T) {
	t.Parallel()
	dev := &Dev{Routes: func(*activity.Activity, *store.Users) http.Handler { return http.NotFoundHandler() }}
	for name, tc := range map[string]struct {
		set  []string
		dev  *Dev
		code int
	}{
		"nobody could open it": {nil, nil, http.StatusNotFound},
		"ADMIN_TOKEN":          {[]string{"ADMIN_TOKEN=0123456789abcdef"}, nil, http.StatusUnauthorized},
		"dev":                  {[]string{"SHUTDOWN_TIMEOUT=10h"}, dev, http.StatusOK},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := options(t.TempDir(), append(tc.set, "EMBEDDED_PORT=0")...)
			o.Dev = tc.dev
			a, err := New(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- a.Run(ctx) }()
			for _, path := range []string{"/status", "/status/events"} {
				req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, a.URL()+path, nil)
				if err != nil {
					t.Fatal(err)
				}
				res, err := http.DefaultClient.Do(req) // the stream stays open
				if err != nil {
					t.Fatal(err)
				}
				defer res.Body.Close()
				if res.StatusCode != tc.code {
					t.Errorf("%s: got %d, want %d", path, res.StatusCode, tc.code)
				}
			}
			stop()
			if err := <-ended; err != nil {
				t.Errorf("it ended with %v", err)
			}
		})
	}
}

// TestClose: the parts end in the reverse order of their start, each once; an error names its part and holds up none.
func TestClose(t *testing.T) {
	t.Parallel()
	var got []string
	a := &App{cfg: config.Config{ShutdownTimeout: time.Minute}}
	for _, part := range []string{"listener", "database", "server"} {
		a.onClose(part, func(ctx context.Context) error {
			got = append(got, part)
			if part == "database" {
				return errors.New("does not want to")
			}
			return ctx.Err()
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // as after a signal
	if err := a.Close(ctx); err == nil || err.Error() != "close the database: does not want to" {
		t.Errorf("got %v, want the error of the database", err)
	}
	if err := a.Close(ctx); err != nil {
		t.Errorf("closed again: got %v", err)
	}
	if d := cmp.Diff([]string{"server", "database", "listener"}, got); d != "" {
		t.Errorf("ended (-want +got):\n%s", d)
	}
}

// TestCloseIsBounded: parts that hang, as with a database that hangs, took up to 14 s beyond SHUTDOWN_TIMEOUT: each had
// a limit of its own. The one that is closed last had no time of its own left, and is closed all the same.
func TestCloseIsBounded(t *testing.T) {
	t.Parallel()
	a := &App{cfg: config.Config{ShutdownTimeout: 10 * time.Millisecond}, log: slog.New(slog.DiscardHandler)}
	last := false
	a.onClose("listener", func(ctx context.Context) error {
		_, bounded := ctx.Deadline()
		last = bounded && ctx.Err() != nil
		return nil
	})
	for _, part := range []string{"one", "another"} {
		a.start(t.Context(), part, func(context.Context) { <-t.Context().Done() }) // whatever it is told
	}
	if err := a.Close(t.Context()); err != nil || !last {
		t.Errorf("got %v, and that the last part was closed when the time was over: %t", err, last)
	}
}
