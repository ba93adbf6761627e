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
	"strings"
	"testing"
	"time"

	"clerksync/internal/testenv"
)

// TestHostile: whatever a stranger sends, the service answers with a 4xx, keeps running and accepts real webhooks.
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
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, hook,
			strings.NewReader(strings.Repeat("x", n)))
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
		return []byte(`{"type":"user.created","data":{"id":"user_deep","x":` + strings.Repeat(`{"a":`, n) + "1" +
			strings.Repeat("}", n) + "}}")
	}
	for name, tc := range map[string]struct {
		req  *http.Request
		code int
	}{
		"no body":         {unsigned(0), 400},
		"no body, signed": {signed(hook, nil), 400},
		"512 KiB":         {unsigned(512 << 10), 400},
		"512 KiB, signed": {
			signed(hook, []byte(`{"type":"user.created","data":{"id":"user_big","x":"`+strings.Repeat("x",
				512<<10-56)+`"}}`)), 413,
		},
		"513 KiB":                 {unsigned(513 << 10), 413},
		"513 KiB, length unknown": {with(unsigned(513<<10), func(r *http.Request) { r.ContentLength = -1 }), 413},
		"ten thousand headers": {
			with(signed(hook, created.Body), func(r *http.Request) { addHeaders(r, 10_000) }), 431,
		},
		"one huge header": {
			with(signed(hook, created.Body), func(r *http.Request) {
				r.Header.Set("X-A", strings.Repeat("a", 1<<20))
			}), 431,
		},
		"a huge URL": {signed(w.url+"/"+strings.Repeat("a", 1<<20), created.Body), 431},
		"gzip": {
			with(signed(hook, zipped.Bytes()), func(r *http.Request) { r.Header.Set("Content-Encoding", "gzip") }), 400,
		},
		"deep JSON": {signed(hook, deep(50_000)), 400},
		"NUL": {
			signed(hook, []byte("{\"type\":\"user.created\",\"data\":{\"id\":\"a\x00\"}}")), 400,
		},
		"invalid UTF-8": {
			signed(hook, []byte("{\"type\":\"user.created\",\"data\":{\"id\":\"a\xc3\"}}")), 400,
		},
		"huge numbers": {
			signed(hook, []byte(`{"type":"user.created","data":{"id":"a","updated_at":1e99999}}`)), 400,
		},
		"duplicate keys": {signed(hook, []byte(`{"type":"user.created","data":{"id":"a","id":"b"}}`)), 400},
		"another method": {
			with(signed(hook, created.Body), func(r *http.Request) { r.Method = http.MethodPut }), 405,
		},
		"an unknown method": {
			with(signed(hook, created.Body), func(r *http.Request) { r.Method = "BREW" }), 405,
		},
		"another path":          {signed(w.url+"/webhooks/clerk/x", created.Body), 404},
		"the path with a slash": {signed(w.url+"/webhooks/clerk/", created.Body), 404},
		"the path twice":        {signed(w.url+"//webhooks/clerk", created.Body), 404},
		"another content type": {
			with(signed(hook, created.Body), func(r *http.Request) { r.Header.Set("Content-Type", "text/html") }), 415,
		},
		"an old signature": {
			testenv.Signed(t, hook, testenv.Secret, "msg_old", time.Now().Add(-10*time.Minute), created.Body), 400,
		},
		"another body's signature": {
			with(signed(hook, created.Body), func(r *http.Request) {
				r.Body = io.NopCloser(strings.NewReader("{}"))
				r.ContentLength = 2
			}), 400,
		},
		"a thousand signatures": {
			with(signed(hook, created.Body), func(r *http.Request) {
				r.Header.Set("svix-signature", strings.Repeat("v1,AAAA ", 1000))
			}), 400,
		},
		"an empty signature": {
			with(signed(hook, created.Body), func(r *http.Request) { r.Header.Set("svix-signature", "v1,") }), 400,
		},
		"signed with an empty key":  {with(signed(hook, created.Body), signEmpty), 400},
		"Inngest's path, a webhook": {signed(w.url+"/api/inngest", created.Body), 410}, // no such function
	} {
		t.Run(name, func(t *testing.T) {
			if code, body := w.ask(t, tc.req); code != tc.code {
				t.Errorf("got %d %s, want %d", code, body, tc.code)
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

// ask sends a request and returns the answer. The service may answer and hang up before it has all of the request, and
// of these two http.Client now and then sees the second alone.
func (w *world) ask(t *testing.T, r *http.Request) (code int, body []byte) {
	t.Helper()
	conn, err := net.Dial("tcp", r.URL.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	go func() { _ = r.Write(conn) }()
	res, err := http.ReadResponse(bufio.NewReader(conn), r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, _ = io.ReadAll(res.Body) // of an answer that is cut off, what is there
	return res.StatusCode, body
}

// signEmpty signs a request anew, with a key of no bytes.
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
