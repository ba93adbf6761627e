package inngest

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	for header, want := range map[string]time.Duration{
		"":                              0,
		"7":                             7 * time.Second,
		"0":                             0,
		"86400":                         time.Minute,
		"-1":                            0,
		"soon":                          0,
		"Tue, 24 Nov 2026 12:00:09 GMT": 9 * time.Second,
		"Tue, 24 Nov 2026 13:00:00 GMT": time.Minute,
		"Tue, 24 Nov 2026 11:00:00 GMT": 0,
	} {
		if got := retryAfter(header, now); got != want {
			t.Errorf("%q: got %v, want %v", header, got, want)
		}
	}
}

// TestEventAPI: what Inngest gets and what its answers mean; no error holds the event key.
func TestEventAPI(t *testing.T) {
	t.Parallel()
	events := []Event{
		{ID: "msg_1", Name: "clerk/user.created", Data: json.RawMessage(`{"h": "<\ud800>"}`), TS: 1, V: "clerk-time"},
		{ID: "msg_2\"", Name: "clerk/user.deleted", Data: json.RawMessage(`{}`), TS: -2},
	}
	const want = `[{"id":"msg_1","name":"clerk/user.created","data":{"h": "<\ud800>"},"ts":1,"v":"clerk-time"},` +
		`{"id":"msg_2\"","name":"clerk/user.deleted","data":{},"ts":-2}]`
	if got := events[0].Size() + events[1].Size() + len("[,]"); got != len(want) {
		t.Errorf("the sizes make %d bytes, want %d", got, len(want))
	}
	for name, tc := range map[string]struct {
		code    int
		body    string
		posts   int32
		refused bool
		blocked bool
		ok      bool
	}{
		"accepted":        {200, `{"ids":["1","2"],"status":200}`, 1, false, false, true},
		"one is missing":  {200, `{"ids":["1"],"status":200}`, 1, false, false, false},
		"bad event":       {400, `{"error":"event is bad","status":400}`, 1, true, false, false},
		"too large":       {413, `{"error":"event is large","status":413}`, 1, true, false, false},
		"proxy's limit":   {413, ``, 1, false, true, false},
		"proxy's no":      {400, `<html>`, 1, false, true, false},
		"gateway's no":    {400, `{"message":"no"}`, 1, false, true, false},
		"unprocessable":   {422, `{"error":"no","status":422}`, 1, false, true, false},
		"time is up":      {408, ``, 1, false, false, false},
		"too early":       {425, ``, 1, false, false, false},
		"bad key":         {401, `{"error":"no such key"}`, 1, false, false, false},
		"forbidden":       {403, ``, 1, false, true, false},
		"not Inngest":     {404, `<html>`, 1, false, true, false},
		"a proxy's page":  {200, `<html>`, 1, false, false, false},
		"too many":        {429, ``, 1, false, false, false},
		"not now":         {503, ``, 3, false, false, false},
		"nobody listens":  {0, ``, 0, false, false, false},
		"another address": {308, ``, 1, false, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var posts atomic.Int32
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				posts.Add(1)
				got, err := io.ReadAll(r.Body)
				kind, env := r.Header.Get("Content-Type"), r.Header.Get("X-Inngest-Env")
				call := r.Method + " " + r.URL.Path + " " + kind + " " + env
				if err != nil || string(got) != want || call != "POST /e/thekey application/json branch" {
					t.Errorf("got %s %s %v\n%s\nwant\n%s", r.Method, r.URL.Path, r.Header, got, want)
				}
				w.WriteHeader(tc.code)
				_, _ = io.WriteString(w, tc.body)
			}))
			defer srv.Close()
			url := srv.URL
			if tc.code == 0 {
				url = "http://127.0.0.1:1"
			}
			err := Server{URL: url, EventKey: "thekey", Env: "branch"}.EventAPI().Send(t.Context(), events)
			switch {
			case tc.ok != (err == nil):
				t.Errorf("got %v", err)
			case errors.Is(err, ErrRefused) != tc.refused:
				t.Errorf("%v: refused is %v, want %v", err, !tc.refused, tc.refused)
			case errors.Is(err, ErrBlocked) != tc.blocked:
				t.Errorf("%v: blocked is %v, want %v", err, !tc.blocked, tc.blocked)
			case err != nil && strings.Contains(err.Error(), "thekey"):
				t.Errorf("the error holds the event key: %v", err)
			}
			if got := posts.Load(); got != tc.posts {
				t.Errorf("posted %d times, want %d", got, tc.posts)
			}
		})
	}
}
