package doctor

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"clerksync/config"
	"clerksync/inbox"
	"clerksync/internal/testenv"
	"clerksync/webhook"

	"github.com/prometheus/client_golang/prometheus"
)

const otherSecret = "whsec_Y2xlcmtzeW5jIHRlc3Qgc2VjcmV0IDI="

// checkURL returns what the doctor says of a URL, with these signing secrets.
func checkURL(t *testing.T, to, secrets string) string {
	t.Helper()
	var out strings.Builder
	d := &doctor{found: printTo(&out), Options: Options{URL: to, Config: config.Config{SigningSecrets: secrets}}}
	d.on("url")(d.url(t.Context(), d.on("url")))
	return out.String()
}

// serve is a server that ends with the test.
func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

// TestURL: whatever stands between Clerk and the service is told apart.
func TestURL(t *testing.T) {
	t.Parallel()
	status := func(code int, location, body string) string {
		return serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", location)
			w.WriteHeader(code)
			_, _ = io.WriteString(w, body)
		})
	}
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	secure.StartTLS()
	t.Cleanup(secure.Close)
	only := func(path string) string { // what a router does that knows one path
		return serve(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != path {
				http.NotFound(w, r)
				return
			}
			http.Error(w, webhook.Unsigned, http.StatusBadRequest)
		})
	}
	ours := only(webhook.Path)
	const fine = "warn  url        the service answers at "
	for name, tc := range map[string]struct{ url, want string }{
		"the service":   {ours, fine + ours + "/webhooks/clerk, but not over TLS"},
		"with a slash":  {ours + "/", fine + ours + "/webhooks/clerk, but not"},
		"the whole URL": {ours + webhook.Path, fine + ours + "/webhooks/clerk, but not"},
		"behind a path": {only("/sync/webhooks/clerk") + "/sync", fine + "http"},
		"with a query":  {ours + webhook.Path + "?key=hunter2", fine + ours + "/webhooks/clerk, but not"},
		"a slash at the end": {
			ours + webhook.Path + "/", "FAIL  url        404: the path ends with a slash, which the service does not " +
				"know: give Clerk the URL without it, " + ours + "/webhooks/clerk\n",
		},
		"the path of another guide": {
			ours + "/api/webhooks", "FAIL  url        404 at " + ours + "/api/webhooks/webhooks/clerk: the service " +
				"is not there: say --url https://HOST, or exactly the URL of the endpoint at Clerk, which must end " +
				"with /webhooks/clerk\n",
		},
		"another case": {ours + "/Webhooks/Clerk", "FAIL  url        404 at " + ours + "/Webhooks/Clerk/web"},
		"a redirect": {
			status(308, "https://www.app.example/webhooks/clerk?x=hunter2", ""),
			"FAIL  url        a redirect (308 to https://www.app.example/webhooks/clerk), which Clerk takes for " +
				"a failure",
		},
		"a redirect to a login": {
			status(302, "https://login.app.example/?x=hunter2", ""), "FAIL  url        a redirect (302 to " +
				"https://login.app.example/), as to a login, which Clerk takes for a failure: let POST " +
				"/webhooks/clerk through",
		},
		"to nowhere": {status(302, "", ""), "FAIL  url        a redirect (302 to nowhere), which Clerk"},
		"a login": {
			status(401, "", ""), "FAIL  url        401: something before the service asks for a login: let POST " +
				"/webhooks/clerk through",
		},
		"a firewall":        {status(403, "", ""), "FAIL  url        403: something before"},
		"another service":   {status(404, "", ""), "FAIL  url        404: the service is not there"},
		"a page":            {status(405, "", ""), "FAIL  url        405: POST is not let through"},
		"a proxy alone":     {status(502, "", ""), "FAIL  url        502: the proxy does not reach the service"},
		"a parking page":    {status(200, "", "<!doctype html>"), "FAIL  url        200 with a web page, which is not"},
		"another one's 200": {status(200, "", "{}"), "FAIL  url        200, which is not the service's answer"},
		"another one's 400": {status(400, "", "bad"), "FAIL  url        400, which is not the service's answer"},
		"a bad certificate": {secure.URL, "FAIL  url        it cannot be reached: its certificate is not trusted"},
		"no TLS": {
			strings.Replace(ours, "http:", "https:", 1), "FAIL  url        it cannot be reached: what answers there " +
				"does not speak TLS",
		},
		"no such host": {
			"https://hunter2.invalid", "FAIL  url        it cannot be reached: the host name",
		},
		"nobody": {
			"https://127.0.0.1:1", "FAIL  url        it cannot be reached: nothing listens on that port",
		},
		"not even a request": {"http://u:hunter2@[::1]:x", "FAIL  url        it cannot be used"},
	} {
		got := checkURL(t, tc.url, "")
		if !strings.HasPrefix(got, tc.want) || strings.Contains(got, "hunter2") {
			t.Errorf("%s: got %q, want %q", name, got, tc.want)
		}
		if n := strings.Count(got, "\n"); n != 1 && tc.want[:4] == "FAIL" {
			t.Errorf("%s: %d findings, want 1", name, n)
		}
	}
}

// TestProbe: a probe proves that the service has the signing secret, and what is wrong instead is told apart. The
// service takes none of it for a webhook.
func TestProbe(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	hook, err := webhook.New(webhook.Options{
		Secrets: []string{testenv.Secret}, SecretsName: "S", Forward: []string{"*"}, InstanceID: "ins_1",
		Seen:       func(time.Time, string) { t.Error("a probe counts as a webhook") },
		Put:        func(context.Context, inbox.Event) error { t.Error("a probe is kept"); return nil },
		Registerer: reg, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	service := serve(t, hook.ServeHTTP)
	target, err := url.Parse(service)
	if err != nil {
		t.Fatal(err)
	}
	// proxied returns the service behind a proxy that changes the request.
	proxied := func(change func(*http.Request)) string {
		p := httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			change(r.Out)
		}}
		return serve(t, p.ServeHTTP)
	}
	const fine = "ok    url        it takes what CLERK_WEBHOOK_SIGNING_SECRET signs\n"
	for name, tc := range map[string]struct{ url, secrets, want string }{
		"the secret": {service, testenv.Secret, fine},
		"another secret": {
			service, otherSecret, "FAIL  url        the service does not take what CLERK_WEBHOOK_SIGNING_SECRET " +
				"signs: it has another signing secret, or",
		},
		"one of two": {
			service, testenv.Secret + "," + otherSecret, "FAIL  url        the service does not take what secret 2 " +
				"in CLERK_WEBHOOK_SIGNING_SECRET signs",
		},
		"no secret": {service, "", "-     url        the signing secret is not tried: set CLERK_WEBHOOK"},
		"a proxy that writes the JSON anew": {
			proxied(func(r *http.Request) {
				var v map[string]any
				if json.NewDecoder(r.Body).Decode(&v) != nil {
					v = nil
				}
				b, _ := json.Marshal(v)
				r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(b)), int64(len(b))
			}), testenv.Secret, "FAIL  url        something before the service changes what is posted, so",
		},
		"a proxy that removes headers": {
			proxied(func(r *http.Request) { r.Header.Del("Svix-Signature") }), testenv.Secret,
			"FAIL  url        something before the service removes the headers svix-id, svix-timestamp and",
		},
		"a firewall that minds the headers": {
			serve(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Svix-Id") != "" {
					w.WriteHeader(http.StatusNotAcceptable)
					return
				}
				hook.ServeHTTP(w, r)
			}), testenv.Secret, "FAIL  url        406 to a signed probe, though",
		},
		"another service with the secret": {
			serve(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Svix-Id") == "" {
					http.Error(w, webhook.Unsigned, http.StatusBadRequest)
				}
			}), testenv.Secret, "FAIL  url        200, which is not the service's answer to a signed probe: another",
		},
		"another clock": {
			serve(t, func(w http.ResponseWriter, r *http.Request) {
				text := webhook.Unsigned
				if r.Header.Get("Svix-Id") != "" {
					text = "message timestamp too old"
				}
				http.Error(w, text, http.StatusBadRequest)
			}), testenv.Secret, "FAIL  url        the clocks of this machine and of the service differ by",
		},
	} {
		_, got, _ := strings.Cut(checkURL(t, tc.url, tc.secrets), "\n") // the first line is of the unsigned webhook
		if !strings.HasPrefix(got, tc.want) || strings.Count(got, "\n") != 1 {
			t.Errorf("%s: got %q, want %q", name, got, tc.want)
		}
		if strings.Contains(got, testenv.Secret) || strings.Contains(got, otherSecret) {
			t.Errorf("%s: it says a secret: %q", name, got)
		}
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "code" && l.GetValue() != "400" {
					t.Errorf("a probe is counted: %v", m)
				}
			}
		}
	}
}
