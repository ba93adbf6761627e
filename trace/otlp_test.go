package trace_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"clerksync/internal/testenv/collector"
	"clerksync/trace"
)

// TestOTLP: spans reach a collector over both protocols, and OpenTelemetry's variables say where it is, what goes with
// the spans, and what they say of the service.
func TestOTLP(t *testing.T) {
	for protocol, tc := range map[string]struct {
		set     map[string]string
		service string
	}{
		"http/protobuf": {nil, "clerksync"},
		"grpc":          {map[string]string{"OTEL_SERVICE_NAME": "users"}, "users"},
		"http": { // the default
			map[string]string{"OTEL_RESOURCE_ATTRIBUTES": "service.name=accounts,service.version=1"}, "accounts",
		},
	} {
		t.Run(protocol, func(t *testing.T) {
			c := collector.New(t)
			endpoint := c.HTTP
			if protocol == trace.GRPC {
				endpoint = c.GRPC
			}
			t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
			t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "api-key=a%20key")
			for name, value := range tc.set {
				t.Setenv(name, value)
			}
			var log bytes.Buffer
			tr, err := trace.New(t.Context(), protocol, nil, slog.New(slog.NewTextHandler(&log, nil)))
			if err != nil {
				t.Fatal(err)
			}
			_, span := tr.Start(t.Context(), "msg_1", "webhook")
			span.End()
			tr.Close(t.Context())
			spans := c.Traces()[collector.TraceID("msg_1")]
			if len(spans) != 1 || spans[0].Name != "webhook" || log.Len() > 0 {
				t.Errorf("got %v, and the log\n%s", spans, &log)
			}
			if text := c.Text(); !strings.Contains(text, "service.name") || !strings.Contains(text, tc.service) {
				t.Errorf("the spans are not of the service %s:\n%q", tc.service, text)
			}
			if key := c.Header("Api-Key"); protocol != trace.GRPC && key != "a key" {
				t.Errorf("got the key %q, want %q", key, "a key")
			}
		})
	}
}

// TestJSON: the SDK's exporter over HTTP knows http/json too.
func TestJSON(t *testing.T) {
	c := collector.New(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", c.HTTP)
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")
	tr, err := trace.New(t.Context(), "http/json", nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	_, span := tr.Start(t.Context(), "msg_1", "webhook")
	span.End()
	tr.Close(t.Context())
	if got := c.Header("Content-Type"); got != "application/json" {
		t.Errorf("got %q, want application/json", got)
	}
}
