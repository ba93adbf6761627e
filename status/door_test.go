package status

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"clerksync/activity"
	"clerksync/history"
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
	log := slog.New(slog.DiscardHandler)
	o := Options{
		Token: token, DB: db, Users: store.NewUsers(db, mapping.Default()), Log: log,
		History:  history.New(db, time.Hour, log),
		Activity: activity.New(database.NewCheckpoints(db), log, prometheus.NewRegistry()),
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

// answer is what a request got, besides the body.
type answer struct {
	StatusCode int
	Header     http.Header
}

// Cookies returns the cookies that the answer sets.
func (a answer) Cookies() []*http.Cookie { return (&http.Response{Header: a.Header}).Cookies() }

// do returns the answer to a request, and its body.
func do(p *Page, r *http.Request) (answer, string) {
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	return answer{w.Code, w.Header()}, w.Body.String()
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
	header := func(r *http.Request, name, value string) *http.Request {
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
		"nothing":   {closed, get("/status"), 401},
		"the token": {closed, bearer(get("/status"), token), 200},
		"the token from elsewhere": {
			closed, from(at(bearer(get("/status"), token), "app.example"), "9.9.9.9:1"), 200,
		},
		"another token":                 {closed, bearer(get("/status"), token+"x"), 401},
		"a part of the token":           {closed, bearer(get("/status"), token[:16]), 401},
		"an empty token":                {closed, bearer(get("/status"), ""), 401},
		"the token as another scheme":   {closed, header(get("/status"), "Authorization", "Basic "+token), 401},
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
		"dev, a tunnel: X-Forwarded":    {open, header(get("/status"), "X-Forwarded-For", "127.0.0.1"), 403},
		"dev, a tunnel: its host":       {open, header(get("/status"), "X-Forwarded-Host", "x.ngrok.app"), 403},
		"dev, a tunnel: empty":          {open, header(get("/status"), "X-Forwarded-For", ""), 403},
		"dev, a tunnel: Forwarded":      {open, header(get("/status"), "Forwarded", "for=127.0.0.1"), 403},
		"dev, a tunnel: Cloudflare":     {open, header(get("/status"), "Cf-Connecting-Ip", "127.0.0.1"), 403},
		"dev, a tunnel: Cf-Ray":         {open, header(get("/status"), "CF-RAY", "1"), 403},
		"dev, a proxy: Via":             {open, header(get("/status"), "Via", "1.1 x"), 403},
		"dev, a proxy: X-Real-Ip":       {open, header(get("/status"), "X-Real-Ip", "127.0.0.1"), 403},
		"dev, a tunnel: Ngrok":          {open, header(get("/status"), "Ngrok-Skip-Browser-Warning", "1"), 403},
		"dev, a tunnel: its button":     {open, header(post("/status/dev", "do", "storm"), "Cf-Ray", "1"), 403},
		"dev, a tunnel: its events":     {open, header(get("/status/events"), "Cf-Ray", "1"), 403},
		"dev, a tunnel: its look-up":    {open, header(post("/status/user", "q", "a"), "Cf-Ray", "1"), 403},
		"dev, a token is of no use":     {open, bearer(at(get("/status"), "evil.example"), token), 403},
		"dev, an empty token":           {open, bearer(at(get("/status"), "evil.example"), ""), 403},
		"dev, and a token, by tunnel":   {both, header(bearer(get("/status"), token), "Cf-Ray", "1"), 200},
		"dev, no token, by tunnel":      {both, header(get("/status"), "Cf-Ray", "1"), 401},
		"dev, and a wrong token, local": {both, bearer(get("/status"), "x"), 200},
	} {
		if res, body := do(tc.page, tc.req); res.StatusCode != tc.code {
			t.Errorf("%s: got %d, want %d: %.300s", name, res.StatusCode, tc.code, body)
		}
	}
}

// cookie returns the session that an answer gives, or nil.
func cookie(res answer) *http.Cookie {
	for _, c := range res.Cookies() {
		if c.Name == cookieName {
			return c
		}
	}
	return nil
}

// with adds a session to a request.
func with(r *http.Request, value string) *http.Request {
	r.AddCookie(&http.Cookie{Name: cookieName, Value: value})
	return r
}

// TestSession: whoever logs in has a session at every replica for twelve hours, and nobody can make or lengthen one.
func TestSession(t *testing.T) {
	t.Parallel()
	p := newPage(t, nil)
	now := time.Now()
	p.door.now = func() time.Time { return now }
	res, _ := do(p, post("/status/login", "token", token))
	c := cookie(res)
	if res.StatusCode != http.StatusSeeOther || res.Header.Get("Location") != Path || c == nil {
		t.Fatalf("logged in: got %d, %v", res.StatusCode, res.Header)
	}
	if !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Secure || c.Path != Path || c.MaxAge != 12*60*60 ||
		strings.Contains(c.Value, token) {
		t.Errorf("got the cookie %+v", c)
	}
	replica, other := newPage(t, nil), newPage(t, func(o *Options) { o.Token = token + "2" })
	none := newPage(t, func(o *Options) { o.Token, o.Open = "", true })
	until, mac, _ := strings.Cut(c.Value, ".")
	for name, tc := range map[string]struct {
		page  *Page
		value string
		after time.Duration
		code  int
	}{
		"here":                  {p, c.Value, 0, 200},
		"a replica":             {replica, c.Value, 0, 200},
		"another token":         {other, c.Value, 0, 401},
		"just before its end":   {p, c.Value, sessionTime - time.Second, 200},
		"at its end":            {p, c.Value, sessionTime, 401},
		"a later end":           {p, until + "0." + mac, 0, 401},
		"a plus sign":           {p, "+" + c.Value, 0, 200}, // it means the same
		"no signature":          {p, until, 0, 401},
		"an empty signature":    {p, until + ".", 0, 401},
		"a part of it":          {p, c.Value[:len(c.Value)-1], 0, 401},
		"more than it":          {p, c.Value + "0", 0, 401},
		"in capital letters":    {p, until + "." + strings.ToUpper(mac), 0, 401},
		"no number":             {p, "x." + mac, 0, 401},
		"a number too large":    {p, "99999999999999999999." + mac, 0, 401},
		"nothing":               {p, "", 0, 401},
		"the token itself":      {p, token, 0, 401},
		"signed with nothing":   {p, forged("", now.Add(time.Hour)), 0, 401},
		"where no token is set": {none, forged("", now.Add(time.Hour)), 0, 403},
	} {
		now := now.Add(tc.after)
		tc.page.door.now = func() time.Time { return now }
		r := with(get("/status"), tc.value)
		r.Host, r.RemoteAddr = "app.example", "9.9.9.9:1"
		if res, body := do(tc.page, r); res.StatusCode != tc.code {
			t.Errorf("%s: got %d, want %d: %.200s", name, res.StatusCode, tc.code, body)
		}
	}
	res, _ = do(p, with(post("/status/logout"), c.Value))
	if c := cookie(res); res.StatusCode != http.StatusSeeOther || c == nil || c.MaxAge >= 0 || c.Path != Path {
		t.Errorf("logged out: got %d, %+v", res.StatusCode, c)
	}
	for name, set := range map[string]func(*http.Request){
		"by name":        func(r *http.Request) { r.Host = "app.example" },
		"by a proxy":     func(r *http.Request) { r.Header.Set("X-Forwarded-Proto", "https") },
		"by an address":  func(r *http.Request) { r.Host = "192.168.1.7:3000" },
		"without a name": func(r *http.Request) { r.Host = "" },
	} {
		r := post("/status/login", "token", token)
		if set(r); r.Host != "127.0.0.1:3000" {
			r.Header.Set("Origin", "https://"+r.Host)
		}
		if res, _ := do(newPage(t, nil), r); cookie(res) == nil || !cookie(res).Secure {
			t.Errorf("%s: got %d and the cookie %+v, want a secure one", name, res.StatusCode, cookie(res))
		}
	}
}

// forged returns a session that is signed with a token.
func forged(token string, until time.Time) string {
	d := newDoor(token, false, time.Now)
	return strconv.FormatInt(until.Unix(), 10) + "." + d.sign(until.Unix())
}

// TestGuessing: after ten wrong tokens an address waits, also with the right one, but not for long, and nobody else
// does. A session goes on.
func TestGuessing(t *testing.T) {
	t.Parallel()
	p := newPage(t, nil)
	now := time.Now()
	p.door.now = func() time.Time { return now }
	from := func(r *http.Request, addr string) *http.Request {
		r.RemoteAddr = addr
		return r
	}
	logIn := func(token, addr string) answer {
		res, _ := do(p, from(post("/status/login", "token", token), addr))
		return res
	}
	// another returns an address that does not happen to share the limit of the one that guesses.
	another := func(format string) string {
		for i := 1; ; i++ {
			addr := fmt.Sprintf(format, i)
			if p.door.limit(from(get(Path), addr)) != p.door.limit(from(get(Path), "[2001:db8::1]:1")) {
				return addr
			}
		}
	}
	session := cookie(logIn(token, "[2001:db8::1]:1"))
	for i := range guesses {
		if res := logIn("wrong", "[2001:db8::1]:1"); res.StatusCode != http.StatusUnauthorized {
			t.Fatalf("guess %d: got %d", i, res.StatusCode)
		}
	}
	for name, tc := range map[string]struct {
		res  answer
		code int
	}{
		"one more":              {logIn("wrong", "[2001:db8::1]:1"), 429},
		"the right one":         {logIn(token, "[2001:db8::1]:2"), 429},
		"its neighbour":         {logIn(token, "[2001:db8::ffff:2]:2"), 429},
		"another network, 6":    {logIn(token, another("[2001:db8:0:%x::1]:2")), 303},
		"another machine, IPv4": {logIn(token, another("192.0.2.%d:2")), 303},
	} {
		if tc.res.StatusCode != tc.code {
			t.Errorf("%s: got %d, want %d", name, tc.res.StatusCode, tc.code)
		}
		if tc.code == 429 && (tc.res.Header.Get("Retry-After") == "" || cookie(tc.res) != nil) {
			t.Errorf("%s: got %v", name, tc.res.Header)
		}
	}
	if res, _ := do(p, from(bearer(get("/status"), token), "[2001:db8::1]:1")); res.StatusCode != 429 {
		t.Errorf("a bearer token is another way to guess: got %d", res.StatusCode)
	}
	if res, _ := do(p, from(with(get("/status"), session.Value), "[2001:db8::1]:1")); res.StatusCode != 200 {
		t.Errorf("the session: got %d", res.StatusCode)
	}
	now = now.Add(guessEvery)
	if res := logIn(token, "[2001:db8::1]:1"); res.StatusCode != http.StatusSeeOther {
		t.Errorf("%s later: got %d", guessEvery, res.StatusCode)
	}
}

// TestOtherPages: what another page has the browser post is refused, at each address that takes a form, and so is a
// form that is too large. Nothing is done by GET.
func TestOtherPages(t *testing.T) {
	t.Parallel()
	played := 0
	p := newPage(t, func(o *Options) {
		o.Open = true
		o.Play = func(context.Context, string) error { played++; return nil }
	})
	routes := map[string][]string{
		"/status/login": {"token", token}, "/status/logout": nil, "/status/user": {"q", "ada"},
		"/status/deadletters": {"id", "msg_1", "do", "drop"}, "/status/dev": {"do", "sign-up"},
	}
	for path, fields := range routes {
		for name, headers := range map[string]map[string]string{
			"another site":                  {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"},
			"another port of this machine":  {"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:5173"},
			"an old browser":                {"Sec-Fetch-Site": "", "Origin": "https://evil.example"},
			"an old browser, another port":  {"Sec-Fetch-Site": "", "Origin": "http://127.0.0.1:5173"},
			"a frame without an origin":     {"Sec-Fetch-Site": "", "Origin": "null"},
			"the same with a known session": {"Sec-Fetch-Site": "cross-site", "Authorization": "Bearer " + token},
		} {
			r := post(path, fields...)
			for name, value := range headers {
				if r.Header.Del(name); value != "" {
					r.Header.Set(name, value)
				}
			}
			if res, _ := do(p, r); res.StatusCode != http.StatusForbidden || len(res.Cookies()) > 0 {
				t.Errorf("%s, %s: got %d, %v", path, name, res.StatusCode, res.Cookies())
			}
		}
		if res, _ := do(p, get(path)); res.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("GET %s: got %d", path, res.StatusCode)
		}
		large := post(path, "q", strings.Repeat("x", maxForm), "do", "drop", "token", token)
		if res, _ := do(p, large); path != "/status/logout" && res.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("%s with a large form: got %d", path, res.StatusCode)
		}
	}
	if played != 0 {
		t.Errorf("%d buttons were pressed", played)
	}
}

// TestHeaders: every answer, whatever it is, tells the browser to keep other pages and other scripts away.
func TestHeaders(t *testing.T) {
	t.Parallel()
	p := newPage(t, nil)
	for _, r := range []*http.Request{
		get("/status"), bearer(get("/status"), token), get("/status/page.js"), get("/status/nothing"),
		post("/status/login", "token", "wrong"), post("/status/login", "token", token), get("/status/login"),
	} {
		res, _ := do(p, r)
		h := res.Header
		for name, want := range map[string]string{
			"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Referrer-Policy": "same-origin",
			"Content-Security-Policy": "frame-ancestors 'none'",
		} {
			if !strings.Contains(h.Get(name), want) {
				t.Errorf("%s %s: %s is %q", r.Method, r.URL, name, h.Get(name))
			}
		}
		if policy := h.Get("Content-Security-Policy"); !strings.HasPrefix(policy, "default-src 'none';") ||
			strings.Contains(policy, "unsafe") {
			t.Errorf("%s %s: the policy is %s", r.Method, r.URL, policy)
		}
	}
	for _, name := range []string{"page.html", "style.css", "page.js"} {
		b, err := files.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, bad := range []string{"style=", " on", "<style", "innerHTML", "http://", "https://", "eval("} {
			for line := range strings.Lines(string(b)) {
				if i := strings.Index(line, bad); i >= 0 && (bad != " on" || strings.Contains(line[i:], "=\"")) {
					t.Errorf("%s: the policy forbids %q, or it should: %s", name, bad, line)
				}
			}
		}
	}
}

// TestIsToken: no token is the wanted one where none is wanted.
func TestIsToken(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		token, wanted string
		want          bool
	}{
		{"", "", false}, {"a", "", false}, {"", "a", false}, {"ab", "a", false}, {"a", "ab", false}, {"a", "a", true},
	} {
		if got := IsToken(tc.token, tc.wanted); got != tc.want {
			t.Errorf("IsToken(%q, %q): got %v", tc.token, tc.wanted, got)
		}
	}
}
