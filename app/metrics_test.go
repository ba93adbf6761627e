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

	"clerksync/clerk"
	"clerksync/internal/testenv"
	"clerksync/mail"
	"clerksync/store/database"

	"github.com/google/go-cmp/cmp"
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
	apart := fmt.Sprint("127.0.0.1:", testenv.FreePort(t))
	a, err := New(t.Context(), options(t.TempDir(), "METRICS_ADDR="+apart))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	// No wait: New has bound it.
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

// TestLabelValues: whatever commands, answers and errors there are, their labels have the values of docs/metrics.md.
func TestLabelValues(t *testing.T) {
	t.Parallel()
	m := newMetrics()
	for _, c := range []database.Command{
		{Name: "find"}, {Name: "findAndModify", Err: errors.New("down")}, {Name: "endSessions"}, {Name: "\xff{}"},
	} {
		m.command(t.Context(), c)
	}
	for _, status := range []int{0, 200, 404, 429, 503, 999, -1} {
		m.request(t.Context(), clerk.Request{Endpoint: "user", Status: status})
	}
	for _, err := range []error{nil, mail.ErrRefused, mail.ErrPerhapsSent, errors.New("user@example.com")} {
		m.mailed(err)
	}
	families, err := m.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for _, f := range families {
		for _, one := range f.GetMetric() {
			name := strings.TrimPrefix(f.GetName(), "clerksync_")
			for _, l := range one.GetLabel() {
				name += " " + l.GetValue()
			}
			if strings.HasPrefix(f.GetName(), "clerksync_") {
				got[name] = int(one.GetHistogram().GetSampleCount()) + int(one.GetCounter().GetValue())
			}
		}
	}
	want := map[string]int{
		"database_command_duration_seconds find ok": 1, "database_command_duration_seconds findAndModify failed": 1,
		"database_command_duration_seconds other ok": 2,
		"clerk_request_duration_seconds user none":   3, "clerk_request_duration_seconds user 2xx": 1,
		"clerk_request_duration_seconds user 4xx": 2, "clerk_request_duration_seconds user 5xx": 1,
		"mails_total sent": 1, "mails_total refused": 1, "mails_total perhaps_sent": 1, "mails_total failed": 1,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}
