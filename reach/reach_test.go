package reach_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"clerksync/internal/testenv"
	"clerksync/reach"
)

// TestExplain: what stands at the other end is told apart, by real sockets, and nothing of the URL is said.
func TestExplain(t *testing.T) {
	t.Parallel()
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	secure.StartTLS()
	t.Cleanup(secure.Close)
	demanding := httptest.NewUnstartedServer(http.NotFoundHandler())
	demanding.Config.ErrorLog = secure.Config.ErrorLog
	demanding.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert, MaxVersion: tls.VersionTLS12}
	demanding.StartTLS()
	t.Cleanup(demanding.Close)
	_, securePort, _ := net.SplitHostPort(secure.Listener.Addr().String())
	pool := x509.NewCertPool()
	pool.AddCert(secure.Certificate())
	trusting := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	late := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{
		RootCAs: pool, Time: func() time.Time { return time.Now().AddDate(200, 0, 0) },
	}}}
	const refused = "nothing listens on that port of the host (connection refused): check"
	const noTLS = "what answers there does not speak TLS"
	const noHTTP, silent = "what answers there does not speak HTTP", "no answer in time: check the host"
	silence := testenv.Says(t, "")
	mailServer := testenv.Says(t, "220 hunter2\r\n")
	wanting := x509.NewCertPool()
	wanting.AddCert(demanding.Certificate())
	for name, tc := range map[string]struct {
		client    *http.Client
		url, want string
	}{
		"nobody there":            {url: "http://127.0.0.1:1/hunter2", want: refused},
		"nobody there, over TLS":  {url: "https://127.0.0.1:1/hunter2", want: refused},
		"no such host":            {url: "http://hunter2.invalid/", want: "the host name "},
		"silence":                 {url: "http://" + silence + "/hunter2", want: silent},
		"silence, over TLS":       {url: "https://" + silence + "/hunter2", want: silent},
		"a mail server":           {url: "http://" + mailServer, want: noHTTP},
		"a mail server, over TLS": {url: "https://" + mailServer, want: noTLS},
		"a server without TLS":    {url: "https://" + testenv.Says(t, "HTTP/1.1 400 hunter2\r\n\r\n"), want: noTLS},
		"one byte":                {url: "http://" + testenv.Says(t, "\x00"), want: noHTTP},
		"a certificate of nobody's": {
			url: secure.URL + "/hunter2", want: "its certificate is not trusted",
		},
		"another host's": {
			client: trusting, url: "https://localhost:" + securePort, want: "its certificate is made out to other",
		},
		"an old certificate": {client: late, url: secure.URL, want: "its certificate has expired, or the clock"},
		"a client's certificate is wanted": {
			client: &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: wanting}}},
			url:    demanding.URL, want: "the server refuses the TLS connection",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			patience := time.Minute
			if strings.HasPrefix(name, "silence") {
				patience = 100 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, tc.url, nil)
			if err != nil {
				t.Fatal(err)
			}
			client := tc.client
			if client == nil {
				client = &http.Client{}
			}
			res, err := client.Do(req)
			if err == nil {
				_ = res.Body.Close()
				t.Fatal("it answers")
			}
			got := reach.Explain(err)
			if !strings.HasPrefix(got.Error(), tc.want) || strings.Contains(got.Error(), "hunter2") {
				t.Errorf("got %q, want %q; it was %v", got, tc.want, err)
			}
		})
	}
}

// TestExplainOthers: what is no error of the network stays as it is.
func TestExplainOthers(t *testing.T) {
	t.Parallel()
	other := errors.New("other")
	for name, err := range map[string]error{"none": nil, "of another kind": other, "cancelled": context.Canceled} {
		if got := reach.Explain(err); !errors.Is(got, err) || errors.Is(err, other) && got.Error() != "other" {
			t.Errorf("%s: got %v", name, got)
		}
		if got := reach.Why(err); got != "" {
			t.Errorf("%s: got %q", name, got)
		}
	}
}
