package trace

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"clerksync/internal/testenv/collector"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// collect returns a tracer, and what has been exported when it is closed.
func collect(t *testing.T) (*Tracer, func() tracetest.SpanStubs) {
	t.Helper()
	kept := &keeper{}
	tr := newTracer(kept, resource.Empty(), slog.New(slog.DiscardHandler))
	return tr, func() tracetest.SpanStubs {
		tr.Close(t.Context())
		return kept.spans
	}
}

// keeper keeps spans. OpenTelemetry's own exporter for tests forgets them when it is shut down.
type keeper struct{ spans tracetest.SpanStubs }

func (k *keeper) Shutdown(context.Context) error { return nil }
func (k *keeper) ExportSpans(_ context.Context, spans []sdk.ReadOnlySpan) error {
	k.spans = append(k.spans, tracetest.SpanStubsFromReadOnlySpans(spans)...)
	return nil
}

// TestStart: what is about one message is one trace, in whatever process and below whatever span it begins; what is
// about none has a trace of its own. A command is part of its run, and of no trace without a run.
func TestStart(t *testing.T) {
	t.Parallel()
	tr, end := collect(t)
	ctx, run := tr.Start(t.Context(), "msg_1", "run")
	_, again := tr.Start(ctx, "msg_1", "again")
	_, other := tr.Start(ctx, "msg_2", "other")
	_, none := tr.Start(ctx, "", "none")
	_, none2 := tr.Start(ctx, "", "none")
	tr.Child(ctx, "find", time.Second, errors.New("duplicate key"), attribute.String("key", strings.Repeat("é", 300)))
	tr.Child(t.Context(), "of no run", time.Second, nil)
	for _, span := range []trace.Span{run, again, other, none, none2} {
		span.End()
	}
	ids := map[string]int{}
	for _, s := range end() {
		id := s.SpanContext.TraceID().String()
		ids[id]++
		one, two := collector.TraceID("msg_1"), collector.TraceID("msg_2")
		want := map[string]string{"run": one, "again": one, "other": two, "find": one}
		switch {
		case want[s.Name] != "" && id != want[s.Name], want[s.Name] == "" && s.Name != "none":
			t.Errorf("%s is in the trace %s, want %s", s.Name, id, want[s.Name])
		case s.Name != "find" && s.Parent.IsValid():
			t.Errorf("%s has a parent", s.Name)
		case s.Name == "find":
			took := s.EndTime.Sub(s.StartTime)
			if s.Parent.SpanID() != run.SpanContext().SpanID() || took < time.Second || took > time.Minute ||
				s.Status.Description != "duplicate key" {
				t.Errorf("got %+v", s)
			}
			if n := len([]rune(s.Attributes[0].Value.AsString())); n != maxAttribute {
				t.Errorf("an attribute of 300 characters has %d, want %d", n, maxAttribute)
			}
		}
	}
	if len(ids) != 4 || ids[collector.TraceID("msg_1")] != 3 {
		t.Errorf("got the traces %v, want three spans in that of msg_1, and one in each of three others", ids)
	}
}

// TestSampling: with a ratio, a message is in all processes traced, or in none.
func TestSampling(t *testing.T) {
	t.Setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
	t.Setenv("OTEL_TRACES_SAMPLER_ARG", "0.25")
	seen := map[string]int{}
	for range 2 {
		tr, end := collect(t)
		for i := range 400 {
			ctx, span := tr.Start(t.Context(), fmt.Sprint("msg_", i), "run")
			tr.Child(ctx, "find", time.Second, nil)
			span.End()
		}
		for _, s := range end() {
			seen[s.SpanContext.TraceID().String()]++
		}
	}
	if n := len(seen); n < 50 || n > 150 {
		t.Errorf("%d of 400 messages are traced, want a quarter", n)
	}
	for id, n := range seen {
		if n != 4 {
			t.Errorf("the trace %s has %d spans, want 4", id, n)
		}
	}
}

// stuck is an exporter whose collector does not answer until it is shut down.
type stuck struct {
	over    context.Context
	end     context.CancelFunc
	exports int
}

func (s *stuck) Shutdown(context.Context) error { s.end(); return nil }
func (s *stuck) ExportSpans(context.Context, []sdk.ReadOnlySpan) error {
	s.exports++
	<-s.over.Done()
	return errors.New("cut off")
}

// TestStuck: a collector that does not answer holds up nobody: neither those who make spans, however many, nor the end
// for more than two seconds. Nothing runs on after it.
func TestStuck(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &stuck{}
		s.over, s.end = context.WithCancel(context.Background()) // not with the test
		start := time.Now()
		tr := newTracer(s, resource.Empty(), slog.New(slog.DiscardHandler))
		for range 10_000 { // more than the batcher keeps
			_, span := tr.Start(t.Context(), "msg_1", "run")
			span.End()
		}
		if took := time.Since(start); took > 0 {
			t.Errorf("making spans took %v", took)
		}
		time.Sleep(time.Minute) // of the bubble
		start = time.Now()
		tr.Close(t.Context())
		if took := time.Since(start); took != closing {
			t.Errorf("the end took %v, want %v", took, closing)
		}
		synctest.Wait() // fails if a goroutine is left
		if s.exports == 0 {
			t.Error("nothing was exported, so this test shows nothing")
		}
	})
}

// answering is an exporter whose collector answers with an error, or with none.
type answering struct {
	keeper
	err error
}

func (a *answering) ExportSpans(context.Context, []sdk.ReadOnlySpan) error { return a.err }

// TestNoStorm: a collector that is away is told once, and so is its return; if it comes and goes, it is told at most
// once in ten minutes.
func TestNoStorm(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		a := &answering{}
		tr := newTracer(a, resource.Empty(), slog.New(slog.NewTextHandler(&log, nil)))
		export := func(d time.Duration, err error) (lines int) {
			log.Reset()
			a.err = err
			for until := time.Now().Add(d); time.Now().Before(until); {
				_, span := tr.Start(t.Context(), "msg_1", "run")
				span.End()
				time.Sleep(5 * time.Second)
				synctest.Wait()
			}
			return strings.Count(log.String(), "\n")
		}
		away := errors.New("away")
		for i, tc := range []struct {
			d    time.Duration
			err  error
			want int
		}{
			{time.Minute, nil, 0},
			{time.Hour, away, 1},
			{time.Minute, nil, 1},
			{time.Minute, away, 1}, // the first line was an hour ago
			{time.Minute, nil, 1},
			{time.Minute, away, 0},
			{time.Minute, nil, 0},
			{time.Hour, away, 1},
		} {
			if got := export(tc.d, tc.err); got != tc.want {
				t.Errorf("%d: got %d lines, want %d:\n%s", i, got, tc.want, &log)
			}
		}
		tr.Close(t.Context())
	})
}

// TestCause: what the log says of an error has neither the words of the collector, which may quote a key, nor the URL.
func TestCause(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"failed to send to http://h/KEY/v1/traces: 401 Unauthorized (body: no such key KEY)": "failed to send to the " +
			"endpoint 401 Unauthorized",
		"retry-able request failure: body: KEY":               "retry-able request failure",
		`Post "https://h/KEY": dial tcp 127.0.0.1:1: refused`: `Post "the endpoint": dial tcp 127.0.0.1:1: refused`,
		"OTLP partial success: too many spans (3 rejected)":   "OTLP partial success: too many spans (3 rejected)",
	} {
		if got := cause(errors.New(text)); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
	for err, want := range map[error]string{
		status.Error(codes.Unauthenticated, "KEY"): "the collector answers Unauthenticated",
		status.Error(codes.Unavailable, "refused"): "rpc error: code = Unavailable desc = refused",
		status.Error(codes.Canceled, "KEY"):        "no answer in time",
		context.DeadlineExceeded:                   "no answer in time: check the host, the port and the firewall",
	} {
		if got := cause(fmt.Errorf("x: %w", err)); got != want && got != "x: "+want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
