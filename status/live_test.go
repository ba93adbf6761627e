package status

import (
	"bufio"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"clerksync/clerk"
	"clerksync/functions"
	"clerksync/internal/testenv"
	"clerksync/store"
)

// watching is a stream.
type watching struct {
	*http.Response
	lines *bufio.Scanner
}

// next returns the HTML of the next event, and false if the stream has ended.
func (w watching) next() (html string, ok bool) {
	for w.lines.Scan() {
		line := w.lines.Text()
		if line == "" && html != "" {
			return html, true
		}
		html += strings.TrimPrefix(line, "data: ") + "\n"
	}
	return "", false
}

// watch opens a stream.
func watch(t *testing.T, server *httptest.Server, set func(*http.Request)) watching {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+"/status/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	set(r)
	res, err := server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = res.Body.Close() })
	s := bufio.NewScanner(res.Body)
	s.Buffer(nil, 1<<20)
	return watching{res, s}
}

// TestStream: who watches gets the page at once and after each event, for longer than the server lets an answer take,
// until the service ends.
func TestStream(t *testing.T) {
	t.Parallel()
	p := newPage(t, nil)
	p.readEvery = time.Millisecond
	server := httptest.NewUnstartedServer(p)
	server.Config.WriteTimeout = time.Nanosecond // over before the first byte
	server.Start()
	t.Cleanup(server.Close)
	w := watch(t, server, func(r *http.Request) { bearer(r, token) })
	if typ := w.Header.Get("Content-Type"); w.StatusCode != http.StatusOK || typ != "text/event-stream" {
		t.Fatalf("got %d %s", w.StatusCode, typ)
	}
	first, _ := w.next()
	has(t, first, "retry: 3000", `id="verdict"`, `id="recent"`, "None since the service started.")
	hasNot(t, first, "<form id=\"find\"", "<html", `id="user"`)
	p.Activity.Wrote(functions.Wrote{Type: "user.created", UserID: "user_new", Outcome: store.Created, At: time.Now()})
	for {
		html, ok := w.next()
		if !ok {
			t.Fatal("the stream ended before the event came")
		}
		if strings.Contains(html, "user_new") {
			break
		}
	}
	p.End()
	p.End()
	for ok := true; ok; {
		_, ok = w.next()
	}
	if err := w.lines.Err(); err != nil {
		t.Errorf("the stream did not end by itself: %v", err)
	}
	if res, _ := do(p, bearer(get("/status/events"), token)); res.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("after the end: got %d", res.StatusCode)
	}
}

// TestStreamOfStrangers: what a user has typed stays a part of the page. A carriage return ends a line of a stream too.
func TestStreamOfStrangers(t *testing.T) {
	t.Parallel()
	p := newPage(t, func(o *Options) { o.Play = func(context.Context, string) error { return nil } })
	id := testenv.UserID(time.Now(), 1)
	put(t, p, clerk.User{ID: id, FullName: "Ada\revent: other\r\rretry: 86400000\r\n\n\rLovelace"})
	p.Activity.Wrote(functions.Wrote{Type: "user.created", UserID: id, Outcome: store.Created, At: time.Now()})
	server := httptest.NewServer(p)
	t.Cleanup(server.Close)
	t.Cleanup(p.End)
	w := watch(t, server, func(r *http.Request) { bearer(r, token) })
	w.lines.Scan()       // the line of retry
	if !w.lines.Scan() { // and the first one of data
		t.Fatal("nothing came")
	}
	var text strings.Builder
	for w.lines.Scan() && w.lines.Text() != "" {
		if line := w.lines.Text(); !strings.HasPrefix(line, "data: ") || strings.Contains(line, "\r") {
			t.Errorf("got the line %q", line)
		}
		text.WriteString(w.lines.Text())
	}
	has(t, text.String(), "event: other", "Lovelace", `id="tiers"`)
}

// TestStreamsAreBounded: there are only so many at once; others get 503 until one ends.
func TestStreamsAreBounded(t *testing.T) {
	t.Parallel()
	p := newPage(t, nil)
	server := httptest.NewServer(p)
	t.Cleanup(server.Close)
	t.Cleanup(p.End)
	var all []watching
	for range maxViewers {
		w := watch(t, server, func(r *http.Request) { bearer(r, token) })
		if _, ok := w.next(); w.StatusCode != http.StatusOK || !ok {
			t.Fatalf("got %d", w.StatusCode)
		}
		all = append(all, w)
	}
	w := watch(t, server, func(r *http.Request) { bearer(r, token) })
	if w.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("one more: got %d", w.StatusCode)
	}
	_ = all[0].Body.Close()
	for {
		if w := watch(t, server, func(r *http.Request) { bearer(r, token) }); w.StatusCode == http.StatusOK {
			break
		}
	}
}

// TestStreamEndsWithSession: a stream lasts no longer than the session, and another page cannot open one.
func TestStreamEndsWithSession(t *testing.T) {
	t.Parallel()
	p := newPage(t, nil)
	server := httptest.NewServer(p)
	t.Cleanup(server.Close)
	t.Cleanup(p.End)
	start, began := time.Now(), time.Now()
	p.door.now = func() time.Time { return start }
	// The page's clock runs ahead: the session, good when the door looked at it, has ended when the stream begins.
	p.now = func() time.Time { return start.Add(time.Minute + time.Since(began)) }
	w := watch(t, server, func(r *http.Request) { with(r, forged(token, start.Add(time.Minute))) })
	if w.StatusCode != http.StatusOK {
		t.Fatalf("got %d", w.StatusCode)
	}
	for ok := true; ok; {
		_, ok = w.next()
	}
	if err := w.lines.Err(); err != nil {
		t.Errorf("the stream did not end by itself: %v", err)
	}
	w = watch(t, server, func(r *http.Request) { with(r, forged(token, start.Add(-time.Second))) })
	if w.StatusCode != http.StatusUnauthorized {
		t.Errorf("after the session: got %d", w.StatusCode)
	}
	w = watch(t, server, func(r *http.Request) { bearer(r, token).Header.Set("Sec-Fetch-Site", "cross-site") })
	if w.StatusCode != http.StatusForbidden {
		t.Errorf("another page: got %d", w.StatusCode)
	}
}
