package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"clerksync/internal/testenv"

	"github.com/google/go-cmp/cmp"
	"github.com/inngest/inngestgo"
)

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

// registered waits until functions are registered, and returns with what and with which authorization. They are
// registered again every now and then.
func (f *fakeInngest) registered(t *testing.T) (register json.RawMessage, auth string) {
	t.Helper()
	until(t, "the functions are registered", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		register, auth = f.register, f.auth
		return register != nil
	})
	return register, auth
}

func (f *fakeInngest) sent() []json.RawMessage {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.events)
}

// service is 'clerksync serve' in this process.
type service struct {
	url  string
	log  *testenv.Output
	stop func() error
}

func serve(t *testing.T, settings map[string]string) service {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	s := service{log: &testenv.Output{}}
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

// patience is how long a test waits for what happens by itself: much longer than it takes, for the machine may be busy.
const patience = 3 * time.Minute

func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !cond(); <-tick.C {
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

	register, _ := inngest.registered(t)
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
	if err := json.Unmarshal(register, &reg); err != nil {
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
	if got, auth := inngest.registered(t); !strings.Contains(string(got), `"url":"https://app.example/api/inngest"`) ||
		!strings.Contains(auth, "Bearer signkey-test-") {
		t.Errorf("registered with %q: %s", auth, got)
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
