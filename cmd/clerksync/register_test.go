package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// TestStopWhileRegistering: a registration that is under way when the service ends neither holds up the end nor is
// called a failure.
func TestStopWhileRegistering(t *testing.T) {
	t.Parallel()
	begun := make(chan struct{})
	var once sync.Once
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("POST /fn/register", func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		once.Do(func() { close(begun) })
		<-r.Context().Done()
	})
	inngest := httptest.NewServer(mux)
	defer inngest.Close()
	settings := good(t)
	settings["INNGEST_DEV"] = inngest.URL
	s := serve(t, settings)
	<-begun
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	if strings.Contains(s.log.String(), "cannot be registered") {
		t.Errorf("it logged\n%s", s.log)
	}
}
