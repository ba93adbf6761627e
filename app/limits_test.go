package app

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"clerksync/internal/testenv"
)

// serve serves h until the test ends, and returns what connects to it. There are no sockets, so that in a bubble of
// testing/synctest nothing takes time but what waits: on a busy machine a large body can take longer than a limit.
func serve(t *testing.T, h http.Handler, readTimeout time.Duration) *testenv.Pipes {
	t.Helper()
	network, srv := testenv.NewPipes(), &http.Server{Handler: h, ReadTimeout: readTimeout}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = srv.Serve(network) // until it is closed
	}()
	t.Cleanup(func() {
		_ = srv.Close()
		<-ended
	})
	return network
}

// slowBody begins a request with a large body at the server, sends a byte of it every 10 ms until the test ends or the
// server has had enough, and begins anew then.
func slowBody(t *testing.T, network *testenv.Pipes) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var ended sync.WaitGroup
	begun := make(chan struct{})
	t.Cleanup(func() { cancel(); ended.Wait() })
	ended.Go(func() {
		for first := true; ctx.Err() == nil; first = false {
			c, err := network.Dial(ctx, "", "")
			if err != nil {
				return // the test has ended
			}
			ended.Go(func() { _, _ = io.Copy(io.Discard, c) }) // a pipe keeps no answer until it is read
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

// postBody posts a body and returns the status and the text of the answer.
func postBody(ctx context.Context, t *testing.T, network *testenv.Pipes, size int) (int, string) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DialContext: network.Dial}}
	defer client.CloseIdleConnections()
	body := strings.NewReader(strings.Repeat("x", size))
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://pipes", body)
	if err != nil {
		t.Fatal(err)
	}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(text)
}

// TestSlowBodiesKeepNoSlot: who holds a slot and sends no body loses it, so that slow clients do not keep out who has
// something to send.
func TestSlowBodiesKeepNoSlot(t *testing.T) {
	t.Parallel()
	for _, slots := range []int{8, 16} {
		t.Run(fmt.Sprint(slots), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				reading := make(chan struct{}, slots)
				l := limits{slots: slots, wait: time.Minute, progress: 100 * time.Millisecond, whole: time.Hour}
				network := serve(t, l.bound(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					select {
					case reading <- struct{}{}:
					default:
					}
					if _, err := io.Copy(io.Discard, r.Body); err != nil {
						http.Error(w, err.Error(), http.StatusBadRequest)
					}
				})), 0)
				for range slots {
					slowBody(t, network)
				}
				for range slots { // all slots are taken
					<-reading
				}
				ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
				defer cancel()
				if code, text := postBody(ctx, t, network, 4<<20); code != http.StatusOK {
					t.Errorf("got %d %s, want 200", code, text)
				}
			})
		})
	}
}

// TestFunctionMayBeSlow: a slot's time counts the body alone. While the function runs, no deadline of the body's ends
// its context.
func TestFunctionMayBeSlow(t *testing.T) {
	t.Parallel()
	l := limits{slots: 1, wait: time.Minute, progress: 100 * time.Millisecond, whole: 200 * time.Millisecond}
	for name, size := range map[string]int{"a small body": 10, "a large one": 1 << 20, "none": 0} {
		synctest.Test(t, func(t *testing.T) {
			network := serve(t, l.bound(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if _, err := io.Copy(io.Discard, r.Body); err != nil {
					http.Error(w, err.Error(), http.StatusBadRequest)
					return
				}
				select {
				case <-r.Context().Done():
					http.Error(w, "its context has ended", http.StatusInternalServerError)
				case <-time.After(time.Second):
				}
			})), l.whole)
			if code, text := postBody(t.Context(), t, network, size); code != http.StatusOK {
				t.Errorf("%s: got %d %s, want 200", name, code, text)
			}
		})
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
