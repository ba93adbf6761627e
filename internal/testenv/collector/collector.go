// Package collector is an OpenTelemetry collector for tests: it takes spans by OTLP and keeps them.
package collector

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	otlp "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	pb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// Collector listens on loopback. Of OTLP's forms it knows protobuf only.
type Collector struct {
	otlp.UnimplementedTraceServiceServer

	HTTP, GRPC string // its endpoints

	mu      sync.Mutex
	got     otlp.ExportTraceServiceRequest // all that it got
	headers []http.Header                  // of the requests over HTTP
}

// New returns a collector that ends with the test.
func New(t testing.TB) *Collector {
	t.Helper()
	c := &Collector{}
	srv := httptest.NewServer(c)
	t.Cleanup(srv.Close)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer()
	otlp.RegisterTraceServiceServer(g, c)
	go func() { _ = g.Serve(l) }()
	t.Cleanup(g.Stop)
	c.HTTP, c.GRPC = srv.URL, "http://"+l.Addr().String()
	return c
}

// TraceID returns the id of the trace of a message, as docs/traces.md has it.
func TraceID(svixID string) string {
	sum := sha256.Sum256([]byte(svixID))
	return hex.EncodeToString(sum[:16])
}

// ServeHTTP takes spans over HTTP.
func (c *Collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	c.headers = append(c.headers, r.Header)
	c.mu.Unlock()
	body, err := io.ReadAll(r.Body)
	req := &otlp.ExportTraceServiceRequest{}
	if err != nil || proto.Unmarshal(body, req) != nil || r.Method+r.URL.Path != "POST/v1/traces" {
		http.Error(w, "these are no spans", http.StatusBadRequest)
		return
	}
	_, _ = c.Export(r.Context(), req)
}

// Export takes spans over gRPC.
func (c *Collector) Export(
	_ context.Context, r *otlp.ExportTraceServiceRequest,
) (*otlp.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.got.ResourceSpans = append(c.got.ResourceSpans, r.ResourceSpans...)
	return &otlp.ExportTraceServiceResponse{}, nil
}

// Traces returns the spans by the ids of their traces.
func (c *Collector) Traces() map[string][]*pb.Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := map[string][]*pb.Span{}
	for _, of := range c.got.ResourceSpans {
		for _, scope := range of.ScopeSpans {
			for _, s := range scope.Spans {
				id := hex.EncodeToString(s.TraceId)
				all[id] = append(all[id], s)
			}
		}
	}
	return all
}

// Text returns all that came, in which every text is readable.
func (c *Collector) Text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	b, _ := proto.Marshal(&c.got) // what was unmarshalled can be marshalled
	return string(b)
}

// Header returns a header of the last request over HTTP.
func (c *Collector) Header(name string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.headers) == 0 {
		return ""
	}
	return c.headers[len(c.headers)-1].Get(name)
}

// Attribute returns an attribute of a span as text, and "" if the span has none of this name.
func Attribute(s *pb.Span, name string) string {
	for _, a := range s.Attributes {
		if a.Key == name {
			return a.Value.GetStringValue()
		}
	}
	return ""
}
