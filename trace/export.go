package trace

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"time"

	"clerksync/reach"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// GRPC is the protocol of OTLP over gRPC, as OTEL_EXPORTER_OTLP_PROTOCOL calls it. All others are over HTTP.
const GRPC = "grpc"

// newExporter returns what sends spans to a collector. It sends nothing yet.
func newExporter(ctx context.Context, protocol string, headers map[string]string) (sdk.SpanExporter, error) {
	var overHTTP []otlptracehttp.Option
	var overGRPC []otlptracegrpc.Option
	if len(headers) > 0 {
		overHTTP = append(overHTTP, otlptracehttp.WithHeaders(headers))
		overGRPC = append(overGRPC, otlptracegrpc.WithHeaders(headers))
	}
	client := otlptracehttp.NewClient(overHTTP...)
	if protocol == GRPC {
		client = otlptracegrpc.NewClient(overGRPC...)
	}
	return otlptrace.New(ctx, client)
}

// newResource says of which service the spans are.
func newResource(ctx context.Context) (*resource.Resource, error) {
	return resource.New(ctx, resource.WithTelemetrySDK(), // the later ones win
		resource.WithAttributes(attribute.String("service.name", "clerksync")), resource.WithFromEnv())
}

// quiet is the time between two lines in the log about a collector that takes no spans.
const quiet = 10 * time.Minute

// exporter logs that spans cannot be exported, and that they can again. OpenTelemetry's own error handler is global and
// would print a line for each batch of spans, every five seconds. The batcher calls it from one goroutine at a time.
type exporter struct {
	sdk.SpanExporter
	log  *slog.Logger
	away bool // the log says that spans cannot be exported
	told time.Time
}

// ExportSpans exports spans, or throws them away. It returns no error, for which the batcher would have no use.
func (e *exporter) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	err := e.SpanExporter.ExportSpans(ctx, spans)
	switch {
	case err != nil && !e.away && time.Since(e.told) > quiet:
		e.away, e.told = true, time.Now()
		e.log.WarnContext(ctx, "traces cannot be exported, and their spans are lost; all else goes on",
			"error", cause(err))
	case err == nil && e.away:
		e.away = false
		e.log.InfoContext(ctx, "traces are exported again")
	}
	return nil
}

// cause returns the text of an error without the endpoint's URL, and without the words of the collector, which may
// quote a key.
func cause(err error) string {
	s, isGRPC := status.FromError(err)
	late := []codes.Code{codes.DeadlineExceeded, codes.Canceled}
	why := reach.Why(err)
	switch {
	case why != "":
		return why
	case errors.Is(err, context.Canceled), isGRPC && slices.Contains(late, s.Code()): // Close does not wait longer
		return "no answer in time"
	case isGRPC && s.Code() != codes.Unavailable: // which is gRPC's own word for no answer
		return fmt.Sprint("the collector answers ", s.Code())
	}
	text, _, _ := strings.Cut(err.Error(), "body: ")
	return strings.TrimRight(regexp.MustCompile(`https?://[^\s"]+`).ReplaceAllString(text, "the endpoint"), " (:")
}
