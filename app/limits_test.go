package app

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// slowBody begins a request with a large body at the server, sends a byte of it every 10 ms until the test ends or the
// server has had enough, and begins anew then.
func slowBody(t *testing.T, addr string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var ended sync.WaitGroup
	begun := make(chan struct{})
	t.Cleanup(func() { cancel(); ended.Wait() })
	ended.Go(func() {
		for first := true; ctx.Err() == nil; first = false {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				return // the server has ended
			}
			_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n")
			if first {
				close(begun)
			}
			for err == nil && ctx.Err() == nil {
				<-time.After(10 * time.Millisecond)
				_, err = io.WriteString(c, "x")
			}
			_ = c.Close()
		}
	})
	<-begun
}

// TestSlowBodiesKeepNoSlot: who holds a slot and sends no body loses it, so that slow clients do not keep out who has
// something to send.
func TestSlowBodiesKeepNoSlot(t *testing.T) {
	t.Parallel()
	for _, slots := range []int{8, 16} {
		t.Run(fmt.Sprint(slots), func(t *testing.T) {
			t.Parallel()
			reading := make(chan struct{}, slots)
			l := limits{slots: slots, wait: time.Minute, progress: 100 * time.Millisecond, whole: time.Hour}
			srv := httptest.NewServer(l.bound(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				select {
				case reading <- struct{}{}:
				default:
				}
				if _, err := io.Copy(io.Discard, r.Body); err != nil {
					http.Error(w, err.Error(), http.StatusBadRequest)
				}
			})))
			t.Cleanup(srv.Close)
			for range slots {
				slowBody(t, srv.Listener.Addr().String())
			}
			for range slots { // all slots are taken
				<-reading
			}
			ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
			defer cancel()
			body := strings.NewReader(strings.Repeat("x", 4<<20))
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, srv.URL, body)
			if err != nil {
				t.Fatal(err)
			}
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			if res.StatusCode != http.StatusOK {
				t.Errorf("got %d, want 200", res.StatusCode)
			}
		})
	}
}

// TestFunctionMayBeSlow: a slot's time counts the body alone. While the function runs, no deadline of the body's ends
// its context.
func TestFunctionMayBeSlow(t *testing.T) {
	t.Parallel()
	l := limits{slots: 1, wait: time.Minute, progress: 100 * time.Millisecond, whole: 200 * time.Millisecond}
	for name, size := range map[string]int{"a small body": 10, "a large one": 1 << 20, "none": 0} {
		srv := httptest.NewUnstartedServer(l.bound(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			select {
			case <-r.Context().Done():
				http.Error(w, "its context has ended", http.StatusInternalServerError)
			case <-time.After(time.Second):
			}
		})))
		srv.Config.ReadTimeout = l.whole
		srv.Start()
		res, err := http.Post(srv.URL, "", strings.NewReader(strings.Repeat("x", size)))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if text, _ := io.ReadAll(res.Body); res.StatusCode != http.StatusOK {
			t.Errorf("%s: got %d %s, want 200", name, res.StatusCode, text)
		}
		_ = res.Body.Close()
		srv.Close()
	}
}

// TestGoneWhileWaiting: who has gone while the request waited for a slot is not answered 2xx. A handler that returned
// without an answer would be, by net/http.
func TestGoneWhileWaiting(t *testing.T) {
	t.Parallel()
	l := limits{slots: 0, wait: time.Hour, progress: time.Hour, whole: time.Hour}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w := httptest.NewRecorder()
	body := strings.NewReader(strings.Repeat(" ", smallBody+1))
	l.bound(http.NotFoundHandler()).ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodPost, "/", body))
	if w.Code != http.StatusServiceUnavailable {
		t.Errorf("got %d, want 503", w.Code)
	}
}
