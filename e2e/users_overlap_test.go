package e2e_test

import (
	"bytes"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"regexp"
	"sync"
	"testing"
	"time"
)

// TestStackUsersOverlap: Inngest calls the functions for several users at the same time, but never twice at the same
// time for one user, though two replicas answer.
func TestStackUsersOverlap(t *testing.T) {
	wantsStack(t)
	for name, checkpoints := range map[string]bool{"without checkpoints": false, "with checkpoints": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var seen *overlaps
			s := newStack(t, stackOptions{
				replicas: 2, checkpoints: checkpoints, env: []string{"INBOX_RESEND_AFTER=30s"},
				calls: func(service string) (proxy string) { seen, proxy = watchOverlaps(t, service); return proxy },
			})
			rng := rand.New(rand.NewPCG(17, 0))
			histories := s.app.Histories(t, rng, 15)
			s.deliverAll(shuffled(rng, histories), false)
			s.drained()
			s.compare(histories)

			seen.mu.Lock()
			defer seen.mu.Unlock()
			if seen.ofOne != 1 || seen.ofAll < 2 {
				t.Errorf("got %d calls at the same time for one user, want 1; %d for all users, want more",
					seen.ofOne, seen.ofAll)
			}
			worked := regexp.MustCompile(`(?m)^clerksync_outcomes_total\{.*\} [1-9]`)
			for _, r := range s.replicas {
				s.url = r.url
				if _, metrics := s.get("/metrics"); !worked.MatchString(metrics) {
					t.Errorf("%s has worked for no user", r.url)
				}
			}
			t.Logf("%d calls for %d users; at the same time at most %d for one and %d for all",
				seen.calls, len(histories), seen.ofOne, seen.ofAll)
		})
	}
}

// overlaps says how many calls there were at the same time.
type overlaps struct {
	mu                  sync.Mutex
	now                 map[string]int // for each user
	all                 int            // now
	calls, ofOne, ofAll int            // how many in all, and at most for one user and for all of them
}

// watchOverlaps starts a proxy for Inngest's calls, each of which takes a while longer in it, so that others have the
// time to overlap.
func watchOverlaps(t *testing.T, service string) (*overlaps, string) {
	t.Helper()
	target, err := url.Parse(service)
	if err != nil {
		t.Fatal(err)
	}
	o := &overlaps{now: map[string]int{}}
	pass := httputil.NewSingleHostReverseProxy(target)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var call struct {
			Event struct{ Data struct{ ID string } }
		}
		if err != nil || json.Unmarshal(body, &call) != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		if user := call.Event.Data.ID; user != "" { // else it is a cron's
			o.begin(user)
			defer o.end(user)
			<-time.After(50 * time.Millisecond)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		pass.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		srv.CloseClientConnections() // Inngest's, which goes on
		srv.Close()
	})
	return o, srv.URL
}

func (o *overlaps) begin(user string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.calls++
	o.all++
	o.now[user]++
	o.ofOne, o.ofAll = max(o.ofOne, o.now[user]), max(o.ofAll, o.all)
}

func (o *overlaps) end(user string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.all--
	o.now[user]--
}
