package testenv

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// Inngest is an Inngest in this process: it takes events and runs the functions that are registered for them, as
// Executor does, each event as soon as it comes. Events wait for the first registration. It knows no crons, no batches
// and no delays.
type Inngest struct {
	URL string

	t      testing.TB
	ctx    context.Context
	runs   sync.WaitGroup
	mu     sync.Mutex
	app    registration
	broken bool
	held   []Event // what came before the first registration
}

// registration is what a service tells Inngest of its functions.
type registration struct {
	URL       string `json:"url"`
	AppName   string `json:"appName"`
	Functions []struct {
		ID       string `json:"id"`
		Triggers []struct {
			Event      string `json:"event"`
			Expression string `json:"expression"`
		} `json:"triggers"`
	} `json:"functions"`
}

// NewInngest returns an Inngest that ends with the test.
func NewInngest(t testing.TB) *Inngest {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	n := &Inngest{t: t, ctx: ctx}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("POST /fn/register", n.register)
	mux.HandleFunc("POST /e/{key}", n.events)
	srv := httptest.NewServer(mux)
	n.URL = srv.URL
	t.Cleanup(func() {
		srv.Close()
		cancel()
		n.runs.Wait()
	})
	return n
}

// Break has each run fail for good until it is mended, as a function does whose retries are used up.
func (n *Inngest) Break(broken bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.broken = broken
}

func (n *Inngest) register(w http.ResponseWriter, r *http.Request) {
	var app registration
	if err := json.NewDecoder(r.Body).Decode(&app); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	n.mu.Lock()
	held := n.held
	n.app, n.held = app, nil
	n.mu.Unlock()
	for _, e := range held {
		n.take(e)
	}
	_, _ = io.WriteString(w, `{"ok":true}`)
}

func (n *Inngest) events(w http.ResponseWriter, r *http.Request) {
	var events []Event
	if err := json.NewDecoder(r.Body).Decode(&events); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	ids := make([]string, len(events))
	for i, e := range events {
		ids[i] = e.ID
		n.take(e)
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"status": http.StatusOK, "ids": ids})
}

// take runs the functions that an event starts.
func (n *Inngest) take(e Event) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.app.URL == "" {
		n.held = append(n.held, e)
		return
	}
	app, broken := n.app, n.broken && !strings.HasPrefix(e.Name, "inngest/")
	for _, f := range app.Functions {
		for _, trigger := range f.Triggers {
			wanted := trigger.Expression == "" || strings.Contains(trigger.Expression, failedIn(e))
			if trigger.Event == e.Name && wanted {
				n.runs.Go(func() { n.run(app, f.ID, e, broken) })
			}
		}
	}
}

// failedIn returns the function whose run failed, if the event says so, which the expression of a trigger asks for.
func failedIn(e Event) string {
	var data struct {
		FunctionID string `json:"function_id"`
	}
	_ = json.Unmarshal(e.Data, &data) // "" for another event
	return data.FunctionID
}

func (n *Inngest) run(app registration, id string, e Event, broken bool) {
	at, err := url.Parse(app.URL)
	if err != nil {
		n.t.Error(err)
		return
	}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: at.Scheme, Host: at.Host})
	proxy.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }
	x := &Executor{Handler: proxy, AppID: app.AppName}
	r := Run{Failed: true, Error: "the test has the run fail"}
	if !broken {
		r = x.Run(n.t, strings.TrimPrefix(id, app.AppName+"-"), e)
	}
	if r.Failed && n.ctx.Err() == nil {
		failed, _ := json.Marshal(map[string]any{
			"function_id": id, "run_id": "01JTESTRUN", "error": map[string]string{"message": r.Error}, "event": e,
		})
		n.take(Event{ID: "failed-" + e.ID, Name: "inngest/function.failed", Data: failed, TS: e.TS})
	}
}
