package inbox_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"clerksync/inngest"
	"clerksync/internal/testenv"
	"clerksync/store/database"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// fakeInngest is an event API that answers as it is told and keeps what it was asked.
type fakeInngest struct {
	*httptest.Server
	mu       sync.Mutex
	answer   func(ids []string) (code int, body string) // nil accepts
	header   http.Header
	requests []request
	taken    []string
}

type request struct {
	ids []string
	at  time.Time
}

func newInngest(t *testing.T) *fakeInngest {
	t.Helper()
	s := &fakeInngest{header: http.Header{}}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var events []struct{ ID string }
		if err := json.Unmarshal(body, &events); err != nil {
			t.Error(err)
		}
		if err != nil {
			t.Error(err)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		var ids []string
		for _, e := range events {
			ids = append(ids, e.ID)
		}
		s.requests = append(s.requests, request{ids, time.Now()})
		if s.answer != nil {
			if code, body := s.answer(ids); code != http.StatusOK {
				for k := range s.header {
					w.Header().Set(k, s.header.Get(k))
				}
				w.WriteHeader(code)
				_, _ = io.WriteString(w, body)
				return
			}
		}
		s.taken = append(s.taken, ids...)
		_ = json.NewEncoder(w).Encode(map[string]any{"ids": ids, "status": http.StatusOK})
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *fakeInngest) set(answer func(ids []string) (int, string)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

func (s *fakeInngest) asked() []request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

func (s *fakeInngest) hasAll(ids []string) bool {
	return !slices.ContainsFunc(ids, func(id string) bool { return !s.has(id) })
}

// has tells whether it has taken an event, under whatever id.
func (s *fakeInngest) has(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.taken, func(got string) bool { return got == id || strings.HasPrefix(got, id+":") })
}

// almostASecond is what is seen of a pause of a second, which is kept in whole milliseconds.
const almostASecond = 990 * time.Millisecond

const proxyPage = "<html><body>Bad Request</body></html>"

func names(n int) (ids []string) {
	for i := range n {
		ids = append(ids, fmt.Sprintf("msg_%02d", i))
	}
	return ids
}

func failures(t *testing.T, db *database.DB, ids []string) (failed []string) {
	t.Helper()
	for _, id := range ids {
		if row(t, db, id)["failure"] != nil {
			failed = append(failed, id)
		}
	}
	return failed
}

// TestProxyAnswersForInngest: a 4xx that is not Inngest's own word makes no dead letters; if it meets every event,
// Inngest is away, and they are sent when it is back.
func TestProxyAnswersForInngest(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		code int
		body string
	}{
		"400 in HTML":             {400, proxyPage},
		"413 of a proxy":          {413, ""},
		"404 without a word":      {404, ""},
		"400 in another's JSON":   {400, `{"message":"bad request"}`},
		"403 with Inngest's JSON": {403, `{"error":"no","status":403}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := testenv.NewMemory().Connect(t, "test", nil, nil)
			s := newInngest(t)
			s.set(func([]string) (int, string) { return tc.code, tc.body })
			b, _, _ := start(t, db, inngest.Server{URL: s.URL}.EventAPI().Send, time.Hour)
			ids := names(12)
			put(t, b, ids...)
			until(t, "it has been asked several times", func() bool { return len(s.asked()) > 6 })
			if got := failures(t, db, ids); len(got) > 0 {
				t.Errorf("%v are dead letters", got)
			}
			s.set(nil)
			until(t, "all are sent", func() bool { return s.hasAll(ids) })
		})
	}
}

// TestBlockedAlone: an event that something on the way does not let through, while its neighbours pass, is no dead
// letter and does not hold them up: it waits by itself, and is sent when it is let through.
func TestBlockedAlone(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it waits for several seconds")
	}
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		s := newInngest(t)
		s.set(func([]string) (int, string) { return 503, "" })
		b, reg, _ := start(t, db, inngest.Server{URL: s.URL}.EventAPI().Send, 200*time.Millisecond)
		ids := names(12)
		put(t, b, ids[0])
		until(t, "Inngest is found away", func() bool { return metric(t, reg, "clerksync_inngest_away") == 1 })
		put(t, b, ids[1:]...)
		s.set(func(ids []string) (int, string) {
			if slices.ContainsFunc(ids, func(id string) bool { return strings.HasPrefix(id, "msg_07") }) {
				return 403, proxyPage
			}
			return 200, ""
		})
		until(t, "the others are sent", func() bool {
			return !slices.ContainsFunc(ids, func(id string) bool { return id != "msg_07" && !s.has(id) })
		})
		for _, id := range ids {
			if id != "msg_07" {
				if _, err := b.Done(t.Context(), id); err != nil {
					t.Fatal(err)
				}
			}
		}
		alone := func() (n int) {
			for _, r := range s.asked() {
				if len(r.ids) == 1 && strings.HasPrefix(r.ids[0], "msg_07") {
					n++
				}
			}
			return n
		}
		until(t, "it is tried again by itself", func() bool { return alone() >= 3 })
		if got := metric(t, reg, "clerksync_inngest_away"); got != 0 {
			t.Errorf("Inngest counts as away because of one event")
		}
		if got := failures(t, db, ids); len(got) > 0 {
			t.Errorf("%v are dead letters", got)
		}
		s.set(nil)
		until(t, "it is sent", func() bool { return s.has("msg_07") })
	})
}

// TestSpeaksOfNoEvent: these answers say nothing about the events: no batch is split, none is lost, and Retry-After is
// heeded.
func TestSpeaksOfNoEvent(t *testing.T) {
	t.Parallel()
	for _, code := range []int{401, 408, 425, 429, 503} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			t.Parallel()
			db := testenv.NewMemory().Connect(t, "test", nil, nil)
			s := newInngest(t)
			s.header.Set("Retry-After", "1")
			s.set(func([]string) (int, string) { return code, `{"error":"not now","status":` + fmt.Sprint(code) + `}` })
			b, reg, _ := start(t, db, inngest.Server{URL: s.URL}.EventAPI().Send, time.Hour)
			ids := names(12)
			put(t, b, ids[0])
			until(t, "Inngest is found away", func() bool { return metric(t, reg, "clerksync_inngest_away") == 1 })
			put(t, b, ids[1:]...)
			until(t, "it has been asked several times", func() bool { return len(s.asked()) >= 3 })
			asked := s.asked()
			for i := 1; i < len(asked); i++ {
				if got := asked[i].at.Sub(asked[i-1].at); got < almostASecond {
					t.Errorf("it was asked again after %v, want a second: it said so", got)
				}
			}
			if got := failures(t, db, ids); len(got) > 0 {
				t.Errorf("%v are dead letters", got)
			}
			s.set(nil)
			until(t, "all are sent", func() bool { return s.hasAll(ids) })
		})
	}
}

// TestPauseReachesTheSweep: a sweep that finds what a refused request gives back does not send it while Inngest asks to
// be left alone. It used to, because the events were given back before the pause was noted.
func TestPauseReachesTheSweep(t *testing.T) {
	t.Parallel()
	g := &gate{}
	db := testenv.NewMemory().Connect(t, "test", g, nil)
	s := newInngest(t)
	s.header.Set("Retry-After", "1")
	s.set(func([]string) (int, string) { return 429, "" })
	b, _, _ := start(t, db, inngest.Server{URL: s.URL}.EventAPI().Send, 2*time.Second) // it sweeps twice a second
	givenBack, swept := make(chan struct{}), make(chan struct{})
	var back, found sync.Once
	g.set(func(command string) {
		if command == "find" {
			select {
			case <-givenBack:
				found.Do(func() { close(swept) })
			default:
			}
		}
	})
	g.setAfter(func(reply bson.D) {
		if slices.ContainsFunc(reply, func(e bson.E) bool { return e.Key == "nModified" }) {
			back.Do(func() { close(givenBack); <-swept })
		}
	})
	put(t, b, "msg_1")
	until(t, "it has been asked again", func() bool { return len(s.asked()) >= 2 })
	if asked := s.asked(); asked[1].at.Sub(asked[0].at) < almostASecond {
		t.Errorf("it was asked again after %v, want a second: it said so", asked[1].at.Sub(asked[0].at))
	}
}
