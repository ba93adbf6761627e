package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"clerksync/config"
	"clerksync/webhook"

	"clerksync/inbox"
	"clerksync/internal/testenv"
	"clerksync/store"
	"clerksync/store/database"
	"clerksync/store/mapping"

	"github.com/google/go-cmp/cmp"
	"github.com/inngest/inngestgo"
	"github.com/prometheus/client_golang/prometheus"
)

// TestSettings: every mistake is reported at start, all at once, in the order of the settings, a line each that says
// what to set and quotes no secret.
func TestSettings(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		set  map[string]string
		want []string // how the lines begin
	}{
		"nothing set": {
			map[string]string{
				"HOST": "", "PORT": "", "CLERK_WEBHOOK_SIGNING_SECRET": "", "MONGODB_URI": "", "INNGEST_DEV": "",
			},
			[]string{
				"CLERK_WEBHOOK_SIGNING_SECRET is not set: set it to",
				"MONGODB_URI is not set: set it to mongodb://HOST/DATABASE, or to embedded:DIR",
				"INNGEST_EVENT_KEY is not set: set it to", "INNGEST_SIGNING_KEY is not set: set it to",
			},
		},
		"everything wrong": {
			map[string]string{
				"PORT": "http", "CLERK_WEBHOOK_SIGNING_SECRET": testenv.Secret + " hunter2",
				"CLERK_FORWARD_EVENTS": "user.[", "CLERK_FORWARD_PRIVATE_METADATA": "hunter2",
				"MONGODB_URI": "postgres://u:hunter2@h/x", "INNGEST_SIGNING_KEY": "hunter2",
				"INNGEST_BASE_URL": "inngest:8288", "INNGEST_SERVE_ORIGIN": "x",
				"INNGEST_SERVE_PATH": "x", "INNGEST_APP_ID": "it's", "LOG_LEVEL": "loud", "LOG_FORMAT": "xml",
				"INBOX_RESEND_AFTER": "-1m", "SHUTDOWN_TIMEOUT": "soon",
				"SMTP_URL": "smtp://u:hunter2@", "WELCOME_UNVERIFIED": "maybe", "SYNC_BATCH_SIZE": "lots",
				"SYNC_BATCH_TIMEOUT": "1h", "APP_URL": "x",
			},
			[]string{
				"PORT is no port", "LOG_LEVEL cannot be read", "LOG_FORMAT is neither",
				"SHUTDOWN_TIMEOUT cannot be read",
				"INBOX_RESEND_AFTER is not positive",
				`CLERK_WEBHOOK_SIGNING_SECRET: secret 2 does not begin with "whsec_"`,
				"CLERK_FORWARD_EVENTS holds a bad pattern", "CLERK_FORWARD_PRIVATE_METADATA cannot be read",
				"MONGODB_URI is of no known kind", "INNGEST_DEV is on, but INNGEST_SIGNING_KEY is set",
				"INNGEST_BASE_URL is no URL",
				"INNGEST_SIGNING_KEY is not hexadecimal", "INNGEST_SERVE_ORIGIN is no URL",
				"INNGEST_SERVE_PATH does not begin with /", "INNGEST_APP_ID is no id", "SYNC_BATCH_SIZE cannot be read",
				"SYNC_BATCH_TIMEOUT is out of range", "SMTP_URL names no host", "MAIL_FROM is not set",
				"APP_URL is no URL",
				"WELCOME_UNVERIFIED cannot be read",
			},
		},
		"users that are not forwarded": {
			map[string]string{"CLERK_FORWARD_EVENTS": "'user.*' session.*"},
			[]string{"CLERK_FORWARD_EVENTS leaves out user.created, user.updated, user.deleted: add user.*"},
		},
		"deletions that are not forwarded": {
			map[string]string{"CLERK_FORWARD_EVENTS": "user.created,user.updated"}, []string{
				"CLERK_FORWARD_EVENTS leaves out user.deleted: add user.*",
			},
		},
		"keys of two lines": {
			map[string]string{"CLERK_SECRET_KEY": testenv.ClerkKey + "\n", "ADMIN_TOKEN": "0123456789abcdef hunter2"},
			[]string{"ADMIN_TOKEN holds white space", "CLERK_SECRET_KEY holds white space"},
		},
		"a port alone": {
			map[string]string{"METRICS_ADDR": "9090"},
			[]string{"METRICS_ADDR is no address with a port: set it to HOST:PORT such as 127.0.0.1:9090, or"},
		},
		"no number": {
			map[string]string{"RECONCILE_MAX_DELETE": "NaN", "CLERK_RATE_SHARE": "NaN"},
			[]string{"CLERK_RATE_SHARE is out of range", "RECONCILE_MAX_DELETE is out of range"},
		},
		"crons": {
			map[string]string{
				"RECONCILE_CRON": "@daily", "RECONCILE_ABSENT_CRON": "often", "RECONCILE_RECENT_CRON": "0 */5 * * * *",
				"RECONCILE_MAX_DELETE": "-1",
			},
			[]string{
				"RECONCILE_RECENT_CRON is no cron expression",
				"RECONCILE_ABSENT_CRON is no cron expression: set it to five fields",
				"RECONCILE_CRON is no cron expression", "RECONCILE_MAX_DELETE is out of range",
			},
		},
		"time zones alone": {
			map[string]string{
				"RECONCILE_CRON": "TZ=UTC", "RECONCILE_ABSENT_CRON": "CRON_TZ=",
				"RECONCILE_RECENT_CRON": "TZ=UTC\t17\t3\t*\t*\t*",
			},
			[]string{
				"RECONCILE_RECENT_CRON is no cron expression", "RECONCILE_ABSENT_CRON is no cron expression",
				"RECONCILE_CRON is no cron expression: set it to five fields",
			},
		},
		"off": {
			map[string]string{"INNGEST_DEV": "off"}, []string{
				"INNGEST_DEV is neither on nor off: set it to 1 or to the URL",
			},
		},
		"no":       {map[string]string{"INNGEST_DEV": "no"}, []string{"INNGEST_DEV is neither on nor off"}},
		"disabled": {map[string]string{"INNGEST_DEV": "disabled"}, []string{"INNGEST_DEV is neither on nor off"}},
		"space 0":  {map[string]string{"INNGEST_DEV": " 0"}, []string{"INNGEST_DEV is neither on nor off"}},
		"00":       {map[string]string{"INNGEST_DEV": "00"}, []string{"INNGEST_DEV is neither on nor off"}},
		"dev mode beside a key": {
			map[string]string{"INNGEST_SIGNING_KEY": "signkey-test-00"}, []string{
				"INNGEST_DEV is on, but INNGEST_SIGNING_KEY is set: unset INNGEST_DEV",
			},
		},
		"dev mode beside the second key": {
			map[string]string{"INNGEST_DEV": "TRUE", "INNGEST_SIGNING_KEY_FALLBACK": "signkey-test-00"}, []string{
				"INNGEST_DEV is on, but INNGEST_SIGNING_KEY_FALLBACK is set: unset INNGEST_DEV",
			},
		},
		"a host with a port": {
			map[string]string{"HOST": "127.0.0.1:3000"}, []string{"HOST is no address: set it to an IP address"},
		},
		"a host that is a URL": {map[string]string{"HOST": "http://0.0.0.0"}, []string{"HOST is no address"}},
		"a host in brackets":   {map[string]string{"HOST": "[::1]"}, []string{"HOST is no address"}},
		"another instance id": {
			map[string]string{"CLERK_INSTANCE_ID": "ins_1 ins_2"}, []string{
				"CLERK_INSTANCE_ID is no instance id: set it to",
			},
		},
		"a key for an instance": {
			map[string]string{"CLERK_INSTANCE_ID": "sk_live_hunter2"}, []string{
				"CLERK_INSTANCE_ID is no instance id: set it to",
			},
		},
		"off means off": {
			map[string]string{"INNGEST_DEV": "0"}, []string{
				"INNGEST_EVENT_KEY is not set", "INNGEST_SIGNING_KEY is not set",
			},
		},
		"false means off": {
			map[string]string{"INNGEST_DEV": "False", "INNGEST_EVENT_KEY": "k"}, []string{
				"INNGEST_SIGNING_KEY is not set",
			},
		},
		"a URI that is none": {
			map[string]string{"MONGODB_URI": "mongodb://u:hunter2@h:port", "MONGODB_DATABASE": "a/b"},
			[]string{"MONGODB_URI has a port that is no number", "MONGODB_DATABASE is no name"},
		},
		"unacknowledged writes": {
			map[string]string{"MONGODB_URI": "mongodb://h/x?w=0"}, []string{
				"MONGODB_URI asks for unacknowledged writes (w=0): remove w=0",
			},
		},
		"no folder": {
			map[string]string{"MONGODB_URI": "embedded:"}, []string{"MONGODB_URI names no folder"},
		},
		"a database with a dot": {
			map[string]string{"MONGODB_DATABASE": "a.b"}, []string{"MONGODB_DATABASE is no name"},
		},
		"an empty key": {
			map[string]string{"CLERK_WEBHOOK_SIGNING_SECRET": "whsec_"}, []string{
				"CLERK_WEBHOOK_SIGNING_SECRET: secret 1 is too short",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			settings := good(t)
			maps.Copy(settings, tc.set)
			var out bytes.Buffer
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second) // it refuses at once
			defer cancel()
			err := run(ctx, []string{"serve"}, environ(settings), &out, &out)
			if err == nil {
				t.Fatal("it started")
			}
			got := strings.Split(err.Error(), "\n")
			for i, line := range got {
				for _, want := range tc.want {
					if strings.HasPrefix(line, want) {
						got[i] = want
					}
				}
			}
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Errorf("errors (-want +got):\n%s", d)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("a secret is quoted: %v", err)
			}
		})
	}
}

// TestMailTest: the mail can be sent by hand; what is wrong is said in a line. The rest is in
// testdata/script/mail.txtar.
func TestMailTest(t *testing.T) {
	t.Parallel()
	srv := testenv.NewSMTP(t, testenv.SMTPOptions{})
	set := []string{"SMTP_URL=smtp://" + srv.Addr, "MAIL_FROM=App <hello@app.example>"}
	for name, tc := range map[string]struct {
		args, environ []string
		out, err      string
	}{
		"test": {
			[]string{"mail", "test", "you@example.com"},
			set, "the SMTP server has taken the mail to you@example.com\n",
			"",
		},
		"to no address": {[]string{"mail", "test", "you"}, set, "", "the mail was not sent: "},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			err := run(t.Context(), tc.args, tc.environ, &out, &out)
			if (err != nil) != (tc.err != "") || err != nil && (!strings.Contains(err.Error(), tc.err) ||
				strings.ContainsAny(err.Error(), "\n") || strings.Contains(err.Error(), "hunter2")) {
				t.Errorf("got %v, want %q", err, tc.err)
			}
			if !strings.HasPrefix(out.String(), tc.out) {
				t.Errorf("printed %q, want %q", &out, tc.out)
			}
		})
	}
	if n := len(srv.Mails()); n != 1 {
		t.Errorf("got %d mails, want 1", n)
	}
}

// fakeInngest is the edge of an Inngest that keeps what it is sent and runs nothing.
type fakeInngest struct {
	*httptest.Server
	mu       sync.Mutex
	events   []json.RawMessage
	register json.RawMessage
	auth     string
}

func newFakeInngest(t *testing.T) *fakeInngest {
	t.Helper()
	f := &fakeInngest{}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("POST /fn/register", func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		f.mu.Lock()
		defer f.mu.Unlock()
		f.register, f.auth = b, r.Header.Get("Authorization")
		_, _ = io.WriteString(w, `{"ok":true}`)
	})
	mux.HandleFunc("POST /e/{key}", func(w http.ResponseWriter, r *http.Request) {
		var events []json.RawMessage
		_ = json.NewDecoder(r.Body).Decode(&events)
		f.mu.Lock()
		defer f.mu.Unlock()
		f.events = append(f.events, events...)
		_ = json.NewEncoder(w).Encode(map[string]any{"status": 200, "ids": make([]string, len(events))})
	})
	f.Server = httptest.NewServer(mux)
	t.Cleanup(f.Close)
	return f
}

func (f *fakeInngest) sent() []json.RawMessage {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.events)
}

// service is 'clerksync serve' in this process.
type service struct {
	url  string
	log  *syncBuffer
	stop func() error
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func serve(t *testing.T, settings map[string]string) service {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	s := service{log: &syncBuffer{}}
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, []string{"serve"}, environ(settings), io.Discard, s.log) }()
	s.stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Errorf("it ended with %v", err)
		}
		if log := s.log.String(); strings.Contains(log, "ada@example.com") ||
			strings.Contains(log, strings.TrimPrefix(testenv.Secret, "whsec_")) {
			t.Errorf("the log holds an address or a secret:\n%s", log)
		}
	})
	until(t, "it listens", func() bool {
		_, rest, ok := strings.Cut(s.log.String(), `"msg":"listening","url":"`)
		s.url, _, _ = strings.Cut(rest, `"`)
		return ok
	})
	return s
}

func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); !cond(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("timed out: %s", what)
		}
	}
}

func do(t *testing.T, req *http.Request) (int, string) {
	t.Helper()
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

func request(t *testing.T, method, url, body string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return req
}

func TestServe(t *testing.T) {
	t.Parallel()
	inngest := newFakeInngest(t)
	settings := good(t)
	settings["INNGEST_DEV"] = inngest.URL
	s := serve(t, settings)
	for name, tc := range map[string]struct {
		method, path string
		code         int
		body         string
	}{
		"root":               {http.MethodGet, "/", 200, "server is running"},
		"healthz":            {http.MethodGet, "/healthz", 200, "ok"},
		"readyz":             {http.MethodGet, "/readyz", 200, `{"database":"ok","inngest":"ok","webhooks":"ok"}`},
		"metrics":            {http.MethodGet, "/metrics", 200, "clerksync_inbox_events_total"},
		"webhook by GET":     {http.MethodGet, "/webhooks/clerk", 405, ""},
		"webhook unsigned":   {http.MethodPost, "/webhooks/clerk", 400, "missing required headers"},
		"inngest inspection": {http.MethodGet, "/api/inngest", 200, `"function_count":5`},
		"inngest by DELETE":  {http.MethodDelete, "/api/inngest", 405, ""},
		"elsewhere":          {http.MethodGet, "/nowhere", 404, ""},
	} {
		if code, body := do(t, request(t, tc.method, s.url+tc.path, "")); code != tc.code ||
			!strings.Contains(body, tc.body) {
			t.Errorf("%s: got %d %s, want %d %s", name, code, body, tc.code, tc.body)
		}
	}

	until(t, "the functions are registered", func() bool {
		inngest.mu.Lock()
		defer inngest.mu.Unlock()
		return inngest.register != nil
	})
	var reg struct {
		AppName   string
		URL       string
		Functions []struct {
			ID          string
			Triggers    []struct{ Event, Cron string }
			Concurrency struct {
				Step []struct {
					Limit int
					Key   string
				}
			}
			Steps map[string]struct{ Retries struct{ Attempts int } }
		}
	}
	if err := json.Unmarshal(inngest.register, &reg); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, f := range reg.Functions {
		got[f.ID] = fmt.Sprint(f.Triggers[0].Event, f.Triggers[0].Cron, f.Concurrency.Step,
			f.Steps["step"].Retries.Attempts)
	}
	want := map[string]string{
		"clerksync-sync-user-from-clerk": "clerk/user.created[{1 has(event.data.data) ? event.data.data.id : " +
			"event.data.id}] 20",
		"clerksync-update-user-from-clerk": "clerk/user.updated[{1 has(event.data.data) ? event.data.data.id : " +
			"event.data.id}] 20",
		"clerksync-delete-user-with-clerk": "clerk/user.deleted[{1 has(event.data.data) ? event.data.data.id : " +
			"event.data.id}] 20",
		"clerksync-mark-failed-event":    "inngest/function.failed[] 20",
		"clerksync-clean-up-old-records": "TZ=UTC 17 4 * * *[] 20",
	}
	if d := cmp.Diff(want, got); d != "" || reg.AppName != "clerksync" || reg.URL != s.url+"/api/inngest" {
		t.Errorf("registered %s at %s (-want +got):\n%s", reg.AppName, reg.URL, d)
	}

	const body = `{"type":"user.created","timestamp":1767603600018,"data":{"id":"user_a","object":"user",` +
		`"email_addresses":[{"email_address":"ada@example.com"}]}}`
	if code, text := do(t, testenv.Signed(t, s.url+"/webhooks/clerk", testenv.Secret, "msg_1", time.Now(),
		[]byte(body))); code != http.StatusAccepted {
		t.Fatalf("got %d %s, want 202", code, text)
	}
	until(t, "the event is sent", func() bool { return len(inngest.sent()) > 0 })
	if got, want := string(inngest.sent()[0]),
		`{"id":"msg_1","name":"clerk/user.created","data":{"id":"user_a","object":"user",`+
			`"email_addresses":[{"email_address":"ada@example.com"}]},"ts":1767603600018,`+
			`"v":"clerk-time"}`; got != want {
		t.Errorf("got event\n%s, want\n%s", got, want)
	}

	// A second process on the same folder refuses to start, and says what to do.
	settings["PORT"] = "0"
	err := run(t.Context(), []string{"serve"}, environ(settings), io.Discard, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "MONGODB_URI=embedded:DIR") {
		t.Errorf("a second process: got %v", err)
	}
	// So does one on the same port.
	_, settings["PORT"], _ = net.SplitHostPort(strings.TrimPrefix(s.url, "http://"))
	err = run(t.Context(), []string{"serve"}, environ(settings), io.Discard, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "set PORT and HOST") {
		t.Errorf("a second process on the port: got %v", err)
	}
	if err := s.stop(); err != nil {
		t.Errorf("it ended with %v, want nil", err)
	}
}

// TestProduction: without INNGEST_DEV, nobody but Inngest reaches the functions, and ours are registered with a
// self-hosted server by this process alone.
func TestProduction(t *testing.T) {
	t.Parallel()
	inngest := newFakeInngest(t)
	settings := good(t)
	const key = "signkey-test-0123456789abcdef"
	maps.Copy(settings, map[string]string{
		"INNGEST_DEV": "0", "INNGEST_BASE_URL": inngest.URL, "INNGEST_EVENT_KEY": "thekey", "INNGEST_SIGNING_KEY": key,
		"INNGEST_SERVE_ORIGIN": "https://app.example", "INNGEST_APP_ID": "myapp",
	})
	s := serve(t, settings)
	until(t, "the functions are registered", func() bool {
		inngest.mu.Lock()
		defer inngest.mu.Unlock()
		return inngest.register != nil
	})
	if got := string(inngest.register); !strings.Contains(got, `"url":"https://app.example/api/inngest"`) ||
		!strings.Contains(inngest.auth, "Bearer signkey-test-") {
		t.Errorf("registered with %q: %s", inngest.auth, got)
	}
	body := `{"event":{"name":"clerk/user.deleted","data":{"id":"user_a"},"ts":1},` +
		`"events":[{"name":"clerk/user.deleted","data":{"id":"user_a"},"ts":1}],"steps":{},"ctx":{"run_id":"01J",` +
		`"fn_id":"00000000-0000-0000-0000-000000000001","attempt":0,"max_attempts":3,"step_id":"step",` +
		`"stack":{"stack":[],"current":0}}}`
	url := s.url + "/api/inngest?fnId=myapp-delete-user-with-clerk&stepId=step"
	sign := func(req *http.Request, key string, at time.Time, body string) *http.Request {
		sig, err := inngestgo.Sign(t.Context(), at, []byte(key), []byte(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Inngest-Signature", sig)
		return req
	}
	signed := func(key string, age time.Duration, text string) *http.Request {
		return sign(request(t, http.MethodPost, url, text), key, time.Now().Add(-age), body)
	}
	get := func() *http.Request { return request(t, http.MethodGet, s.url+"/api/inngest", "") }
	for name, tc := range map[string]struct {
		req  *http.Request
		code int
	}{
		"a call that is not signed":      {request(t, http.MethodPost, url, body), 401},
		"a call that is signed wrongly":  {signed("signkey-test-ffff", 0, body), 401},
		"a call that was signed before":  {signed(key, 10*time.Minute, body), 401},
		"a call that was changed":        {signed(key, 0, strings.Replace(body, "user_a", "user_b", 1)), 401},
		"a call of 6 MiB":                {signed(key, 0, body+strings.Repeat(" ", 6<<20)), 413},
		"a signed call":                  {signed(key, 0, body), 206}, // with the result of its step
		"an inspection":                  {get(), 401},
		"one that is signed wrongly":     {sign(get(), "signkey-test-ffff", time.Now(), ""), 401},
		"a signed inspection":            {sign(get(), key, time.Now(), ""), 200},
		"a registration from outside":    {request(t, http.MethodPut, s.url+"/api/inngest", ""), 401},
		"a trust probe that is unsigned": {request(t, http.MethodPost, s.url+"/api/inngest?probe=trust", ""), 401},
	} {
		if code, text := do(t, tc.req); code != tc.code {
			t.Errorf("%s: got %d %s, want %d", name, code, text, tc.code)
		}
	}
	if log := s.log.String(); strings.Contains(log, "0123456789abcdef") || strings.Contains(log, "thekey") {
		t.Errorf("the log holds a key:\n%s", log)
	}
}

// TestSend: what 'send' posts is accepted, and its exit status tells whether it was.
func TestSend(t *testing.T) {
	t.Parallel()
	inngest := newFakeInngest(t)
	settings := good(t)
	settings["INNGEST_DEV"] = inngest.URL
	s := serve(t, settings)
	dir := t.TempDir()
	files := map[string]string{
		"user.json":     `{"id":"user_file","object":"user"}`,
		"envelope.json": `{"type":"user.updated","timestamp":1,"data":{"id":"user_whole","object":"user"}}`,
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, tc := range map[string]struct {
		args []string
		out  string // of a success
		err  string // of a failure
		sent string // in the event
	}{
		"created": {args: []string{"user.created"}, out: "202 Accepted", sent: `"name":"clerk/user.created"`},
		"updated": {
			args: []string{"user.updated", "--user", "user_sent"}, out: "202 Accepted", sent: `"id":"user_sent"`,
		},
		"deleted": {args: []string{"user.deleted"}, out: "stays deleted", sent: `"deleted":true`},
		"phone-only": {
			args: []string{"user.created", "--sample", "phone-only"}, out: "202", sent: "+15555550100",
		},
		"several addresses": {
			args: []string{"user.created", "--sample", "several-addresses"}, out: "202", sent: "idn_2samplePrimary",
		},
		"a user in a file": {
			args: []string{"user.created", "--data", filepath.Join(dir, "user.json")}, out: "202",
			sent: `"id":"user_file"`,
		},
		"an event in one": {
			args: []string{"user.created", "--data", filepath.Join(dir, "envelope.json")}, out: "202",
			sent: `"name":"clerk/user.updated","data":{"id":"user_whole"`,
		},
		"another secret": {
			args: []string{"user.created", "--secret", "whsec_Y2xlcmtzeW5jIHRlc3Qgc2VjcmV0IDI="},
			out:  "400 Bad Request no matching signature", err: "not accepted",
		},
	} {
		t.Run(name, func(t *testing.T) {
			args := append([]string{"send"}, tc.args...)
			if !slices.Contains(args, "--to") {
				args = append(args, "--to", s.url+"/webhooks/clerk")
			}
			var out bytes.Buffer
			err := run(t.Context(), args, environ(settings), &out, &out)
			if !strings.Contains(out.String(), tc.out) {
				t.Errorf("got %q, want %q", &out, tc.out)
			}
			if (err != nil) != (tc.err != "") || err != nil && (!strings.Contains(err.Error(), tc.err) ||
				strings.Contains(err.Error(), "hunter2")) {
				t.Errorf("got error %v, want %q", err, tc.err)
			}
			if tc.sent != "" {
				until(t, "the event is sent", func() bool {
					return slices.ContainsFunc(inngest.sent(), func(e json.RawMessage) bool {
						return strings.Contains(string(e), tc.sent)
					})
				})
			}
		})
	}
}

// TestSendToRedirect: 'send' followed a redirect, such as one to the page of a login, and took that page for the
// answer. Clerk follows none.
func TestSendToRedirect(t *testing.T) {
	t.Parallel()
	login := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/login" {
			http.Redirect(w, r, "/login", http.StatusFound)
		}
	}))
	t.Cleanup(login.Close)
	var out bytes.Buffer
	args := []string{"send", "user.created", "--secret", testenv.Secret, "--to", login.URL + "/webhooks/clerk"}
	err := run(t.Context(), args, nil, &out, io.Discard)
	if err == nil || err.Error() != "the webhook was not accepted" || !strings.HasPrefix(out.String(), "302 Found") {
		t.Errorf("got %q, %v, want 302 and that it was not accepted", &out, err)
	}
}

// TestStartWhileDatabaseRefuses: a database that shuts down, recovers or has no primary yet answers with an error
// first. The service waits for it, as for one that does not answer; one about a login or a setting ends the start at
// once.
func TestStartWhileDatabaseRefuses(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		command string
		codes   []int32
		uri     string // is added to the database's
		err     string // "" is a start
	}{
		"shutting down":              {command: "ping", codes: []int32{91, 11600, 91}},
		"recovering":                 {command: "ping", codes: []int32{13436, 11602}},
		"no primary":                 {command: "ping", codes: []int32{10107, 13435, 189}},
		"no primary for the indexes": {command: "createIndexes", codes: []int32{10107, 91}},
		"stopped when it is asked":   {command: "buildInfo", codes: []int32{91, 11600}},
		"it does not know the user": {
			command: "saslStart", codes: []int32{18}, uri: "/?authMechanism=PLAIN", err: "code 18",
		},
		"the user may not":           {command: "createIndexes", codes: []int32{13}, err: "code 13"},
		"it does not know buildInfo": {command: "buildInfo", codes: []int32{59}},
		"it does not know ping":      {command: "ping", codes: []int32{59}, err: "code 59"},
		"user names are there twice": {
			command: "createIndexes", codes: []int32{11000}, err: "has rows with the same username",
		},
		"an index of the app's clash": {
			command: "createIndexes", codes: []int32{86}, err: "has another kind of index on username",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			left := tc.codes
			settings := good(t)
			settings["MONGODB_URI"] = testenv.NewMemory().Listen(t, func(command string) int32 {
				mu.Lock()
				defer mu.Unlock()
				if command != tc.command || len(left) == 0 {
					return 0
				}
				code := left[0]
				left = left[1:]
				return code
			}) + tc.uri
			if tc.uri != "" {
				settings["MONGODB_URI"] = strings.Replace(settings["MONGODB_URI"], "//", "//ada:hunter2@", 1)
			}
			if tc.err == "" {
				serve(t, settings)
				return
			}
			start := time.Now()
			var log bytes.Buffer
			err := run(t.Context(), []string{"serve"}, environ(settings), io.Discard, &log)
			if err == nil || !strings.Contains(err.Error(), tc.err) || strings.Contains(err.Error(), "hunter2") ||
				time.Since(start) > 30*time.Second {
				t.Errorf("got %v after %v, want %q at once", err, time.Since(start), tc.err)
			}
			if strings.Contains(log.String(), "trying again") {
				t.Errorf("it tried again:\n%s", &log)
			}
		})
	}
}

// TestDeadLetters: the commands work beside a running service, on a folder too, and without it; they say what is wrong.
func TestDeadLetters(t *testing.T) {
	t.Parallel()
	inngest := newFakeInngest(t)
	settings := good(t)
	settings["INNGEST_DEV"] = inngest.URL
	s := serve(t, settings)
	withRunningDatabase(t, settings, func(ctx context.Context, db *database.DB) {
		box := inbox.New(inbox.Options{DB: db, Log: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
		for _, id := range []string{"msg_1", "msg_2", "msg_3"} {
			e := inbox.Event{
				ID: id, Name: "clerk/user.created", Data: json.RawMessage(`{"id":"user_secret"}`),
				TS: time.Now().UnixMilli(),
			}
			f := inbox.Failure{Function: "clerksync-sync-user-from-clerk", RunID: "01J", Error: "in\x1b[2J vain"}
			if err := box.Fail(ctx, e, f); err != nil {
				t.Fatal(err)
			}
		}
	})
	clerksync := func(settings map[string]string, args string) (string, error) {
		out, _, err := command(t, settings, strings.Fields("deadletters "+args)...)
		return out, err
	}
	const lines = `(?s)^ID +EVENT +FAILED +ERROR\n`
	line := func(id string) string {
		return fmt.Sprintf(`%s +clerk/user\.created +20\d\d-\S+Z +in\\u001b\[2J vain\n`, id)
	}
	for _, step := range []struct{ args, out, err string }{
		{"list", lines + line("msg_1") + line("msg_2") + line("msg_3") + "$", ""},
		{
			"show msg_2",
			`(?s)^id +msg_2\n.*happened +20\d\d-\S+Z\n.*sent +once\n.*function +clerksync-sync-user-from-clerk\n` +
				`run +01J\nerror +in\\u001b\[2J vain\nbytes +20\n$`,
			"",
		},
		{"show msg_2 --data", `bytes +20\n\n\{"id":"user_secret"\}\n$`, ""},
		{"show msg_4", "^$", "no such dead letter: msg_4 is not among those"},
		{"replay", "^$", "say what to replay: the id of a dead letter, or --all"},
		{"replay msg_1 --all", "^$", "say what to replay"},
		{"replay msg_4", "^$", "no such dead letter"},
		{"drop msg_4", "^$", "no such dead letter"},
		{"drop msg_1", "^msg_1 is dropped: 'clerksync deadletters replay msg_1' brings it back\n$", ""},
		{"list", lines + line("msg_2") + line("msg_3") + "$", ""},
		{"list --dropped", lines + line("msg_1") + line("msg_2") + line("msg_3") + "$", ""},
		{"replay msg_1", "^msg_1 will be sent again\n$", ""},
		{"replay --all", "^2 will be sent again\n$", ""},
		{"list --dropped", "^no dead letters\n$", ""},
	} {
		out, err := clerksync(settings, step.args)
		if !regexp.MustCompile(step.out).MatchString(out) {
			t.Errorf("%s: printed\n%s, want %s", step.args, out, step.out)
		}
		if !says(err, step.err) {
			t.Errorf("%s: got %v, want %q", step.args, err, step.err)
		}
	}
	until(t, "they are sent", func() bool { return len(inngest.sent()) == 3 })
	if got := fmt.Sprintf("%s", inngest.sent()); strings.Count(got, `:replay1"`) != 3 {
		t.Errorf("sent %s, want ids that end with :replay1", got)
	}
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	if out, err := clerksync(settings, "list"); err != nil || out != "no dead letters\n" {
		t.Errorf("without the service: got %q, %v", out, err)
	}

	for want, uri := range map[string]string{
		"there is no folder": config.EmbeddedPrefix + t.TempDir() + "/none", "MONGODB_URI is not set": "",
		"MONGODB_URI is of no known kind": "postgres://h",
	} {
		if _, err := clerksync(map[string]string{"MONGODB_URI": uri}, "list"); err == nil ||
			!strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// TestBackfill: users from before get their rows; without a key, or with a wrong one, nothing is touched.
func TestBackfill(t *testing.T) {
	t.Parallel()
	fake, other := testenv.NewClerkAPI(t), testenv.NewClerkAPI(t)
	fake.Put(testenv.People(30)...)
	other.Instance = "ins_other"
	settings := map[string]string{
		"MONGODB_URI": config.EmbeddedPrefix + t.TempDir(), "CLERK_SECRET_KEY": testenv.ClerkKey,
		"CLERK_API_URL": fake.URL, "CLERK_INSTANCE_ID": testenv.ClerkInstance,
	}
	for _, step := range []struct {
		args     string
		set      map[string]string
		out, err string
	}{
		{"backfill", map[string]string{"CLERK_SECRET_KEY": ""}, "", "CLERK_SECRET_KEY is not set: set it to"},
		{
			"backfill",
			map[string]string{"CLERK_SECRET_KEY": "hunter2"},
			"",
			"CLERK_SECRET_KEY does not begin with sk_live_ or sk_test_",
		},
		{
			"backfill",
			map[string]string{"CLERK_SECRET_KEY": "sk_live_hunter2"},
			"",
			"CLERK_SECRET_KEY is not accepted (Clerk answered 401)",
		},
		{
			"backfill",
			map[string]string{"CLERK_INSTANCE_ID": "ins_other"},
			"",
			"CLERK_SECRET_KEY is of the instance ins_2e2e, not of CLERK_INSTANCE_ID",
		},
		{"backfill", map[string]string{"CLERK_API_URL": "clerk"}, "", "CLERK_API_URL is no URL"},
		{"backfill", map[string]string{"CLERK_RATE_SHARE": "2"}, "", "CLERK_RATE_SHARE is out of range: set it to"},
		{"backfill", map[string]string{"CLERK_RATE_SHARE": "half"}, "", "CLERK_RATE_SHARE cannot be read: set it to"},
		{"backfill", map[string]string{"MONGODB_URI": ""}, "", "MONGODB_URI is not set"},
		{"backfill --dry-run", nil, "30 users (nothing was written): 30 created, 0 updated", ""},
		{"backfill", nil, "30 users: 30 created, 0 updated, 0 unchanged, 0 stale, 0 deleted, 0 failed", ""},
		{"backfill --dry-run", nil, "30 users (nothing was written): 0 created, 0 updated, 30 unchanged", ""},
		{
			"backfill",
			map[string]string{"CLERK_API_URL": other.URL, "CLERK_INSTANCE_ID": ""},
			"",
			"CLERK_SECRET_KEY is of the instance ins_other, and the users here are of ins_2e2e: copy",
		},
		{
			"users ensure user_2x",
			map[string]string{"CLERK_API_URL": other.URL, "CLERK_INSTANCE_ID": ""},
			"",
			"CLERK_SECRET_KEY is of the instance ins_other, and",
		},
	} {
		out, log, err := command(t, with(settings, step.set), strings.Fields(step.args)...)
		if !strings.HasPrefix(out, step.out) || step.out == "" && out != "" {
			t.Errorf("%s %v: printed %q, want %q", step.args, step.set, out, step.out)
		}
		if !says(err, step.err) || strings.Contains(fmt.Sprint(err, out, log), "hunter2") {
			t.Errorf("%s %v: got %v, want %q", step.args, step.set, err, step.err)
		}
	}
}

// TestOneTimeCodesAtStart: who names a type that holds one-time codes is warned at start, and who uses a pattern reads
// what it leaves out.
func TestOneTimeCodesAtStart(t *testing.T) {
	t.Parallel()
	for forward, want := range map[string]map[string]string{ // what a line of each level names
		"user.*":         {},
		"*":              {"INFO": `["email.created","sms.created"]`},
		"*, sms.created": {"WARN": `["sms.created"]`, "INFO": `["email.created"]`},
	} {
		settings := good(t)
		settings["CLERK_FORWARD_EVENTS"] = forward
		s := serve(t, settings)
		if err := s.stop(); err != nil {
			t.Error(err)
		}
		for _, level := range []string{"WARN", "INFO"} {
			got := ""
			for line := range strings.Lines(s.log.String()) {
				if strings.Contains(line, `"level":"`+level) && strings.Contains(line, "one-time codes") {
					_, got, _ = strings.Cut(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(line), "}")),
						`"types":`)
				}
			}
			if got != want[level] {
				t.Errorf("%s: a line %s names %s, want %s", forward, level, got, want[level])
			}
		}
	}
}

// TestKeyOfAnotherInstance: the first backfill is refused a key of another instance than the webhooks were of, and the
// right key is not.
func TestKeyOfAnotherInstance(t *testing.T) {
	t.Parallel()
	right, wrong := testenv.NewClerkAPI(t), testenv.NewClerkAPI(t)
	right.Put(testenv.People(30)...)
	wrong.Put(testenv.ClerkUser{ID: "user_2stranger"})
	wrong.Instance = "ins_other"
	settings := good(t)
	maps.Copy(settings, map[string]string{"CLERK_SECRET_KEY": testenv.ClerkKey, "CLERK_API_URL": wrong.URL})
	// who tries a sample first has no instance yet
	for _, instance := range []string{webhook.SampleInstance, testenv.ClerkInstance} {
		s := serve(t, settings)
		body := fmt.Sprintf(`{"type":"session.created","instance_id":%q,"data":{}}`, instance)
		if code, text := do(t, testenv.Signed(t, s.url+"/webhooks/clerk", testenv.Secret, "msg_1", time.Now(),
			[]byte(body))); code != http.StatusNoContent {
			t.Fatalf("got %d %s, want 204", code, text)
		}
		if err := s.stop(); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{
		{"backfill"},
		{"backfill", "--dry-run"},
		{"reconcile"},
		{"users", "ensure", "user_2stranger"},
	} {
		out, _, err := command(t, settings, args...)
		if want := "CLERK_SECRET_KEY is of the instance ins_other, and the users here are of ins_2e2e: " +
			"copy"; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %q, %v, want %q", args, out, err, want)
		}
	}
	settings["CLERK_API_URL"] = right.URL
	if out, _, err := command(t, settings, "backfill"); err != nil ||
		!strings.HasPrefix(out, "30 users: 30 created, 0 updated") {
		t.Errorf("the right key: got %q, %v", out, err)
	}
}

// TestReconcile: the plan names users and fields, values only when asked; what differs is repaired, and rows are not
// removed by the dozen.
func TestReconcile(t *testing.T) {
	t.Parallel()
	fake := testenv.NewClerkAPI(t)
	people := testenv.People(30)
	fake.Put(people...)
	settings := map[string]string{
		"MONGODB_URI": config.EmbeddedPrefix + t.TempDir(), "CLERK_SECRET_KEY": testenv.ClerkKey,
		"CLERK_API_URL": fake.URL,
	}
	reconcile := func(args string, set map[string]string) (string, error) {
		out, log, err := command(t, with(settings, set), strings.Fields("reconcile "+args)...)
		if log != "" {
			t.Errorf("logged %s", log)
		}
		return out, err
	}
	if out, err := reconcile("", nil); err != nil || !strings.HasPrefix(out, "missing  user_2people") ||
		!strings.Contains(out, "30 users at Clerk, 0 rows: 30 missing, 0 stale, 0 extra (repaired), 0 failed, 0 "+
			"buried, 0 unknown; ") {
		t.Fatalf("an empty collection: got %s, %v", out, err)
	}
	people[4].Email = "new@mail.example"
	fake.Put(people[4])
	gone := []string{people[7].ID}
	fake.Remove(gone...)
	for _, step := range []struct {
		args     string
		set      map[string]string
		out, err string
	}{
		{"", map[string]string{"CLERK_SECRET_KEY": ""}, "^$", "CLERK_SECRET_KEY is not set: set it to"},
		{
			"",
			map[string]string{"CLERK_SECRET_KEY": "sk_live_hunter2"},
			"^$",
			"CLERK_SECRET_KEY is not accepted (Clerk answered 401)",
		},
		{
			"",
			map[string]string{"RECONCILE_MAX_DELETE": "all"},
			"^$",
			"RECONCILE_MAX_DELETE cannot be read: set it to a percentage",
		},
		{
			"",
			map[string]string{"RECONCILE_MAX_DELETE": "101%"},
			"^$",
			"RECONCILE_MAX_DELETE is out of range: set it to a percentage",
		},
		{
			"--dry-run", nil, `^extra    user_2people0+7\nstale    user_2people0+4  email\n29 users at Clerk, 30 ` +
				`rows: 0 missing, 1 stale, 1 extra \(nothing was written\), 0 failed, 0 buried, 0 unknown; `,
			"2 rows differ from Clerk",
		},
		{
			"--dry-run --show-values", nil,
			`stale    user_2people0+4  email "person-4@mail.example", at Clerk "new@mail.example"\n`,
			"2 rows differ from Clerk",
		},
		{
			"", nil, `^extra .*\nstale .*\n29 users at Clerk, 30 rows: 0 missing, 1 stale, 1 extra \(repaired\), 0 ` +
				`failed`, "",
		},
		{
			"", nil, `^29 users at Clerk, 29 rows: 0 missing, 0 stale, 0 extra \(repaired\), 0 failed, 0 buried, 0 ` +
				`unknown; [0-9.]+m?s\n$`, "",
		},
	} {
		out, err := reconcile(step.args, step.set)
		if !regexp.MustCompile(step.out).MatchString(out) {
			t.Errorf("%s %v: printed\n%s, want %s", step.args, step.set, out, step.out)
		}
		if !says(err, step.err) {
			t.Errorf("%s %v: got %v, want %q", step.args, step.set, err, step.err)
		}
		if differ := strings.HasPrefix(step.err, "2 rows"); differ != (exitCode(err) == 2) {
			t.Errorf("%s %v: got the exit status %d", step.args, step.set, exitCode(err))
		}
	}
	for _, p := range people[10:20] {
		fake.Remove(p.ID)
	}
	want := "the brake RECONCILE_MAX_DELETE holds: Clerk does not have the users of 10 of 29 rows, and nothing was " +
		"removed; check that CLERK_SECRET_KEY"
	if out, err := reconcile("", nil); err == nil || !strings.HasPrefix(err.Error(), want) ||
		strings.Contains(out, "extra ") {
		t.Errorf("ten are gone: got %s, %v, want %s", out, err, want)
	}
	if out, err := reconcile("", map[string]string{"RECONCILE_MAX_DELETE": "50%"}); err != nil ||
		strings.Count(out, "extra  ") != 10 {
		t.Errorf("ten may go: got %s, %v", out, err)
	}
}

// TestEnsure: the row of a user whose webhook has not come is written at once, for who has the token.
func TestEnsure(t *testing.T) {
	t.Parallel()
	fake := testenv.NewClerkAPI(t)
	people := testenv.People(3)
	fake.Put(people...)
	const token = "a-token-of-many-characters"
	settings := good(t)
	maps.Copy(settings, map[string]string{
		"CLERK_SECRET_KEY": testenv.ClerkKey, "CLERK_API_URL": fake.URL, "ADMIN_TOKEN": token,
	})
	s := serve(t, settings)
	deleted := `{"type":"user.deleted","data":{"id":"` + people[1].ID + `","object":"user","deleted":true}}`
	if code, text := do(t, testenv.Signed(t, s.url+"/webhooks/clerk", testenv.Secret, "msg_1", time.Now(),
		[]byte(deleted))); code != http.StatusAccepted {
		t.Fatalf("got %d %s, want 202", code, text)
	}
	withRunningDatabase(t, settings, func(_ context.Context, db *database.DB) {
		testenv.Delete(t, store.NewUsers(db, mapping.Default()), people[1].ID) // no Inngest runs the function
	})
	ask := func(method, id, auth string) *http.Request {
		req := request(t, method, s.url+"/users/"+id+"/ensure", "")
		req.Header.Set("Authorization", auth)
		return req
	}
	for name, tc := range map[string]struct {
		req  *http.Request
		code int
		body string
	}{
		"a user of Clerk's": {ask(http.MethodPost, people[0].ID, "Bearer "+token), 200, `"full_name":"Ada Lovelace 0"`},
		"once more":         {ask(http.MethodPost, people[0].ID, "Bearer "+token), 200, `"username":"person-0"`},
		"a deleted user": {
			ask(http.MethodPost, people[1].ID, "Bearer "+token), 410, `{"error":"the user is deleted"}`,
		},
		"nobody": {
			ask(http.MethodPost, "user_nobody", "Bearer "+token), 404,
			`{"error":"no such user at Clerk: an id of Clerk's is user_ and 27 letters`,
		},
		"count": {
			ask(http.MethodPost, "count", "Bearer "+token), 404, `{"error":"no such user at Clerk: an id`,
		},
		"another token": {ask(http.MethodPost, people[0].ID, "Bearer "+token+"x"), 401, "ADMIN_TOKEN"},
		"no token":      {ask(http.MethodPost, people[0].ID, ""), 401, "ADMIN_TOKEN"},
		"by GET":        {ask(http.MethodGet, people[0].ID, "Bearer "+token), 405, ""},
	} {
		if code, body := do(t, tc.req); code != tc.code || !strings.Contains(body, tc.body) {
			t.Errorf("%s: got %d %s, want %d %s", name, code, body, tc.code, tc.body)
		}
	}
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	for id, want := range map[string]string{
		people[2].ID: "", people[1].ID: "the user is deleted, and stays so",
		"user_nobody": "no such user at Clerk: an id", testenv.UserID(time.Now(),
			1): "no such user at Clerk: check the id",
	} {
		out, _, err := command(t, settings, "users", "ensure", id)
		if !says(err, want) || want == "" && !strings.Contains(out, `"full_name": "Ada Lovelace 2"`) {
			t.Errorf("users ensure %s: got %s, %v, want %q", id, out, err, want)
		}
	}
	settings["CLERK_SECRET_KEY"] = ""
	s = serve(t, settings)
	code, body := do(t, ask(http.MethodPost, people[0].ID, "Bearer "+token))
	if code != http.StatusNotImplemented || !strings.Contains(body, "set CLERK_SECRET_KEY") {
		t.Errorf("without a key of Clerk's: got %d %s, want 501", code, body)
	}
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	settings["ADMIN_TOKEN"] = "short"
	if err := run(t.Context(), []string{"serve"}, environ(settings), io.Discard, io.Discard); err == nil ||
		!strings.Contains(err.Error(), "ADMIN_TOKEN is too short: set it to 16") {
		t.Errorf("a short token: got %v", err)
	}
}

// TestFullTierIsRegistered: Inngest refuses a whole app for one jitter over 5 minutes. The full tier has none: it is
// spread over the hour by a minute that every replica and every registration of one Clerk instance has, and others do
// not.
func TestFullTierIsRegistered(t *testing.T) {
	t.Parallel()
	api := testenv.NewClerkAPI(t)
	// registered returns the cron of the full tier in the first n registrations of a service.
	registered := func(n int, set map[string]string) []string {
		t.Helper()
		inngest := newFakeInngest(t)
		settings := good(t)
		maps.Copy(settings, map[string]string{
			"INNGEST_DEV": inngest.URL, "CLERK_SECRET_KEY": testenv.ClerkKey, "CLERK_API_URL": api.URL,
		})
		maps.Copy(settings, set)
		s := serve(t, settings)
		var crons []string
		for range n {
			until(t, "the functions are registered", func() bool {
				inngest.mu.Lock()
				defer inngest.mu.Unlock()
				if inngest.register == nil {
					return false
				}
				var reg struct {
					Functions []struct {
						ID       string
						Triggers []map[string]any
					}
				}
				if err := json.Unmarshal(inngest.register, &reg); err != nil {
					t.Fatal(err)
				}
				for _, f := range reg.Functions {
					for _, trigger := range f.Triggers {
						if _, ok := trigger["jitter"]; ok {
							t.Errorf("%s is registered with %v", f.ID, trigger)
						}
						if f.ID == "clerksync-reconcile-users-with-clerk" {
							crons = append(crons, fmt.Sprint(trigger["cron"]))
						}
					}
				}
				inngest.register = nil
				return true
			})
		}
		if err := s.stop(); err != nil {
			t.Error(err)
		}
		if len(crons) != n {
			t.Fatalf("got crons %v, want %d", crons, n)
		}
		return crons
	}
	ours := map[string]string{"CLERK_INSTANCE_ID": testenv.ClerkInstance}
	got := append(registered(2, ours), registered(1, ours)...)
	if !regexp.MustCompile(`^TZ=UTC [1-5]?[0-9] 3 \* \* \*$`).MatchString(got[0]) || got[1] != got[0] ||
		got[2] != got[0] {
		t.Errorf("got %q, at the next registration %q, by a replica %q", got[0], got[1], got[2])
	}
	if set := registered(1, map[string]string{"RECONCILE_CRON": "TZ=UTC 5 1 * * *"}); set[0] != "TZ=UTC 5 1 * * *" {
		t.Errorf("RECONCILE_CRON: got %q, want it as it is", set)
	}
}

// TestHealth: the health check of a container asks the service and the database, not Inngest, and says in a line what
// does not answer.
func TestHealth(t *testing.T) {
	t.Parallel()
	settings := good(t) // Inngest is away
	s := serve(t, settings)
	_, port, err := net.SplitHostPort(strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	another := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(another.Close)
	_, foreign, err := net.SplitHostPort(another.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		set       map[string]string
		out, want string
	}{
		"both answer": {map[string]string{"PORT": port}, "the service and the database answer\n", ""},
		"on all interfaces": {
			map[string]string{"PORT": port, "HOST": ""}, "the service and the database answer\n", "",
		},
		"somebody else": {
			map[string]string{"PORT": foreign}, "", "the service does not answer on port " + foreign +
				": it answers 404",
		},
		"the database is not": {
			map[string]string{"PORT": port, "MONGODB_URI": "mongodb://u:hunter2@127.0.0.1:1/x"},
			"",
			"the database cannot be reached: nothing listens on that port of the host",
		},
	} {
		out, _, err := command(t, with(settings, tc.set), "health")
		if !says(err, tc.want) ||
			err != nil && (strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "hunter2")) {
			t.Errorf("%s: got %v, want %q", name, err, tc.want)
		}
		if out != tc.out {
			t.Errorf("%s: printed %q, want %q", name, out, tc.out)
		}
	}
}
