// Package trace makes OpenTelemetry spans and exports them by OTLP. All spans about one message of Clerk's are in one
// trace, whose id is made from the svix-id, so nothing has to be carried from the webhook to the function.
package trace

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// traceID returns the id of the trace of a message: the first 16 bytes of the SHA-256 of its svix-id, so that anybody
// can compute it.
func traceID(svixID string) trace.TraceID {
	sum := sha256.Sum256([]byte(svixID))
	return trace.TraceID(sum[:16])
}

// maxAttribute is the length of the longest text of an attribute; the rest is cut off. Inngest may send an event id of
// any length.
const maxAttribute = 256

// closing bounds how long Close waits for spans that are not exported yet.
const closing = 2 * time.Second

// Tracer makes spans. It is safe for concurrent use.
type Tracer struct {
	spans    trace.Tracer
	provider *sdk.TracerProvider
	exporter sdk.SpanExporter
}

// New returns a Tracer that exports spans by the protocol, which is GRPC or else HTTP, with these headers. Where to,
// all else, and the headers too if none are given, it reads from OpenTelemetry's environment variables
// (https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/). It does not wait for the
// collector: if that does not answer, log gets a line.
func New(ctx context.Context, protocol string, headers map[string]string, log *slog.Logger) (*Tracer, error) {
	e, err := newExporter(ctx, protocol, headers)
	if err != nil {
		return nil, err
	}
	of, err := newResource(ctx)
	if err != nil {
		return nil, err
	}
	return newTracer(e, of, log), nil
}

func newTracer(e sdk.SpanExporter, of *resource.Resource, log *slog.Logger) *Tracer {
	limits := sdk.NewSpanLimits()
	if limits.AttributeValueLengthLimit < 0 { // the environment sets none
		limits.AttributeValueLengthLimit = maxAttribute
	}
	// If many spans wait, the batcher throws further ones away. Nobody waits for it.
	provider := sdk.NewTracerProvider(
		sdk.WithBatcher(&exporter{SpanExporter: e, log: log}), sdk.WithResource(of), sdk.WithIDGenerator(ids{}),
		sdk.WithRawSpanLimits(limits),
	)
	return &Tracer{provider.Tracer("clerksync"), provider, e}
}

// Start begins a span in the trace of a message. If svixID is "", the span gets a trace of its own. The span is in the
// context that Start returns, for Child.
func (t *Tracer) Start(
	ctx context.Context, svixID, name string, o ...trace.SpanStartOption,
) (context.Context, trace.Span) {
	return t.spans.Start(context.WithValue(ctx, message{}, svixID), name, append(o, trace.WithNewRoot())...)
}

// Child begins and ends a span that took this long until now, below the span in ctx. It makes none if there is no span
// in ctx, or if it is not sampled. If err is not nil, the span says so, with the text of err.
func (t *Tracer) Child(
	ctx context.Context, name string, took time.Duration, err error, of ...attribute.KeyValue,
) {
	if !trace.SpanFromContext(ctx).IsRecording() {
		return
	}
	start := time.Now().Add(-took)
	_, span := t.spans.Start(ctx, name, trace.WithTimestamp(start), trace.WithAttributes(of...),
		trace.WithSpanKind(trace.SpanKindClient))
	if err != nil {
		span.SetStatus(codes.Error, err.Error())
	}
	span.End()
}

// Close exports the spans that have ended, for which it takes two seconds at the most. The rest is lost.
func (t *Tracer) Close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, closing)
	defer cancel()
	if t.provider.Shutdown(ctx) != nil { // the time is over: this ends the request that hangs
		_ = t.exporter.Shutdown(ctx)
	}
}

// message is the key of the svix-id in the context of a span's start.
type message struct{}

// ids makes the ids of spans: random ones, but for the trace's id.
type ids struct{}

// NewIDs returns the id of the trace of the message in ctx, and an id for a span.
func (ids) NewIDs(ctx context.Context) (of trace.TraceID, span trace.SpanID) {
	if id, _ := ctx.Value(message{}).(string); id != "" {
		of = traceID(id)
	} else {
		_, _ = rand.Read(of[:]) // never fails
	}
	return of, ids{}.NewSpanID(ctx, of)
}

// NewSpanID returns an id for a span.
func (ids) NewSpanID(context.Context, trace.TraceID) (id trace.SpanID) {
	_, _ = rand.Read(id[:])
	return id
}
