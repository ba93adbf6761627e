package main

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestHealth: the health check of a container asks the service and the database, not Inngest, and says in a line what
// does not answer.
func TestHealth(t *testing.T) {
	t.Parallel()
	settings := good(t) // Inngest is away
	s := serve(t, settings)
	_, port, err := net.SplitHostPort(strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	another := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(another.Close)
	_, foreign, err := net.SplitHostPort(another.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		set       map[string]string
		out, want string
	}{
		"both answer": {map[string]string{"PORT": port}, "the service and the database answer\n", ""},
		"on all interfaces": {
			map[string]string{"PORT": port, "HOST": ""}, "the service and the database answer\n", "",
		},
		"somebody else": {
			map[string]string{"PORT": foreign}, "", "the service does not answer on port " + foreign +
				": it answers 404",
		},
		"the database is not": {
			map[string]string{"PORT": port, "MONGODB_URI": "mongodb://u:hunter2@127.0.0.1:1/x"},
			"",
			"the database cannot be reached: nothing listens on that port of the host",
		},
	} {
		out, _, err := command(t, with(settings, tc.set), "health")
		if !says(err, tc.want) ||
			err != nil && (strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "hunter2")) {
			t.Errorf("%s: got %v, want %q", name, err, tc.want)
		}
		if out != tc.out {
			t.Errorf("%s: printed %q, want %q", name, out, tc.out)
		}
	}
}
