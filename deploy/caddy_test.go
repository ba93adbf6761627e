package deploy_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"clerksync/internal/child"
	"clerksync/internal/testenv"
	"clerksync/internal/testenv/program"
)

// TestCaddy: from outside Caddy passes on POST /webhooks/clerk and nothing else, and where Inngest calls it, Inngest's
// calls and nothing else, all as they came. The page at /status is there once its comment is removed.
func TestCaddy(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it runs Caddy")
	}
	file := read(t, "Caddyfile")
	comment := regexp.MustCompile(`(?m)^\t# (@status|handle @status|\t?reverse_proxy|\t*import replicas|\t*})`)
	if n := len(comment.FindAllString(file, -1)); n != 6 {
		t.Fatalf("found %d lines of the comment about /status, want 6", n)
	}
	withStatus := comment.ReplaceAllString(file, "\t$1")
	type request struct{ method, path string }
	tests := map[string]struct {
		file    string
		inside  bool // Inngest's way
		passed  []request
		refused []request
	}{
		"from outside": {
			file:   file,
			passed: []request{{"POST", "/webhooks/clerk"}},
			refused: []request{
				{"GET", "/webhooks/clerk"},
				{"HEAD", "/webhooks/clerk"},
				{"PUT", "/webhooks/clerk"},
				{"DELETE", "/webhooks/clerk"},
				{"OPTIONS", "/webhooks/clerk"},
				{"post", "/webhooks/clerk"},
				{"POST", "/webhooks/clerk/"},
				{"POST", "/webhooks/clerk/x"},
				{"POST", "/Webhooks/Clerk"},
				{"POST", "/webhooks//clerk"},
				{"POST", "//webhooks/clerk"},
				{"POST", "/webhooks/clerk."},
				{"POST", "/webhooks%2Fclerk"},
				{"POST", "/webhooks/%63lerk"},
				{"POST", "/x/../webhooks/clerk"},
				{"POST", "/webhooks/clerk?x=1"},
				{"POST", "/webhooks/clerk?"},
				{"POST", "/webhooks/clerk;x"},
				{"POST", "/"},
				{"GET", "/"},
				{"POST", "/api/inngest"},
				{"PUT", "/api/inngest"},
				{"GET", "/api/inngest"},
				{"GET", "/healthz"},
				{"GET", "/readyz"},
				{"GET", "/metrics"},
				{"GET", "/status"},
				{"GET", "/status/x"},
				{"POST", "/users/user_1/ensure"},
				{"GET", "/health"},
				{"GET", "/webhooks/clerk/../../status"},
			},
		},
		"with the status page": {
			file: withStatus,
			passed: []request{
				{"POST", "/webhooks/clerk"}, {"GET", "/status"}, {"GET", "/status/user?id=1"}, {"POST", "/status/x"},
			},
			refused: []request{
				{"GET", "/statusx"}, {"GET", "/metrics"}, {"GET", "/webhooks/clerk"}, {"PUT", "/api/inngest"},
			},
		},
		"from Inngest": {
			file: file, inside: true,
			passed: []request{
				{"POST", "/api/inngest?fnId=x&stepId=step"}, {"PUT", "/api/inngest"}, {"GET", "/api/inngest"},
			},
			refused: []request{
				{"POST", "/webhooks/clerk"}, {"GET", "/status"}, {"GET", "/metrics"}, {"POST", "/api/inngest/x"},
			},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newReplica(t)
			outside, inside := startCaddy(t, tt.file, r.addr)
			addr := outside
			if tt.inside {
				addr = inside
			}
			for _, q := range tt.passed {
				status, got := send(t, addr, q.method, q.path), r.last()
				if status != 200 || got != q.method+" "+q.path+" body" {
					t.Errorf("%s %s: got %d, and the replica got %q", q.method, q.path, status, got)
				}
			}
			for _, q := range tt.refused {
				status, got := send(t, addr, q.method, q.path), r.last()
				if status == 200 || status >= 500 || got != "" {
					t.Errorf("%s %s: got %d, and the replica got %q, want 404 and nothing",
						q.method, q.path, status, got)
				}
			}
		})
	}
}

// TestCaddyReplicaDies: both replicas get webhooks, and when one dies, the other gets all of them as soon as Caddy has
// noticed. Caddy 2.11, which the production file has, refuses none meanwhile.
func TestCaddyReplicaDies(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it runs Caddy")
	}
	first, second := newReplica(t), newReplica(t)
	outside, _ := startCaddy(t, read(t, "Caddyfile"), first.addr, second.addr)
	seen := map[*replica]int{}
	for range 40 {
		if status := send(t, outside, "POST", "/webhooks/clerk"); status != 200 {
			t.Fatalf("got %d while both replicas are there", status)
		}
		for _, r := range []*replica{first, second} {
			if r.last() != "" {
				seen[r]++
			}
		}
	}
	if seen[first] == 0 || seen[second] == 0 {
		t.Errorf("the replicas got %d and %d webhooks, want some each", seen[first], seen[second])
	}
	first.server.Close()
	refused, inARow := 0, 0
	for start := time.Now(); inARow < 40; {
		if status := send(t, outside, "POST", "/webhooks/clerk"); status == 200 {
			inARow++
			continue
		}
		refused++
		inARow = 0
		if time.Since(start) > time.Minute {
			t.Fatal("a minute after a replica died webhooks are still refused")
		}
	}
	version, err := exec.CommandContext(t.Context(), program.Find(t, program.Caddy()), "version").Output()
	if err != nil {
		t.Fatal(err)
	}
	if old := regexp.MustCompile(`^v?2\.(\d|10)\.`).Match(version); refused > 0 && !old {
		t.Errorf("Caddy %s refused %d webhooks when a replica died", version, refused)
	}
}

// TestCaddyHTTPS: with a name as its address, as in production, Caddy takes webhooks by HTTPS, and nothing listens
// where http:// is: a webhook to that would get a redirect, or an answer of Caddy's own, and be lost.
func TestCaddyHTTPS(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it runs Caddy")
	}
	r := newReplica(t)
	plain, secure, inside := freeAddr(t), freeAddr(t), freeAddr(t)
	runCaddy(t, read(t, "Caddyfile"), secure, inside,
		"SITE_ADDRESS=hooks.example.com", "CALLS_ADDRESS=http://:"+port(inside), "CLERKSYNC_REPLICAS="+r.addr,
		"CADDY_GLOBAL_OPTIONS=default_bind 127.0.0.1\nlocal_certs\nskip_install_trust\n"+
			"http_port "+port(plain)+"\nhttps_port "+port(secure))
	client := &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", secure)
		},
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // the certificate is of Caddy's own
	}}
	t.Cleanup(client.CloseIdleConnections)
	for start := time.Now(); ; { // until Caddy has made the certificate
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://hooks.example.com/webhooks/clerk",
			strings.NewReader("body"))
		if err != nil {
			t.Fatal(err)
		}
		res, err := client.Do(req)
		if err == nil {
			_ = res.Body.Close()
			if got := r.last(); res.StatusCode != 200 || got != "POST /webhooks/clerk body" {
				t.Errorf("got %d, and the replica got %q", res.StatusCode, got)
			}
			break
		}
		if time.Since(start) > time.Minute {
			t.Fatal(err)
		}
	}
	if conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", plain); err == nil {
		_ = conn.Close()
		t.Error("Caddy listens on the port for http://")
	}
}

// replica answers 200 to everything, as clerksync's /healthz does, and remembers what it was asked besides.
type replica struct {
	addr   string
	server *httptest.Server
	mu     sync.Mutex
	got    string
}

func newReplica(t *testing.T) *replica {
	t.Helper()
	r := &replica{}
	r.server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) {
		body, _ := io.ReadAll(q.Body)
		if q.RequestURI != "/healthz" {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.got = fmt.Sprintf("%s %s %s", q.Method, q.RequestURI, body)
			if !q.Close {
				r.got += ", on a connection that is kept: the next request on it is lost if the replica just ends"
			}
		}
	}))
	t.Cleanup(r.server.Close)
	r.addr = strings.TrimPrefix(r.server.URL, "http://")
	return r
}

// last returns the last request since the last call, or "".
func (r *replica) last() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	got := r.got
	r.got = ""
	return got
}

// startCaddy starts Caddy with a Caddyfile in front of replicas, and returns its addresses for Clerk and for Inngest.
func startCaddy(t *testing.T, file string, replicas ...string) (outside, inside string) {
	t.Helper()
	outside, inside = freeAddr(t), freeAddr(t)
	runCaddy(t, file, outside, inside, "SITE_ADDRESS=http://:"+port(outside), "CALLS_ADDRESS=http://:"+port(inside),
		"CADDY_GLOBAL_OPTIONS=default_bind 127.0.0.1", "CLERKSYNC_REPLICAS="+strings.Join(replicas, " "))
	return outside, inside
}

// runCaddy runs Caddy with a Caddyfile until the test ends, and returns when it listens at both addresses. It comes to
// one after the other.
func runCaddy(t *testing.T, file, outside, inside string, env ...string) {
	t.Helper()
	caddy := program.Find(t, program.Caddy())
	dir := t.TempDir()
	path := filepath.Join(dir, "Caddyfile")
	if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(caddy, "run", "--config", path, "--adapter", "caddyfile")
	cmd.Env = append(env, "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	p, err := child.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.Stop()
		if t.Failed() {
			t.Logf("Caddy: %s", log.String())
		}
	})
	for _, addr := range []string{outside, inside} {
		for ctx := t.Context(); ; {
			if conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr); err == nil {
				_ = conn.Close()
				break
			}
			select {
			case <-p.Done():
				t.Fatalf("Caddy ended: %s\n%s", p.State(), log.String())
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	if status := send(t, inside, "GET", "/health"); status != 200 {
		t.Fatalf("/health, by which the production file asks whether Caddy is there: got %d", status)
	}
}

func port(addr string) string { return addr[strings.LastIndex(addr, ":")+1:] }

// send sends a request with a body and returns the status. It writes the path as it is: http.Client would clean it.
func send(t *testing.T, addr, method, path string) int {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	const body = "body"
	if _, err := fmt.Fprintf(conn,
		"%s %s HTTP/1.1\r\nHost: any.example\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s",
		method, path, len(body), body); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(conn)
	var status int
	if _, scan := fmt.Sscanf(string(got), "HTTP/1.1 %d", &status); scan != nil {
		t.Fatalf("%s %s: %v %q", method, path, err, got)
	}
	return status
}

// freeAddr returns an address of this machine that nothing listens on.
func freeAddr(t *testing.T) string {
	t.Helper()
	return fmt.Sprint("127.0.0.1:", testenv.FreePort(t))
}
