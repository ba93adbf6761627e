package app

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"clerksync/functions"
	"clerksync/inbox"
	"clerksync/internal/testenv"
	"clerksync/internal/testenv/collector"
	"clerksync/store"
	"clerksync/store/mapping"
	"clerksync/trace"
	"clerksync/webhook"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	pb "go.opentelemetry.io/proto/otlp/trace/v1"
)

const (
	// adaSignsUp has a text in each place where personal data may be.
	adaSignsUp = `{"type":"user.created","object":"event","instance_id":"ins_2abc","timestamp":1767603600000,"data":{
		"id":"user_2traced","object":"user","first_name":"Augusta Ada","last_name":"Lovelace","username":"adaking",
		"image_url":"https://img.clerk.com/adapicture","primary_email_address_id":"idn_1","created_at":1767603600000,
		"updated_at":1767603600000,"email_addresses":[{"id":"idn_1","email_address":"ada@example.com",
		"verification":{"status":"verified","strategy":"email_code"}}],"phone_numbers":[{"id":"idn_2",
		"phone_number":"+441234567"}],"public_metadata":{"plan":"enchantress"},"private_metadata":{"note":"of numbers"},
		"last_sign_in_at":1767603600000,"external_id":"theirs-17"}}`
	// inngestSpan is the span of Inngest's from which its calls come.
	inngestSpan = "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331"
)

// tracedApp runs a service with traces until stop, and what it sends to Inngest goes to events.
func tracedApp(t *testing.T, own ...functions.Function) (_ *App, events <-chan testenv.Event, stop func()) {
	t.Helper()
	sent := make(chan testenv.Event, 100)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var events []testenv.Event
		if strings.HasPrefix(r.URL.Path, "/e/") && json.NewDecoder(r.Body).Decode(&events) == nil {
			for _, e := range events {
				sent <- e
			}
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"status": 200, "ids": make([]string, len(events))})
	}))
	t.Cleanup(server.Close)
	o := options(t.TempDir(), "INNGEST_DEV="+server.URL, "INNGEST_EVENT_KEY=theeventkey", "CLERK_FORWARD_EVENTS=*",
		"INBOX_RESEND_AFTER=1h", "OTEL_EXPORTER_OTLP_ENDPOINT=set", "EMBEDDED_PORT=0")
	o.Functions = own
	a, err := New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	return a, sent, func() {
		end()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// execute returns an executor that calls a's functions with the header of a span of Inngest's.
func execute(t *testing.T, a *App) *testenv.Executor {
	t.Helper()
	to, err := url.Parse(a.URL())
	if err != nil {
		t.Fatal(err)
	}
	rewrite := func(r *httputil.ProxyRequest) {
		r.SetURL(to)
		r.Out.Header.Set("traceparent", "00-"+inngestSpan+"-01")
	}
	return &testenv.Executor{AppID: "clerksync", Handler: &httputil.ReverseProxy{Rewrite: rewrite}}
}

// post posts a webhook and returns the status of the answer.
func post(t *testing.T, a *App, secret, id, body string) int {
	t.Helper()
	req := testenv.Signed(t, a.URL()+"/webhooks/clerk", secret, id, time.Now(), []byte(body))
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, res.Body)
	_ = res.Body.Close()
	return res.StatusCode
}

// names returns the names of the spans that have no parent, sorted, and of those below the first of the name root.
func names(spans []*pb.Span, root string) (roots, below []string) {
	var id string
	for _, s := range spans {
		if s.Name == root && id == "" {
			id = string(s.SpanId)
		}
	}
	for _, s := range spans {
		switch string(s.ParentSpanId) {
		case "":
			roots = append(roots, s.Name)
		case id:
			below = append(below, s.Name)
		}
	}
	slices.Sort(roots)
	return roots, below
}

// TestTraces: the webhook, the sending, the run and the run's commands are one trace, as are a delivery that comes
// again, and further sendings and replays. No span holds anything of the user but the id, and no key.
func TestTraces(t *testing.T) {
	c := collector.New(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", c.HTTP)
	const address = "ada@example.com"
	a, events, stop := tracedApp(t, functions.Function{
		ID: "own", Events: []string{"clerk/user.created"},
		Run: func(context.Context, functions.Event) (any, error) { return nil, errors.New("no mailbox " + address) },
	})
	inngest := execute(t, a)
	const syncUser, own = "sync-user-from-clerk", "own"

	for _, id := range []string{"msg_1", "msg_1"} {
		if code := post(t, a, testenv.Secret, id, adaSignsUp); code != http.StatusAccepted {
			t.Fatalf("got %d", code)
		}
	}
	for id, wrong := range map[string]string{
		"msg_forged": "whsec_" + strings.Repeat("A", 40), "msg_no_event": testenv.Secret, "msg_other": testenv.Secret,
	} {
		body := map[string]string{"msg_forged": adaSignsUp, "msg_no_event": "[]"}[id]
		if body == "" {
			body = `{"type":"session.created","data":{"id":"sess_1"}}`
		}
		post(t, a, wrong, id, body)
	}
	e := <-events
	if e.ID != "msg_1" {
		t.Fatalf("Inngest got %s first, want msg_1", e.ID)
	}
	again, replayed, ofOwn, integration := e, e, e, e
	again.ID, replayed.ID, integration.ID = "msg_1:r1", "msg_1:replay2", "01JINTEGRATION"
	ofOwn.ID, ofOwn.Name = "msg_1:own:replay1", "clerksync/replay.own"
	for _, run := range []testenv.Event{e, again, replayed, integration} {
		if r := inngest.Run(t, syncUser, run); r.Failed {
			t.Fatalf("%s: %s", run.ID, r.Error)
		}
	}
	inngest.Attempts = 1
	inngest.Run(t, own, ofOwn)
	told, err := json.Marshal(map[string]any{
		"function_id": "clerksync-own", "run_id": "run", "error": map[string]string{"message": "no mailbox " + address},
		"event": e,
	})
	if err != nil {
		t.Fatal(err)
	}
	if r := inngest.Run(t, "mark-failed-event", testenv.Event{
		ID: "01JFAILED", Name: "inngest/function.failed", Data: told,
	}); r.Failed {
		t.Fatal(r.Error)
	}
	stop()

	traces := c.Traces()
	spans := traces[collector.TraceID("msg_1")]
	roots, commands := names(spans, "run "+syncUser)
	want := []string{
		"run mark-failed-event", "run own", "run " + syncUser, "run " + syncUser, "run " + syncUser, "send", "webhook",
		"webhook",
	}
	if d := cmp.Diff(want, roots); d != "" {
		t.Errorf("the trace of msg_1 has (-want +got):\n%s", d)
	}
	for _, command := range []string{"find clerksync_deleted_users", "insert users", "findAndModify clerksync_inbox"} {
		if !slices.Contains(commands, command) {
			t.Errorf("below the run there is no %s, but %v", command, commands)
		}
	}
	outcomes := []string{}
	for _, s := range spans {
		switch s.Name {
		case "run " + syncUser:
			outcomes = append(outcomes, collector.Attribute(s, "clerksync.outcome"))
			var link string
			for _, l := range s.Links {
				link += hex.EncodeToString(l.TraceId) + "-" + hex.EncodeToString(l.SpanId)
			}
			if link != inngestSpan {
				t.Errorf("a run has the link %q, want that to the span of Inngest's, %s", link, inngestSpan)
			}
		case "run own":
			if s.Status.GetCode() != pb.Status_STATUS_CODE_ERROR {
				t.Errorf("the run that failed has the status %v", s.Status)
			}
		}
	}
	if d := cmp.Diff([]string{"created", "unchanged", "unchanged"}, outcomes); d != "" {
		t.Errorf("outcomes (-want +got):\n%s", d)
	}
	for id, want := range map[string][]string{
		"msg_forged":     nil,
		"msg_no_event":   {"webhook"}, // it is signed
		"msg_other":      {"send", "webhook"},
		"01JINTEGRATION": {"run " + syncUser},
	} {
		if got, _ := names(traces[collector.TraceID(id)], ""); !slices.Equal(got, want) {
			t.Errorf("the trace of %s has %v, want %v", id, got, want)
		}
	}

	webhooks := 0
	for _, spans := range traces {
		for _, s := range spans {
			if s.Name == "webhook" {
				webhooks++
			}
		}
	}
	if webhooks != 4 { // msg_1 twice
		t.Errorf("got the spans of %d webhooks, want 4: none of the one that is not verified", webhooks)
	}

	text := c.Text()
	for _, secret := range []string{
		address, "Ada", "Lovelace", "adaking", "adapicture", "1234567", "enchantress", "of numbers", "theirs-17",
		"mailbox", "idn_", "theeventkey", strings.TrimPrefix(testenv.Secret, "whsec_"), "mongodb://", "embedded:",
	} {
		if strings.Contains(text, secret) {
			t.Errorf("the spans hold %q", secret)
		}
	}
	if !strings.Contains(text, "user_2traced") || !strings.Contains(text, "01JTESTRUN") {
		t.Error("the spans do not have the ids of the user and the run")
	}
}

// TestBatchTrace: each event of a batch is in the trace of its message, with a link to the batch, which has the
// commands.
func TestBatchTrace(t *testing.T) {
	c := collector.New(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", c.HTTP)
	log := slog.New(slog.DiscardHandler)
	tr, err := trace.New(t.Context(), "", nil, log)
	if err != nil {
		t.Fatal(err)
	}
	traces := &traces{tr}
	db := testenv.Embedded(t)
	db.Observe(traces.command)
	users := store.NewUsers(db, mapping.Default())
	fns := &functions.Functions{
		Users: users, Log: log, BatchSize: 10, BatchTimeout: time.Second,
		Inbox: inbox.New(inbox.Options{DB: db, Log: log, Registerer: prometheus.NewRegistry()}),
		Trace: traces.run, Wrote: traces.wrote,
	}
	client, inngest := testenv.NewExecutor(t, nil)
	if err := fns.Register(client, false); err != nil {
		t.Fatal(err)
	}
	inngest.Others = []testenv.Event{{ID: "msg_2", Name: "clerk/user.created", Data: json.RawMessage(`{}`)}}
	data := json.RawMessage(`{"id":"user_1","email_addresses":[]}`)
	run := inngest.Run(t, "sync-user-from-clerk", testenv.Event{ID: "msg_1:r1", Name: "clerk/user.created", Data: data})
	if run.Failed {
		t.Fatal(run.Error)
	}
	tr.Close(t.Context())
	all := c.Traces()
	for id, want := range map[string]string{"msg_1": "created", "msg_2": "failed"} {
		spans := all[collector.TraceID(id)]
		if len(spans) != 1 || collector.Attribute(spans[0], "clerksync.outcome") != want || len(spans[0].Links) != 1 {
			t.Errorf("%s: got %v, want one span, %s, with a link", id, spans, want)
			continue
		}
		batch := all[hex.EncodeToString(spans[0].Links[0].TraceId)]
		if roots, below := names(batch, "run sync-user-from-clerk"); len(roots) != 1 ||
			!slices.Contains(below, "insert") {
			t.Errorf("%s: the batch has %v and below it %v, want one run with its commands", id, roots, below)
		}
	}
}

// TestNoTraces: without OpenTelemetry's variables, or with those that say no, nothing of it runs.
func TestNoTraces(t *testing.T) {
	for _, set := range [][]string{
		{},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1", "OTEL_SDK_DISABLED=true"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1", "OTEL_TRACES_EXPORTER=none"},
		{"OTEL_SERVICE_NAME=users", "OTEL_TRACES_SAMPLER=always_on", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"},
	} {
		a := &App{cfg: options("", set...).Config, log: slog.New(slog.DiscardHandler)}
		if err := a.openTraces(t.Context()); err != nil || a.traces != nil || len(a.cleanups) > 0 {
			t.Errorf("%v: got %v, %v", set, a.traces, err)
		}
	}
	a := &App{}
	if n := testing.AllocsPerRun(100, func() {
		a.traces.answered(webhook.Answer{ID: "msg_1"})
		a.traces.wrote(t.Context(), functions.Wrote{})
	}); n > 0 {
		t.Errorf("a webhook and a write allocate %v times for nothing", n)
	}
	stacks := make([]byte, 1<<20)
	if stacks = stacks[:runtime.Stack(stacks, true)]; strings.Contains(string(stacks), "opentelemetry") {
		t.Errorf("a goroutine runs:\n%s", stacks)
	}
}
