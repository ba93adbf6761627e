package inbox

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"clerksync/clerk"

	"github.com/inngest/inngestgo"
)

// TestRefusal holds the texts of inngestgo's errors that tell a refused event from an Inngest that is away, and that no error
// holds the event key.
func TestRefusal(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		code    int
		body    string
		refused bool
		ok      bool
	}{
		"accepted":       {200, `{"ids":["1"],"status":200}`, false, true},
		"bad event":      {400, `{"error":"event is bad"}`, true, false},
		"too large":      {413, ``, true, false},
		"bad key":        {401, `{"error":"no such key"}`, false, false},
		"forbidden":      {403, ``, false, false},
		"not Inngest":    {404, `<html>`, false, false},
		"a proxy's page": {200, `<html>`, false, false},
		"overloaded":     {429, ``, false, false},
		"nobody listens": {0, ``, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(tc.code)
				_, _ = w.Write([]byte(tc.body))
			}))
			if tc.code == 0 {
				srv.Close()
			} else {
				defer srv.Close()
			}
			client, err := inngestgo.NewClient(inngestgo.ClientOpts{
				AppID: "x", EventKey: new("thekey"), EventAPIBaseURL: &srv.URL, Logger: slog.New(slog.DiscardHandler), HTTPClient: &http.Client{Timeout: time.Second},
			})
			if err != nil {
				t.Fatal(err)
			}
			b := &Inbox{Options: Options{Sender: client}}
			err = b.send(t.Context(), []sending{{Event: Event{ID: "msg_1", Name: "x", Data: json.RawMessage(`{}`)}}})
			switch {
			case tc.ok != (err == nil):
				t.Errorf("got %v", err)
			case err != nil && isRefusal(err) != tc.refused:
				t.Errorf("%q: refused is %v, want %v", err, !tc.refused, tc.refused)
			case err != nil && strings.Contains(err.Error(), "thekey"):
				t.Errorf("the error holds the event key: %v", err)
			}
		})
	}
}

func TestIDs(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		id       string
		n        int
		replayed bool
		want     string
	}{
		{"msg_1", 0, false, "msg_1"},
		{"msg_1", 1, false, "msg_1:r1"},
		{"msg_1", 12, false, "msg_1:r12"},
		{"msg_1", 2, true, "msg_1:replay2"},
		{"msg_1:send-welcome-email", 1, true, "msg_1:send-welcome-email:replay1"},
		{"odd:r", 2, false, "odd:r:r2"},
		{"odd:rx", 0, false, "odd:rx"},
		{"odd:replay", 0, false, "odd:replay"},
	} {
		got := sendID(tc.id, tc.n, tc.replayed)
		if got != tc.want {
			t.Errorf("sendID(%q, %d, %v) = %q, want %q", tc.id, tc.n, tc.replayed, got, tc.want)
		}
		if id, replayed := MessageID(got), Replayed(got); id != tc.id || replayed != tc.replayed {
			t.Errorf("%q: got %q, replayed %v, want %q, %v", got, id, replayed, tc.id, tc.replayed)
		}
	}
}

func TestResendInterval(t *testing.T) {
	t.Parallel()
	b := &Inbox{Options: Options{ResendAfter: time.Minute}}
	for n, want := range map[int]time.Duration{0: time.Minute, 1: time.Minute, 2: 2 * time.Minute, 4: 8 * time.Minute, 7: time.Hour, 1000: time.Hour} {
		if got := b.resendInterval(n); got != want {
			t.Errorf("after sending %d: %v, want %v", n, got, want)
		}
	}
}

// TestSize counts what Inngest will read: the SDK escapes <, > and &.
func TestSize(t *testing.T) {
	t.Parallel()
	data, err := clerk.WithoutSecrets(json.RawMessage(`{"h":"<<<"}`), false)
	if err != nil {
		t.Fatal(err)
	}
	plain := Event{ID: "a", Name: "b", Data: json.RawMessage(`{"h":"xxx"}`)}
	if got, want := (Event{ID: "a", Name: "b", Data: data}).Size()-plain.Size(), 3*len(`\u003c`)-3; got != want {
		t.Errorf("three angle brackets cost %d bytes more than letters, want %d", got, want)
	}
}
