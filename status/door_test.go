package status

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"clerksync/activity"
	"clerksync/inngest"
	"clerksync/internal/testenv"
	"clerksync/store"
	"clerksync/store/database"
	"clerksync/store/mapping"

	"github.com/prometheus/client_golang/prometheus"
)

const token = "a-token-of-many-characters"

// newPage returns a page on a database in memory, whose Inngest answers.
func newPage(t *testing.T, set func(*Options)) *Page {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(server.Close)
	return pageOn(t, testenv.NewMemory().Connect(t, "test", nil, nil), func(o *Options) {
		o.Inngest = inngest.Server{URL: server.URL, Dev: true}
		if set != nil {
			set(o)
		}
	})
}

func pageOn(t *testing.T, db *database.DB, set func(*Options)) *Page {
	t.Helper()
	o := Options{
		Token: token, DB: db, Users: store.NewUsers(db, mapping.Default()), Log: slog.New(slog.DiscardHandler),
		Activity: activity.New(database.NewCheckpoints(db), slog.New(slog.DiscardHandler), prometheus.NewRegistry()),
		Inngest:  inngest.Server{URL: "http://127.0.0.1:1"},
	}
	set(&o)
	p, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// get returns a request as a browser on this machine makes it.
func get(path string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "http://127.0.0.1:3000"+path, nil)
	r.RemoteAddr = "127.0.0.1:50000"
	return r
}

// post returns a request as the browser makes it for a form of the page. fields are names and values.
func post(path string, fields ...string) *http.Request {
	form := url.Values{}
	for i := 0; i < len(fields); i += 2 {
		form.Set(fields[i], fields[i+1])
	}
	r := httptest.NewRequest(http.MethodPost, "http://127.0.0.1:3000"+path, strings.NewReader(form.Encode()))
	r.RemoteAddr = "127.0.0.1:50000"
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	r.Header.Set("Origin", "http://127.0.0.1:3000")
	return r
}

// bearer adds the token to a request.
func bearer(r *http.Request, token string) *http.Request {
	r.Header.Set("Authorization", "Bearer "+token)
	return r
}

// do returns the answer to a request, and its body.
func do(p *Page, r *http.Request) (*http.Response, string) {
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	res := w.Result()
	body, _ := io.ReadAll(res.Body)
	return res, string(body)
}

// TestWhoGetsIn: the token opens the page, and in development a browser on this machine needs none. Nothing that may
// come from elsewhere is taken for that browser.
func TestWhoGetsIn(t *testing.T) {
	t.Parallel()
	closed := newPage(t, nil)
	open := newPage(t, func(o *Options) {
		o.Open, o.Token = true, ""
		o.Play = func(context.Context, string) error { t.Error("somebody else has played"); return nil }
	})
	both := newPage(t, func(o *Options) { o.Open = true })
	with := func(r *http.Request, name, value string) *http.Request {
		r.Header.Set(name, value)
		return r
	}
	at := func(r *http.Request, host string) *http.Request {
		r.Host = host
		return r
	}
	from := func(r *http.Request, addr string) *http.Request {
		r.RemoteAddr = addr
		return r
	}
	for name, tc := range map[string]struct {
		page *Page
		req  *http.Request
		code int
	}{
		"nothing":                       {closed, get("/status"), 401},
		"the token":                     {closed, bearer(get("/status"), token), 200},
		"the token from elsewhere":      {closed, from(at(bearer(get("/status"), token), "app.example"), "9.9.9.9:1"), 200},
		"another token":                 {closed, bearer(get("/status"), token+"x"), 401},
		"a part of the token":           {closed, bearer(get("/status"), token[:16]), 401},
		"an empty token":                {closed, bearer(get("/status"), ""), 401},
		"the token as another scheme":   {closed, with(get("/status"), "Authorization", "Basic "+token), 401},
		"look-up without the token":     {closed, post("/status/user", "q", "ada"), 401},
		"replay without the token":      {closed, post("/status/deadletters", "id", "msg_1", "do", "replay"), 401},
		"watching without the token":    {closed, get("/status/events"), 401},
		"the buttons, which are dev's":  {closed, bearer(post("/status/dev", "do", "storm"), token), 404},
		"the style":                     {closed, get("/status/style.css"), 200},
		"a page that is not there":      {closed, bearer(get("/status/x"), token), 404},
		"files of the package":          {closed, bearer(get("/status/door.go"), token), 404},
		"dev":                           {open, get("/status"), 200},
		"dev as localhost":              {open, at(get("/status"), "localhost:3000"), 200},
		"dev as LOCALHOST":              {open, at(get("/status"), "LOCALHOST"), 200},
		"dev by IPv6":                   {open, from(at(get("/status"), "[::1]:3000"), "[::1]:5"), 200},
		"dev by IPv4 in IPv6":           {open, from(get("/status"), "[::ffff:127.0.0.1]:5"), 200},
		"dev, a name pointed here":      {open, at(get("/status"), "evil.example:3000"), 403},
		"dev, a name like it":           {open, at(get("/status"), "localhost.evil.example"), 403},
		"dev, an address like it":       {open, at(get("/status"), "127.0.0.1.evil.example:3000"), 403},
		"dev, no name":                  {open, at(get("/status"), ""), 403},
		"dev, another machine":          {open, from(get("/status"), "192.168.1.7:50000"), 403},
		"dev, an address that is none":  {open, from(get("/status"), "@"), 403},
		"dev, a tunnel: X-Forwarded":    {open, with(get("/status"), "X-Forwarded-For", "127.0.0.1"), 403},
		"dev, a tunnel: its host":       {open, with(get("/status"), "X-Forwarded-Host", "x.ngrok.app"), 403},
		"dev, a tunnel: empty":          {open, with(get("/status"), "X-Forwarded-For", ""), 403},
		"dev, a tunnel: Forwarded":      {open, with(get("/status"), "Forwarded", "for=127.0.0.1"), 403},
		"dev, a tunnel: Cloudflare":     {open, with(get("/status"), "Cf-Connecting-Ip", "127.0.0.1"), 403},
		"dev, a tunnel: Cf-Ray":         {open, with(get("/status"), "CF-RAY", "1"), 403},
		"dev, a proxy: Via":             {open, with(get("/status"), "Via", "1.1 x"), 403},
		"dev, a proxy: X-Real-Ip":       {open, with(get("/status"), "X-Real-Ip", "127.0.0.1"), 403},
		"dev, a tunnel: Ngrok":          {open, with(get("/status"), "Ngrok-Skip-Browser-Warning", "1"), 403},
		"dev, a tunnel: its button":     {open, with(post("/status/dev", "do", "storm"), "X-Forwarded-For", "1"), 403},
		"dev, a tunnel: its events":     {open, with(get("/status/events"), "Cf-Ray", "1"), 403},
		"dev, a tunnel: its look-up":    {open, with(post("/status/user", "q", "a"), "Cf-Ray", "1"), 403},
		"dev, a token is of no use":     {open, bearer(at(get("/status"), "evil.example"), token), 403},
		"dev, an empty token":           {open, bearer(at(get("/status"), "evil.example"), ""), 403},
		"dev, and a token, by tunnel":   {both, with(bearer(get("/status"), token), "Cf-Ray", "1"), 200},
		"dev, no token, by tunnel":      {both, with(get("/status"), "Cf-Ray", "1"), 401},
		"dev, and a wrong token, local": {both, bearer(get("/status"), "x"), 200},
	} {
		if res, body := do(tc.page, tc.req); res.StatusCode != tc.code {
			t.Errorf("%s: got %d, want %d: %.300s", name, res.StatusCode, tc.code, body)
		}
	}
}
