package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// get returns the status and the body of an answer.
func get(t *testing.T, url string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

// TestMetricsAddress: with METRICS_ADDR the metrics are there and nothing else is, and the public port has none. The
// address is free at the end.
func TestMetricsAddress(t *testing.T) {
	t.Parallel()
	a, err := New(t.Context(), options(t.TempDir(), "METRICS_ADDR=127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	apart := a.metricsListener.Addr().String() // no wait: New has bound it
	for url, want := range map[string]struct {
		code int
		has  string
	}{
		"http://" + apart + "/metrics":            {http.StatusOK, "\nclerksync_inngest_away 0\n"},
		"http://" + apart + "/":                   {http.StatusNotFound, ""},
		"http://" + apart + "/healthz":            {http.StatusNotFound, ""},
		"http://" + apart + "/webhooks/clerk":     {http.StatusNotFound, ""},
		"http://" + apart + "/users/user_/ensure": {http.StatusNotFound, ""},
		a.URL() + "/metrics":                      {http.StatusNotFound, ""},
		a.URL() + "/healthz":                      {http.StatusOK, "ok"},
	} {
		if code, body := get(t, url); code != want.code || !strings.Contains(body, want.has) {
			t.Errorf("%s: got %d %s, want %d %s", url, code, body, want.code, want.has)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	l, err := net.Listen("tcp", apart)
	if err != nil {
		t.Fatalf("the address is not free: %v", err)
	}
	defer l.Close()

	o := options(t.TempDir(), "METRICS_ADDR="+apart)
	_, err = New(t.Context(), o)
	want := fmt.Sprintf("cannot listen on %s: set METRICS_ADDR to an address that is free", apart)
	if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
		t.Errorf("taken: got %v, want %s", err, want)
	}
	o.Config.MetricsAddr = ""
	b, err := New(t.Context(), o) // what had been opened was closed
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(err, b.Close(t.Context())); err != nil {
		t.Error(err)
	}
}
