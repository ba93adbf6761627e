package e2e_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"clerksync/internal/testenv"
)

// TestHostile: whatever is sent to it, the service answers with a 4xx, lives on and takes real webhooks meanwhile.
func TestHostile(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	created, _, _ := life(t, "user_hostile")
	hook := w.url + "/webhooks/clerk"
	signed := func(url string, body []byte) *http.Request {
		return testenv.Signed(t, url, testenv.Secret, "msg_hostile", time.Now(), body)
	}
	with := func(req *http.Request, change func(*http.Request)) *http.Request {
		change(req)
		return req
	}
	unsigned := func(n int) *http.Request {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, hook, strings.NewReader(strings.Repeat("x", n)))
		if err != nil {
			t.Fatal(err)
		}
		return req
	}
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, _ = z.Write(created.Body)
	_ = z.Close()
	deep := func(n int) []byte {
		return []byte(`{"type":"user.created","data":{"id":"user_deep","x":` + strings.Repeat(`{"a":`, n) + "1" + strings.Repeat("}", n) + "}}")
	}
	for name, tc := range map[string]struct {
		req  *http.Request
		code int
	}{
		"no body":                   {unsigned(0), 400},
		"no body, signed":           {signed(hook, nil), 400},
		"512 KiB":                   {unsigned(512 << 10), 400},
		"512 KiB, signed":           {signed(hook, []byte(`{"type":"user.created","data":{"id":"user_big","x":"`+strings.Repeat("x", 512<<10-56)+`"}}`)), 413},
		"513 KiB":                   {unsigned(513 << 10), 413},
		"513 KiB, length unknown":   {with(unsigned(513<<10), func(r *http.Request) { r.ContentLength = -1 }), 413},
		"ten thousand headers":      {with(signed(hook, created.Body), func(r *http.Request) { addHeaders(r, 10_000) }), 431},
		"one huge header":           {with(signed(hook, created.Body), func(r *http.Request) { r.Header.Set("X-A", strings.Repeat("a", 1<<20)) }), 431},
		"a huge URL":                {signed(w.url+"/"+strings.Repeat("a", 1<<20), created.Body), 431},
		"gzip":                      {with(signed(hook, zipped.Bytes()), func(r *http.Request) { r.Header.Set("Content-Encoding", "gzip") }), 400},
		"deep JSON":                 {signed(hook, deep(50_000)), 400},
		"NUL":                       {signed(hook, []byte("{\"type\":\"user.created\",\"data\":{\"id\":\"a\x00\"}}")), 400},
		"invalid UTF-8":             {signed(hook, []byte("{\"type\":\"user.created\",\"data\":{\"id\":\"a\xc3\"}}")), 400},
		"huge numbers":              {signed(hook, []byte(`{"type":"user.created","data":{"id":"a","updated_at":1e99999}}`)), 400},
		"duplicate keys":            {signed(hook, []byte(`{"type":"user.created","data":{"id":"a","id":"b"}}`)), 400},
		"another method":            {with(signed(hook, created.Body), func(r *http.Request) { r.Method = http.MethodPut }), 405},
		"an unknown method":         {with(signed(hook, created.Body), func(r *http.Request) { r.Method = "BREW" }), 405},
		"another path":              {signed(w.url+"/webhooks/clerk/x", created.Body), 404},
		"the path with a slash":     {signed(w.url+"/webhooks/clerk/", created.Body), 404},
		"the path twice":            {signed(w.url+"//webhooks/clerk", created.Body), 404},
		"another content type":      {with(signed(hook, created.Body), func(r *http.Request) { r.Header.Set("Content-Type", "text/html") }), 415},
		"an old signature":          {testenv.Signed(t, hook, testenv.Secret, "msg_old", time.Now().Add(-10*time.Minute), created.Body), 400},
		"another body's signature":  {with(signed(hook, created.Body), func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader("{}")); r.ContentLength = 2 }), 400},
		"a thousand signatures":     {with(signed(hook, created.Body), func(r *http.Request) { r.Header.Set("svix-signature", strings.Repeat("v1,AAAA ", 1000)) }), 400},
		"an empty signature":        {with(signed(hook, created.Body), func(r *http.Request) { r.Header.Set("svix-signature", "v1,") }), 400},
		"signed with an empty key":  {with(signed(hook, created.Body), signEmpty), 400},
		"Inngest's path, a webhook": {signed(w.url+"/api/inngest", created.Body), 410}, // no such function
	} {
		t.Run(name, func(t *testing.T) {
			res, err := (&http.Client{Timeout: 20 * time.Second}).Do(tc.req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			if body, _ := io.ReadAll(res.Body); res.StatusCode != tc.code {
				t.Errorf("got %d %s, want %d", res.StatusCode, body, tc.code)
			}
		})
	}
	w.deliver(created)
	w.drained()
	if w.row("user_hostile") == nil {
		t.Error("the real webhook has not been written")
	}
	if w.service.Ended() {
		t.Errorf("the service ended: %v", w.service.State())
	}
}

// signEmpty signs the request of signed with a key of no bytes, as a service without a secret would.
func signEmpty(r *http.Request) {
	body, _ := io.ReadAll(r.Body) // it is in memory
	r.Body = io.NopCloser(bytes.NewReader(body))
	mac := hmac.New(sha256.New, nil)
	_, _ = fmt.Fprintf(mac, "%s.%s.%s", r.Header.Get("svix-id"), r.Header.Get("svix-timestamp"), body)
	r.Header.Set("svix-signature", "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
}

func addHeaders(r *http.Request, n int) {
	for i := range n {
		r.Header.Set(fmt.Sprint("X-", i), "a")
	}
}

// TestMemoryBound: 300 clients that stream 100 MiB each, slowly and side by side, cost less than 96 MiB, and a real
// webhook is taken meanwhile.
func TestMemoryBound(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("reads /proc")
	}
	w := newWorld(t, options{})
	created, updated, _ := life(t, "user_memory")
	w.deliver(created)
	w.drained()
	before := w.peakMemory()
	const clients = 300
	var wg, begun sync.WaitGroup
	begun.Add(clients)
	chunk := fmt.Sprintf("%x\r\n%s\r\n", 16<<10, strings.Repeat("x", 16<<10))
	codes := make(chan int, clients)
	for range clients {
		wg.Go(func() {
			c := w.dial("POST /webhooks/clerk HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
			defer c.Close()
			_, _ = io.WriteString(c, chunk)
			begun.Done()
			go func() {
				for range 100 << 20 / (16 << 10) {
					if _, err := io.WriteString(c, chunk); err != nil {
						return // it has been answered
					}
					<-time.After(10 * time.Millisecond)
				}
			}()
			codes <- readCode(c)
		})
	}
	begun.Wait()
	start := time.Now()
	w.deliver(updated)
	t.Logf("a real webhook took %v", time.Since(start))
	wg.Wait()
	close(codes)
	count := map[int]int{}
	for code := range codes {
		count[code]++
	}
	after := w.peakMemory()
	t.Logf("peak memory: %d MiB, before %d MiB; answers %v", after>>20, before>>20, count)
	if count[413]+count[503] != clients {
		t.Errorf("got answers %v, want 413 or 503", count)
	}
	if after-before > 96<<20 {
		t.Errorf("peak memory grew by %d MiB, want 96 at the most", (after-before)>>20)
	}
}

// TestSlowClients: who sends its headers or its body slowly, or nothing more, is cut off.
func TestSlowClients(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	for name, tc := range map[string]struct {
		send, drip string
		want       string // how the answer begins, if there is one
		within     time.Duration
	}{
		"headers": {"POST /webhooks/clerk HTTP/1.1\r\nHost: x\r\n", "X-A: b\r\n", "", 10 * time.Second},
		"body":    {"POST /webhooks/clerk HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n", "x", "HTTP/1.1 400", 25 * time.Second},
		"idle":    {"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", "", "HTTP/1.1 200", 45 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := w.dial(tc.send)
			defer c.Close()
			done := make(chan struct{})
			defer close(done)
			go func() {
				tick := time.NewTicker(time.Second)
				defer tick.Stop()
				for {
					select {
					case <-tick.C:
						_, _ = io.WriteString(c, tc.drip)
					case <-done:
						return
					}
				}
			}()
			if err := c.SetReadDeadline(time.Now().Add(tc.within)); err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(c) // until the service closes the connection
			if os.IsTimeout(err) {
				t.Errorf("it is not cut off within %v", tc.within)
			}
			if !strings.HasPrefix(string(got), tc.want) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

// dial connects to the service and sends the beginning of a request.
func (w *world) dial(request string) net.Conn {
	w.t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := io.WriteString(c, request); err != nil {
		w.t.Error(err)
	}
	return c
}

// readCode returns the status of the answer, or 0.
func readCode(c net.Conn) int {
	if err := c.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return 0
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0
	}
	_ = res.Body.Close()
	return res.StatusCode
}

// peakMemory returns the most memory that the service has had, in bytes.
func (w *world) peakMemory() int {
	w.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", w.service.PID()))
	if err != nil {
		w.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "VmHWM:")
	var kb int
	if _, err := fmt.Sscan(rest, &kb); err != nil {
		w.t.Fatal(err)
	}
	return kb << 10
}
