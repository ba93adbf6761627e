package inngest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"clerksync/internal/testenv"

	"github.com/google/go-cmp/cmp"
	"github.com/inngest/inngestgo"
	"github.com/inngest/inngestgo/pkg/checkpoint"
	"github.com/inngest/inngestgo/step"
)

// fake is an Inngest whose answers a test sets.
type fake struct {
	*httptest.Server
	register   http.HandlerFunc
	checkpoint http.HandlerFunc

	mu            sync.Mutex
	registrations []json.RawMessage
	auth          []string // of the registrations
	kept          map[string]json.RawMessage
	checkpoints   int
}

func newFake(t *testing.T) *fake {
	t.Helper()
	f := &fake{
		register:   func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"ok":true}`) },
		checkpoint: http.NotFound,
		kept:       map[string]json.RawMessage{},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /fn/register", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		f.mu.Lock()
		f.registrations, f.auth = append(f.registrations, body), append(f.auth, r.Header.Get("Authorization"))
		f.mu.Unlock()
		f.register(w, r)
	})
	mux.HandleFunc("POST /v1/checkpoint/{run}/async", func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		f.checkpoints++
		f.mu.Unlock()
		f.checkpoint(w, r)
	})
	f.Server = httptest.NewUnstartedServer(mux)
	f.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	t.Cleanup(func() {
		f.CloseClientConnections()
		f.Close()
	})
	return f
}

// keep is a checkpoint API that keeps the steps, and answers 400 if there are none, as v1.44.0 does.
func (f *fake) keep(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Steps []struct {
			ID   string          `json:"id"`
			Data json.RawMessage `json:"data"`
		} `json:"steps"`
	}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		http.Error(w, `{"error":"invalid request body"}`, http.StatusBadRequest)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range body.Steps {
		f.kept[s.ID] = json.RawMessage(`{"data":` + string(s.Data) + `}`)
	}
}

// oneStep returns a function of one step.
func oneStep(do func(ctx context.Context) (string, error)) func(inngestgo.Client, bool) error {
	return func(c inngestgo.Client, checkpoints bool) error {
		o := inngestgo.FunctionOpts{ID: "write", Name: "Write"}
		if checkpoints {
			o.Checkpoint = checkpoint.ConfigSafe
		}
		_, err := inngestgo.CreateFunction(c, o, inngestgo.EventTrigger("app/user", nil),
			func(ctx context.Context, _ inngestgo.Input[any]) (any, error) {
				return step.Run(ctx, "write-user", do)
			})
		return err
	}
}

func done(context.Context) (string, error) { return "done", nil }

func newHandler(t *testing.T, s Server, log io.Writer, do func(context.Context) (string, error)) *Handler {
	t.Helper()
	s.AppID = "app"
	h, err := New(Options{
		Server: s, Origin: "http://127.0.0.1:3000", Path: "/api/inngest", Register: oneStep(do), MaxBody: maxBody,
		Log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelInfo})),
	})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// tooLate is what is said of a registration whose time is up.
const tooLate = "did not answer in time"

// register registers the functions within a time. If that is too short for a busy machine, though the answers take no
// time, it gets more.
func register(t *testing.T, h *Handler, within time.Duration, want string) error {
	t.Helper()
	for ; ; within *= 2 {
		err := h.register(t.Context(), within)
		if err == nil || !strings.Contains(err.Error(), tooLate) || want == tooLate || within > time.Minute {
			return err
		}
	}
}

// TestRegistration: what Inngest is told is what the SDK itself would tell it.
func TestRegistration(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]Server{
		"dev server":       {Dev: true},
		"Inngest of one's": {SigningKey: key, SigningKeyFallback: fallback, Env: "branch"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			f.Start()
			s.URL, s.AppID = f.URL, "app"
			h := newHandler(t, s, t.Output(), done)
			if err := h.register(t.Context(), time.Minute); err != nil {
				t.Fatal(err)
			}
			client, err := inngestgo.NewClient(inngestgo.ClientOpts{
				AppID: s.AppID, Dev: &s.Dev, SigningKey: &s.SigningKey, SigningKeyFallback: &s.SigningKeyFallback,
				Env: &s.Env, APIBaseURL: &f.URL, Logger: slog.New(slog.DiscardHandler),
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := oneStep(done)(client, false); err != nil {
				t.Fatal(err)
			}
			sdk := client.ServeWithOpts(inngestgo.ServeOpts{
				Origin: new("http://127.0.0.1:3000"), Path: new("/api/inngest"), EnableUnauthedSync: new(true),
			})
			put := httptest.NewRequestWithContext(t.Context(), http.MethodPut, "/api/inngest", nil)
			sdk.ServeHTTP(httptest.NewRecorder(), put)
			var got [2]map[string]any
			for i := range got {
				if err := json.Unmarshal(f.registrations[i], &got[i]); err != nil {
					t.Fatal(err)
				}
				for _, none := range []string{"framework", "idempotencyKey"} { // the SDK sends them empty
					if got[i][none] == "" {
						delete(got[i], none)
					}
				}
				delete(got[i]["headers"].(map[string]any), "platform") // Inngest reads it from the header of a request
			}
			if diff := cmp.Diff(got[1], got[0]); diff != "" {
				t.Errorf("it is not what the SDK sends (-SDK +got):\n%s", diff)
			}
			if f.auth[0] != f.auth[1] {
				t.Errorf("got Authorization %q, want %q", f.auth[0], f.auth[1])
			}
		})
	}
}

// TestRegistrationFallback: a server that has only the fallback key yet gets that.
func TestRegistrationFallback(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.register = func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+hashed(fallback) {
			w.WriteHeader(http.StatusUnauthorized)
		}
	}
	f.Start()
	both := newHandler(t, Server{URL: f.URL, SigningKey: key, SigningKeyFallback: fallback}, t.Output(), done)
	if err := both.register(t.Context(), time.Minute); err != nil {
		t.Error(err)
	}
	err := newHandler(t, Server{URL: f.URL, SigningKey: key}, t.Output(), done).register(t.Context(), time.Minute)
	if !errors.Is(err, ErrKey) {
		t.Errorf("without the fallback key: got %v, want %v", err, ErrKey)
	}
}

// TestRegistrationLeaks: registering again and again leaves nothing behind, whatever Inngest answers, and says what is
// wrong. The SDK's own registration leaves a goroutine without an answer, and with one two of them and a connection.
func TestRegistrationLeaks(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		answer http.HandlerFunc
		err    string
	}{
		"it takes them": {nil, ""},
		"it refuses them": {
			func(w http.ResponseWriter, _ *http.Request) {
				http.Error(w, `{"error":"not today"}`, 400)
			}, "400 Bad Request: not today",
		},
		"it does not answer": {
			func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, tooLate,
		},
		"it takes them, and does not say all of it": {func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, `{"ok`)
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}, ""},
		"it breaks the connection": {
			func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "cannot be reached",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var connections atomic.Int64
			f := newFake(t)
			if tc.answer != nil {
				f.register = tc.answer
			}
			f.Config.ConnState = func(_ net.Conn, s http.ConnState) {
				switch s {
				case http.StateNew:
					connections.Add(1)
				case http.StateClosed:
					connections.Add(-1)
				}
			}
			f.Start()
			h := newHandler(t, Server{URL: f.URL, Dev: true}, t.Output(), done)
			for range 5 {
				err := register(t, h, time.Second/2, tc.err)
				if (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
					t.Errorf("got %v, want %q", err, tc.err)
				}
			}
			for deadline := time.Now().Add(time.Minute); connections.Load() > 2; <-time.After(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("%d connections to Inngest are open, want them to be used again", connections.Load())
				}
			}
		})
	}
}

// TestKeepRegistered: it goes on until Inngest has taken the functions.
func TestKeepRegistered(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	var calls atomic.Int64
	f.register = func(w http.ResponseWriter, _ *http.Request) {
		if calls.Add(1) == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}
	f.Start()
	var log bytes.Buffer
	h := newHandler(t, Server{URL: f.URL, Dev: true}, &log, done)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { h.KeepRegistered(ctx); close(ended) }()
	<-h.Registered()
	cancel()
	<-ended
	for text, want := range map[string]int{"cannot be registered": 1, "registered the functions": 1} {
		if got := strings.Count(log.String(), text); got != want {
			t.Errorf("it says %d times %q, want %d:\n%s", got, text, want, &log)
		}
	}
}

// TestStopWhileRegistering: a registration that is under way when the service ends neither holds up the end nor is
// called a failure.
func TestStopWhileRegistering(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	f := newFake(t)
	f.register = func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	}
	f.Start()
	var log bytes.Buffer
	newHandler(t, Server{URL: f.URL, Dev: true}, &log, done).KeepRegistered(ctx)
	if log.Len() > 0 {
		t.Errorf("it says\n%s", &log)
	}
}

// TestHasCheckpoints: what a server answers to an empty checkpoint tells whether it knows them; what says nothing of
// that changes nothing.
func TestHasCheckpoints(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		code      int
		off, stay bool
	}{
		"v1.12.1":           {code: 404, off: true},
		"v1.44.0":           {code: 400},
		"another key":       {code: 401},
		"not allowed":       {code: 403},
		"unprocessable":     {code: 422},
		"taken":             {code: 200},
		"a broken server":   {code: 500, stay: true},
		"a proxy's gateway": {code: 502, stay: true},
		"no connection":     {stay: true},
		"no answer":         {code: -1, off: true}, // with checkpoints each run would wait for it
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			f.checkpoint = func(w http.ResponseWriter, r *http.Request) {
				if body, err := io.ReadAll(r.Body); err != nil || len(body) > 0 ||
					r.Header.Get("Authorization") != "Bearer "+hashed(key) {
					t.Errorf("asked with %q %v, %q", body, err, r.Header.Get("Authorization"))
				}
				switch tc.code {
				case -1:
					<-r.Context().Done()
				case 0:
					panic(http.ErrAbortHandler)
				default:
					w.WriteHeader(tc.code)
				}
			}
			f.Start()
			h := newHandler(t, Server{URL: f.URL, SigningKey: key}, t.Output(), done)
			if h.checkpoints.Load() {
				t.Error("they are on before the server was asked")
			}
			for _, before := range []bool{false, true} {
				timeout := time.Minute
				if tc.code == -1 { // half of it passes
					timeout = time.Second
				}
				want := !tc.off && (!tc.stay || before)
				for tries := 1; ; tries++ { // a connection that breaks by chance says nothing either
					h.checkpoints.Store(before)
					if err := register(t, h, timeout, ""); err != nil {
						t.Fatal(err)
					}
					if got := h.checkpoints.Load(); got == want {
						break
					} else if tries == 5 {
						t.Fatalf("they were %v: got %v, want %v", before, got, want)
					}
				}
			}
		})
	}
}

// TestExposedKey: the signing key goes to no other host in the clear: then there are no checkpoints, nobody is asked
// about them, and the start says so in a line.
func TestExposedKey(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]bool{
		"":                              false,
		"https://inngest.example":       false,
		"http://127.0.0.1:8288":         false,
		"http://127.1.2.3:8288":         false,
		"http://[::1]:8288":             false,
		"http://localhost:8288":         false,
		"http://inngest:8288":           true,
		"http://10.0.0.7":               true,
		"http://localhost.example:8288": true,
		"http://[::]:8288":              true,
	} {
		var log bytes.Buffer
		h := newHandler(t, Server{URL: url, SigningKey: key}, &log, done)
		if got := strings.Count(log.String(), "\n"); got != 0 != want || got > 1 {
			t.Errorf("%q: it says\n%s, want a line: %v", url, &log, want)
		}
		if h.o.Server.exposes() != want || h.checkpoints.Load() != (url == "") {
			t.Errorf("%q: exposed %v, checkpoints %v", url, h.o.Server.exposes(), h.checkpoints.Load())
		}
	}
	f := newFake(t)
	f.checkpoint = f.keep
	f.Start()
	everywhere := strings.Replace(f.URL, "127.0.0.1", "0.0.0.0", 1) // is no loopback address, and reaches this host
	h := newHandler(t, Server{URL: everywhere, SigningKey: key}, t.Output(), done)
	if err := h.register(t.Context(), time.Minute); err != nil {
		t.Fatal(err)
	}
	if f.checkpoints != 0 || h.checkpoints.Load() {
		t.Errorf("it was asked %d times, checkpoints %v", f.checkpoints, h.checkpoints.Load())
	}
}

// TestSwitch: a run goes on when the server's version changes under it, in each direction and wherever it is, and its
// step is not done twice.
func TestSwitch(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		before, after bool // whether the server knows checkpoints
		fails         int  // how often the step does
		lost          bool // the first answer, so that Inngest calls again
		want          []int
	}{
		"upgrade after the step":               {before: false, after: true, want: []int{206, 200}},
		"downgrade after the step":             {before: true, after: false, lost: true, want: []int{200, 200}},
		"upgrade after the step has failed":    {before: false, after: true, fails: 1, want: []int{206, 200}},
		"downgrade after the step has failed":  {before: true, after: false, fails: 1, want: []int{206, 206, 200}},
		"no change, without":                   {before: false, after: false, want: []int{206, 200}},
		"no change, with":                      {before: true, after: true, want: []int{200}},
		"no change, with, the answer was lost": {before: true, after: true, lost: true, want: []int{200, 200}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			var knows atomic.Bool
			f.checkpoint = func(w http.ResponseWriter, r *http.Request) {
				if !knows.Load() {
					http.NotFound(w, r)
					return
				}
				f.keep(w, r)
			}
			f.Start()
			var fails, count atomic.Int64
			fails.Store(int64(tc.fails))
			h := newHandler(t, Server{URL: f.URL, Dev: true}, t.Output(), func(context.Context) (string, error) {
				if fails.Add(-1) >= 0 {
					return "", errors.New("not now")
				}
				count.Add(1)
				return "done", nil
			})
			ex := &testenv.Executor{Handler: h, AppID: "app"}
			var got []int
			for attempt := 0; len(got) < 5; {
				knows.Store(tc.before)
				if len(got) > 0 {
					knows.Store(tc.after)
				}
				if err := h.register(t.Context(), time.Minute); err != nil {
					t.Fatal(err)
				}
				code, _, body := ex.Call(t.Context(), t, "write", testenv.Event{Name: "app/user", Data: []byte("{}")},
					f.kept, attempt, 3)
				got = append(got, code)
				if code == http.StatusOK && (!tc.lost || len(got) > 1) {
					if string(body) != `"done"` {
						t.Errorf("the run returns %s", body)
					}
					break
				}
				if code == http.StatusOK {
					continue
				}
				var ops []struct {
					Op, ID string
					Data   json.RawMessage
				}
				if err := json.Unmarshal(body, &ops); err != nil || len(ops) != 1 {
					t.Fatalf("answer %s: %v", body, err)
				}
				if ops[0].Op == "StepError" {
					attempt++
				} else {
					f.kept[ops[0].ID], attempt = json.RawMessage(`{"data":`+string(ops[0].Data)+`}`), 0
				}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("the calls were answered (-want +got):\n%s", diff)
			}
			if count.Load() != 1 {
				t.Errorf("the step was done %d times, want once", count.Load())
			}
		})
	}
}

// TestSwitchAmongCalls: switching while calls come harms none of them.
func TestSwitchAmongCalls(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.checkpoint = f.keep
	f.Start()
	h := newHandler(t, Server{URL: f.URL, Dev: true}, t.Output(), done)
	ex := &testenv.Executor{Handler: h, AppID: "app"}
	stop := make(chan struct{})
	var switching sync.WaitGroup
	switching.Go(func() {
		for on := false; ; on = !on {
			select {
			case <-stop:
				return
			default:
				h.checkpoints.Store(on)
			}
		}
	})
	var calls sync.WaitGroup
	for range 4 {
		calls.Go(func() {
			for range 50 {
				r := ex.Run(t, "write", testenv.Event{Name: "app/user", Data: []byte("{}")})
				if r.Failed || string(r.Output) != `"done"` {
					t.Errorf("a run ends with %+v", r)
				}
			}
		})
	}
	calls.Wait()
	close(stop)
	switching.Wait()
}

// TestHangingCheckpoint: a checkpoint API that does not answer delays the answer to a call, and does not cut it off:
// the server's time-out for writing allows for the SDK's for a checkpoint.
func TestHangingCheckpoint(t *testing.T) {
	t.Parallel()
	const hang = 400 * time.Millisecond
	for name, tc := range map[string]struct {
		write, hang time.Duration // a hang of 0 ends with the SDK's patience
		cut         bool
	}{
		"as long as the SDK waits":          {write: WriteTimeout(0)},
		"both have time":                    {write: hang + time.Minute, hang: hang},
		"the checkpoint is not allowed for": {write: hang / 4, hang: hang, cut: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if tc.hang == 0 && testing.Short() {
				t.Skip("it waits for 30 seconds")
			}
			f := newFake(t)
			f.checkpoint = func(_ http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body) // so that it learns of a client that hangs up
				ctx, cancel := r.Context(), context.CancelFunc(func() {})
				if tc.hang > 0 {
					ctx, cancel = context.WithTimeout(ctx, tc.hang)
				}
				defer cancel()
				<-ctx.Done()
				panic(http.ErrAbortHandler)
			}
			f.Start()
			h := newHandler(t, Server{URL: f.URL, Dev: true}, t.Output(), done)
			h.checkpoints.Store(true)
			srv := httptest.NewUnstartedServer(h)
			srv.Config.WriteTimeout = tc.write
			srv.Start()
			defer srv.Close()
			body := `{"event":{"name":"app/user","data":{}},"events":[{"name":"app/user","data":{}}],"steps":{},` +
				`"ctx":{"run_id":"01JTESTRUN","fn_id":"00000000-0000-0000-0000-000000000001","step_id":"step"}}`
			res, err := srv.Client().Post(srv.URL+"?fnId=app-write&stepId=step", "application/json",
				strings.NewReader(body))
			if (err != nil) != tc.cut {
				t.Fatalf("got %v, want it cut off: %v", err, tc.cut)
			}
			if err != nil {
				return
			}
			defer res.Body.Close()
			answer, err := io.ReadAll(res.Body)
			if err != nil || res.StatusCode != http.StatusPartialContent ||
				!strings.Contains(string(answer), `"StepRun"`) {
				t.Errorf("got %d %s %v, want the step that is done", res.StatusCode, answer, err)
			}
		})
	}
	if got := WriteTimeout(time.Minute); got < time.Minute+checkpointTimeout {
		t.Errorf("a server has %v for a call of a minute", got)
	}
}
