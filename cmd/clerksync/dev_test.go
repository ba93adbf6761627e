package main

import (
	"cmp"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"clerksync/config"
	"clerksync/internal/testenv"

	"github.com/rogpeppe/go-internal/testscript"
)

// scriptInngest is the command 'inngest' of a script: from now on, 'dev' uses an Inngest that runs the functions which
// are registered with it, at once and without a process of its own. INNGEST_PORT is its port.
func scriptInngest(t *testing.T, ts *testscript.TestScript) {
	t.Helper()
	f := &runsFunctions{t: t}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("POST /fn/register", f.register)
	mux.HandleFunc("POST /e/{key}", f.events)
	server := httptest.NewServer(mux)
	ts.Defer(func() {
		server.Close()
		f.running.Wait()
	})
	ts.Setenv("INNGEST_DEV", server.URL)
	ts.Setenv("INNGEST_PORT", server.URL[strings.LastIndexByte(server.URL, ':')+1:])
}

// runsFunctions is an Inngest that runs the functions that it knows.
type runsFunctions struct {
	t       *testing.T
	running sync.WaitGroup

	mu        sync.Mutex
	service   *url.URL
	functions map[string]string // the function for an event, by the event's name
}

func (f *runsFunctions) register(w http.ResponseWriter, r *http.Request) {
	var d struct {
		URL       string
		Functions []struct {
			ID       string
			Triggers []struct{ Event string }
		}
	}
	if err := json.NewDecoder(r.Body).Decode(&d); err != nil {
		f.t.Error(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var err error
	if f.service, err = url.Parse(d.URL); err != nil {
		f.t.Error(err)
	}
	f.functions = map[string]string{}
	for _, fn := range d.Functions {
		for _, trigger := range fn.Triggers {
			f.functions[trigger.Event] = strings.TrimPrefix(fn.ID, "clerksync-")
		}
	}
	_, _ = w.Write([]byte(`{"ok":true}`))
}

func (f *runsFunctions) events(w http.ResponseWriter, r *http.Request) {
	var events []testenv.Event
	if err := json.NewDecoder(r.Body).Decode(&events); err != nil {
		f.t.Error(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	e := &testenv.Executor{AppID: "clerksync", Handler: &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: f.service.Scheme, Host: f.service.Host})
	}}}
	for _, event := range events {
		if fn := f.functions[event.Name]; fn != "" {
			f.running.Go(func() { e.Run(f.t, fn, event) })
		}
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"status": 200, "ids": make([]string, len(events))})
}

// scriptAwait is the command 'await FILE' of a script: it waits until the file is there, or with '! await FILE' until
// it is gone.
func scriptAwait(ts *testscript.TestScript, gone bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: [!] await FILE")
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); ; <-tick.C {
		if _, err := os.Stat(ts.MkAbs(args[0])); (err != nil) == gone {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s: waited a minute", args[0])
		}
	}
}

// TestNotLocal: 'dev' does not start with somebody else's database or the key of a production instance, unless that is
// meant.
func TestNotLocal(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ uri, key, want string }{
		"embedded":          {uri: "embedded:./data"},
		"loopback":          {uri: "mongodb://127.0.0.1:27017/app?directConnection=true"},
		"IPv6":              {uri: "mongodb://[::1]:27017"},
		"localhost":         {uri: "mongodb://user:p%40ss@localhost,127.0.0.2:27018/app"},
		"a socket":          {uri: "mongodb://%2Ftmp%2Fmongodb-27017.sock/app"},
		"a development key": {key: "sk_test_hunter2"},
		"elsewhere":         {uri: "mongodb://hunter2:hunter2@db.example/app", want: "MONGODB_URI"},
		"one of two":        {uri: "mongodb://localhost,db.example:27017/app", want: "MONGODB_URI"},
		"like localhost":    {uri: "mongodb://localhost.example/app", want: "MONGODB_URI"},
		"user localhost":    {uri: "mongodb://localhost:x@192.0.2.1/app", want: "MONGODB_URI"},
		"all addresses":     {uri: "mongodb://0.0.0.0/app", want: "MONGODB_URI"},
		"Atlas":             {uri: "mongodb+srv://localhost.hunter2.example/app", want: "MONGODB_URI"},
		"a live key":        {key: "sk_live_hunter2", want: "CLERK_SECRET_KEY"},
	} {
		cfg := config.Config{MongoURI: cmp.Or(tc.uri, "embedded:./data"), SecretKey: tc.key}
		err := devCmd{}.checkLocal(cfg)
		if (err != nil) != (tc.want != "") || err != nil && !strings.HasPrefix(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %q", name, err, tc.want)
		}
		if err != nil && (strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "\n")) {
			t.Errorf("%s: it quotes a secret, or has two lines: %v", name, err)
		}
		if err := (devCmd{NotLocal: true}).checkLocal(cfg); err != nil {
			t.Errorf("%s: though it is meant: %v", name, err)
		}
	}
}
