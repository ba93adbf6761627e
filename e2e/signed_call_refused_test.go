package e2e_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"

	"clerksync/internal/testenv"
)

// calls counts the answers to Inngest's calls through a proxy, such as "PUT 200" or, for a call without a signature,
// "unsigned PUT 200". For each function it also keeps the answers in their order.
type calls struct {
	mu       sync.Mutex
	count    map[string]int
	function map[string][]int
}

func (c *calls) of(what string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.count[what]
}

// record starts a proxy that passes all calls on to the service and counts the answers.
func record(t *testing.T, to string) (*calls, *httptest.Server) {
	t.Helper()
	target, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	c := &calls{count: map[string]int{}, function: map[string][]int{}}
	p := httputil.NewSingleHostReverseProxy(target)
	p.ModifyResponse = func(res *http.Response) error {
		what := fmt.Sprint(res.Request.Method, " ", res.StatusCode)
		if res.Request.Header.Get("X-Inngest-Signature") == "" {
			what = "unsigned " + what
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.count[what]++
		if fn := res.Request.URL.Query().Get("fnId"); fn != "" {
			c.function[fn] = append(c.function[fn], res.StatusCode)
		}
		return nil
	}
	srv := httptest.NewServer(p)
	t.Cleanup(srv.Close)
	return c, srv
}

// TestSignedCalls: a self-hosted server signs all its calls, its own registration too, and all of them are accepted,
// even one with a user whose metadata is hundreds of levels deep.
func TestSignedCalls(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	got, proxy := record(t, w.url)
	kill(w.service)
	w.env = append(w.env, "INNGEST_DEV=0", "INNGEST_BASE_URL="+selfHosted(t, "--sdk-url", proxy.URL+"/api/inngest",
		"--poll-interval", "1"),
		"INNGEST_SIGNING_KEY=signkey-test-ffff", "INNGEST_SIGNING_KEY_FALLBACK="+signingKey,
		"INNGEST_SERVE_ORIGIN="+proxy.URL)
	w.startService()

	shallow, _, _ := life(t, "user_2shallow")
	deep, _, _ := life(t, "user_2deep")
	const object = `"object":"user"`
	metadata := object + `,"unsafe_metadata":` + strings.Repeat(`{"a":`, 900) + "1" + strings.Repeat("}", 900)
	deep.Body = bytes.Replace(deep.Body, []byte(object), []byte(metadata), 1)
	for _, hook := range []testenv.Webhook{shallow, deep} {
		w.deliver(hook)
	}
	w.drained()
	if w.row("user_2shallow") == nil || w.row("user_2deep") == nil {
		t.Error("a row has not been written")
	}
	w.until("the server has registered by itself", func() bool { return got.of("PUT 200") > 0 })
	w.until("two runs were answered", func() bool { return got.of("POST 200") > 1 })
	got.mu.Lock()
	defer got.mu.Unlock()
	for what, n := range got.count {
		step := strings.HasSuffix(what, " 206") // of an old server, which takes no checkpoints
		if !strings.HasSuffix(what, " 200") && !step || strings.HasPrefix(what, "unsigned") {
			t.Errorf("%d calls were %q, want all signed and answered 200: %v", n, what, got.count)
		}
	}
}
