package testenv

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync/atomic"
	"testing"

	"github.com/inngest/inngestgo"
)

// Executor runs functions as Inngest's own executor does: it calls the SDK's handler once for each step, passes the
// results of earlier steps, and repeats a step that failed.
type Executor struct {
	Handler http.Handler
	AppID   string
	// Attempts is how often a step is tried, which is one more than its retries. 0 means 21, the most that Inngest
	// allows.
	Attempts int
	RunID    string // of the next runs; "" means the same for all
	// Others are in the batch after the event that a function is run with.
	Others []Event
}

// NewExecutor returns a client for development and the executor of the functions that will be created in it.
// checkpoint, if it is not nil, is Inngest's checkpoint API: it returns the status of its nth answer, from 0.
func NewExecutor(t testing.TB, checkpoint func(n int) int) (inngestgo.Client, *Executor) {
	t.Helper()
	o := inngestgo.ClientOpts{
		AppID: "app", Dev: new(true), EventKey: new("dev"), SigningKey: new(""), Logger: slog.New(slog.DiscardHandler),
	}
	if checkpoint != nil {
		var n atomic.Int64
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(checkpoint(int(n.Add(1)) - 1))
		}))
		t.Cleanup(srv.Close)
		o.APIBaseURL = &srv.URL
	}
	client, err := inngestgo.NewClient(o)
	if err != nil {
		t.Fatal(err)
	}
	return client, &Executor{Handler: client.Serve(), AppID: client.AppID()}
}

// Run is the outcome of a function run.
type Run struct {
	Failed   bool            // no retries are left, or the error must not be retried
	Output   json.RawMessage // of a run that completed
	Error    string          // the last error of any attempt
	Attempts int             // of the steps and the function together
}

// Event is what a function is called with.
type Event struct {
	ID   string          `json:"id,omitempty"`
	Name string          `json:"name"`
	Data json.RawMessage `json:"data"`
	TS   int64           `json:"ts"`
	V    string          `json:"v,omitempty"`
}

type opcode struct {
	Op    string          `json:"op"`
	ID    string          `json:"id"`
	Data  json.RawMessage `json:"data"`
	Error json.RawMessage `json:"error"`
}

// Run runs the function with the given id from the start to its end.
func (e *Executor) Run(t testing.TB, fnID string, event Event) Run {
	t.Helper()
	limit := e.Attempts
	if limit == 0 {
		limit = 21
	}
	steps := map[string]json.RawMessage{}
	var r Run
	for attempt := 0; ; {
		code, header, body := e.Call(t.Context(), t, fnID, event, steps, attempt, limit)
		r.Attempts++
		noRetry := header.Get("X-Inngest-No-Retry") == "true"
		var ops []opcode
		switch code {
		case http.StatusOK:
			r.Output = body
			return r
		case http.StatusPartialContent:
			if err := json.Unmarshal(body, &ops); err != nil || len(ops) != 1 {
				t.Fatalf("answer %s: %v", body, err)
			}
		default:
			r.Error = string(body)
			if attempt++; noRetry || attempt == limit {
				r.Failed = true
				return r
			}
			continue
		}
		switch op := ops[0]; op.Op {
		case "StepRun":
			steps[op.ID], attempt = wrap(t, "data", op.Data), 0
		case "StepError":
			r.Error = string(op.Error)
			attempt++
		case "StepFailed":
			r.Error = string(op.Error)
			steps[op.ID], attempt = wrap(t, "error", op.Error), 0
		default:
			t.Fatalf("unknown opcode %q", op.Op)
		}
	}
}

// Attempt tries a function with one step, or none, once, and returns an error if its work has not succeeded.
func (e *Executor) Attempt(ctx context.Context, t testing.TB, fnID string, event Event) error {
	t.Helper()
	code, _, body := e.Call(ctx, t, fnID, event, nil, 0, 21)
	var ops []opcode
	if code == http.StatusOK || json.Unmarshal(body, &ops) == nil && len(ops) == 1 && ops[0].Op == "StepRun" {
		return nil
	}
	return fmt.Errorf("%d %s", code, body)
}

// Call makes one request of a run and returns the answer.
func (e *Executor) Call(
	ctx context.Context, t testing.TB, fnID string, event Event, steps map[string]json.RawMessage, attempt, limit int,
) (int, http.Header, []byte) {
	t.Helper()
	body, err := json.Marshal(map[string]any{
		"event": event, "events": append([]Event{event}, e.Others...), "steps": steps,
		"ctx": map[string]any{
			"run_id": cmp.Or(e.RunID, "01JTESTRUN"), "fn_id": "00000000-0000-0000-0000-000000000001",
			"env": "test", "step_id": "step",
			"attempt": attempt, "max_attempts": limit, "stack": map[string]any{"stack": []string{}, "current": 0},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	q := url.Values{"fnId": {e.AppID + "-" + fnID}, "stepId": {"step"}}
	req := httptest.NewRequestWithContext(ctx, http.MethodPost, "/api/inngest?"+q.Encode(), bytes.NewReader(body))
	req.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	e.Handler.ServeHTTP(w, req)
	return w.Code, w.Header(), bytes.TrimSpace(w.Body.Bytes())
}

func wrap(t testing.TB, key string, v json.RawMessage) json.RawMessage {
	t.Helper()
	b, err := json.Marshal(map[string]json.RawMessage{key: v})
	if err != nil {
		t.Fatal(err)
	}
	return b
}
