package dev

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"clerksync/clerk"
	"clerksync/inbox"
	"clerksync/webhook"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

const secret = "whsec_Y2xlcmtzeW5jIHRlc3Qgc2VjcmV0IDE="

// door is a signed door that keeps what comes through it.
type door struct {
	mu     sync.Mutex
	events []inbox.Event
}

func newDoor(t *testing.T) (*door, string) {
	t.Helper()
	d := &door{}
	h, err := webhook.New(webhook.Options{
		Secrets: []string{secret}, Forward: []string{"user.*"}, Log: slog.New(slog.DiscardHandler),
		Registerer: prometheus.NewRegistry(),
		Put: func(_ context.Context, e inbox.Event) error {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.events = append(d.events, e)
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return d, srv.URL
}

// user returns the id of the user that an event is about.
func user(t *testing.T, e inbox.Event) string {
	t.Helper()
	id, err := clerk.ParseDeleted(e.Data)
	if u, notUser := clerk.ParseUser(e.Data); err != nil && notUser == nil {
		id, err = u.ID, nil
	}
	if err != nil || !clerk.IsUserID(id) {
		t.Fatalf("%s of %q: %v", e.Name, id, err)
	}
	return id
}

// TestPlay: changes and deletions are of the user who signed up last and is not deleted; what cannot be posted is one
// line.
func TestPlay(t *testing.T) {
	t.Parallel()
	d, hook := newDoor(t)
	p := &Player{Secret: secret}
	err := p.Play(t.Context(), hook, "change")
	if err == nil || !strings.Contains(err.Error(), "begin with a sign-up") {
		t.Errorf("a change of nobody: got %v", err)
	}
	if err := p.Play(t.Context(), hook, "nonsense"); err == nil {
		t.Error("nonsense: got no error")
	}
	for _, what := range []string{"sign-up", "sign-up", "change", "deletion", "change", "deletion"} {
		if err := p.Play(t.Context(), hook, what); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	if err := p.Play(t.Context(), hook, "deletion"); err == nil {
		t.Error("all are deleted: got no error")
	}
	first, second := user(t, d.events[0]), user(t, d.events[1])
	want := []string{
		"clerk/user.created " + first, "clerk/user.created " + second, "clerk/user.updated " + second,
		"clerk/user.deleted " + second, "clerk/user.updated " + first, "clerk/user.deleted " + first,
	}
	var got []string
	for _, e := range d.events {
		got = append(got, e.Name+" "+user(t, e))
	}
	if diff := cmp.Diff(want, got); diff != "" || first == second {
		t.Errorf("(-want +got):\n%s", diff)
	}
	refused := httptest.NewServer(http.NotFoundHandler())
	defer refused.Close()
	if err := p.Play(t.Context(), refused.URL, "sign-up"); err == nil || strings.Contains(err.Error(), "\n") {
		t.Errorf("a door that is none: got %v", err)
	}
}

// TestPlayedAgain: what is answered 503 is posted again under the same svix-id, as Clerk does, but not for ever.
func TestPlayedAgain(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		busy  int // how many posts are answered 503
		posts int
		err   string
	}{
		"once":   {busy: 1, posts: 2},
		"always": {busy: 100, posts: tries, err: "503 busy"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var ids []string
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				ids = append(ids, r.Header.Get("Svix-Id"))
				if len(ids) <= tc.busy {
					http.Error(w, "busy", http.StatusServiceUnavailable)
					return
				}
				w.WriteHeader(http.StatusAccepted)
			}))
			t.Cleanup(srv.Close)
			err := (&Player{Secret: secret}).Play(t.Context(), srv.URL, "sign-up")
			if (err != nil) != (tc.err != "") || err != nil && !strings.Contains(err.Error(), tc.err) {
				t.Errorf("got %v, want %q", err, tc.err)
			}
			if len(ids) != tc.posts || len(slices.Compact(ids)) != 1 {
				t.Errorf("it was posted under %q, want %d times under one id", ids, tc.posts)
			}
		})
	}
}

// TestStorm: a hundred events, each twice and not in their order, half of the users deleted at the end.
func TestStorm(t *testing.T) {
	t.Parallel()
	d, hook := newDoor(t)
	if err := (&Player{Secret: secret}).Play(t.Context(), hook, "storm"); err != nil {
		t.Fatal(err)
	}
	times, newest, inOrder := map[string]int{}, map[string]inbox.Event{}, true
	for i, e := range d.events {
		times[e.ID]++
		if u := user(t, e); newest[u].TS <= e.TS {
			newest[u] = e
		}
		inOrder = inOrder && (i == 0 || d.events[i-1].TS <= e.TS)
	}
	deleted := 0
	for _, e := range newest {
		if e.Name == "clerk/user.deleted" {
			deleted++
		}
	}
	if len(times) != 100 || len(d.events) != 200 || len(newest) != 10 || deleted != 5 || inOrder {
		t.Errorf("got %d events in %d webhooks of %d users, %d deleted, in order: %t",
			len(times), len(d.events), len(newest), deleted, inOrder)
	}
	for id, n := range times {
		if n != 2 {
			t.Errorf("%s came %d times", id, n)
		}
	}
}
