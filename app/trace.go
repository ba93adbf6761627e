package app

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"clerksync/functions"
	"clerksync/inbox"
	"clerksync/store/database"
	"clerksync/trace"
	"clerksync/webhook"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	otel "go.opentelemetry.io/otel/trace"
)

// traces makes the service's spans: docs/traces.md says of each what it is. It is nil without traces: then nothing of
// OpenTelemetry runs. No span has a text that somebody else has written, and of errors only the database's have one,
// which is redacted.
type traces struct{ *trace.Tracer }

// openTraces makes a.traces, if the settings ask for traces.
func (a *App) openTraces(ctx context.Context) error {
	if !a.cfg.Traces.On() {
		return nil
	}
	t, err := trace.New(ctx, a.cfg.Traces.By(), a.cfg.Traces.Header(), a.log)
	if err != nil {
		return fmt.Errorf("traces cannot be exported: %w: check the settings OTEL_EXPORTER_OTLP_…", err)
	}
	a.traces = &traces{t}
	a.onClose("traces", func(ctx context.Context) error {
		t.Close(ctx)
		return nil
	})
	return nil
}

// answered makes the span of a webhook. It makes none before the signature is verified: anybody could choose its trace.
func (t *traces) answered(w webhook.Answer) {
	if t == nil || w.ID == "" {
		return
	}
	_, span := t.Start(context.Background(), w.ID, "webhook", otel.WithSpanKind(otel.SpanKindServer),
		otel.WithTimestamp(w.At), otel.WithAttributes(
			attribute.String("clerksync.svix_id", w.ID), attribute.String("clerksync.answer", w.Reason),
			attribute.Int("http.response.status_code", w.Code),
		))
	if w.Code >= http.StatusInternalServerError {
		span.SetStatus(codes.Error, "")
	}
	span.End(otel.WithTimestamp(w.At.Add(w.Took)))
}

// sending returns send, and makes a span for each event that send sends.
func (t *traces) sending(send func(context.Context, []inbox.Event) error) func(context.Context, []inbox.Event) error {
	if t == nil {
		return send
	}
	return func(ctx context.Context, events []inbox.Event) error {
		start := otel.WithTimestamp(time.Now())
		err := send(ctx, events)
		end := otel.WithTimestamp(time.Now())
		for _, e := range events {
			_, span := t.Start(ctx, functions.MessageID(e), "send", start, otel.WithSpanKind(otel.SpanKindProducer),
				otel.WithAttributes(
					attribute.String("clerksync.event_id", e.ID), attribute.Int("clerksync.events", len(events)),
				))
			setStatus(span, err)
			span.End(end)
		}
		return err
	}
}

// called returns h, for calls by Inngest. From the header traceparent it notes the span of Inngest's that calls, for
// run.
func (t *traces) called(h http.Handler) http.Handler {
	if t == nil {
		return h
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := propagation.MapCarrier{"traceparent": r.Header.Get("traceparent")}
		h.ServeHTTP(w, r.WithContext(propagation.TraceContext{}.Extract(r.Context(), header)))
	})
}

// run makes the span of a function's work, which has a link to the span of Inngest's that calls. The work on one event
// is in the trace of the event's message. A batch has a trace of its own, for its commands are of no event alone.
func (t *traces) run(ctx context.Context, function string, events []functions.Event) (context.Context, func(error)) {
	r := running{name: "run " + function, start: time.Now(), batch: len(events) > 1}
	about, message := []attribute.KeyValue{attribute.Int("clerksync.events", len(events))}, ""
	if len(events) > 0 {
		about = append(about, attribute.String("clerksync.run_id", events[0].RunID),
			attribute.Int("clerksync.attempt", events[0].Attempt))
	}
	if !r.batch && len(events) > 0 {
		message = events[0].MessageID
		about = append(about, attribute.String("clerksync.svix_id", message))
	}
	o := []otel.SpanStartOption{otel.WithSpanKind(otel.SpanKindConsumer), otel.WithAttributes(about...)}
	if caller := otel.SpanContextFromContext(ctx); caller.IsValid() {
		o = append(o, otel.WithLinks(otel.Link{SpanContext: caller}))
	}
	ctx, span := t.Start(context.WithValue(ctx, running{}, r), message, r.name, o...)
	return ctx, func(err error) {
		setStatus(span, err)
		span.End()
	}
}

// running is the run in a context, and with its zero value the key of it.
type running struct {
	name  string
	start time.Time
	batch bool
}

// wrote says in the span of a run what became of its event. For an event of a batch it makes a span in the trace of the
// event's message, with a link to the batch.
func (t *traces) wrote(ctx context.Context, w functions.Wrote) {
	if t == nil {
		return
	}
	about := []attribute.KeyValue{
		attribute.String("clerksync.user_id", w.UserID), attribute.String("clerksync.outcome", w.Result()),
	}
	span := otel.SpanFromContext(ctx)
	r, _ := ctx.Value(running{}).(running)
	if !r.batch {
		span.SetAttributes(about...)
		return
	}
	_, one := t.Start(ctx, w.Source.ID, r.name, otel.WithTimestamp(r.start), otel.WithSpanKind(otel.SpanKindConsumer),
		otel.WithLinks(otel.Link{SpanContext: span.SpanContext()}), otel.WithAttributes(about...),
		otel.WithAttributes(attribute.String("clerksync.svix_id", w.Source.ID)))
	setStatus(one, w.Err)
	one.End()
}

// command makes a span of a command of the database, if it is part of a run.
func (t *traces) command(ctx context.Context, c database.Command) {
	t.Child(ctx, strings.TrimSpace(c.Name+" "+c.Collection), c.Took, c.Err,
		attribute.String("db.system.name", "mongodb"), attribute.String("db.operation.name", c.Name),
		attribute.String("db.collection.name", c.Collection))
}

// setStatus says in a span that it has failed, without the error's text: a mail server's holds addresses.
func setStatus(span otel.Span, err error) {
	if err != nil {
		span.SetStatus(codes.Error, "")
	}
}
