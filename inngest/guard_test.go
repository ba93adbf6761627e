package inngest

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/inngest/inngestgo"
)

const (
	key      = "signkey-test-0123456789abcdef"
	fallback = "signkey-prod-fedcba9876543210"
	maxBody  = 5 << 20
)

// sign returns the header of a signature over the bytes as they are.
func sign(key string, at time.Time, body string) string {
	_, bare, _ := strings.Cut(strings.TrimPrefix(key, "signkey-"), "-")
	mac := hmac.New(sha256.New, []byte(bare))
	_, _ = fmt.Fprintf(mac, "%s%d", body, at.Unix())
	return fmt.Sprintf("t=%d&s=%s", at.Unix(), hex.EncodeToString(mac.Sum(nil)))
}

// sdk is a handler in the place of the SDK's that keeps what reaches it.
type sdk struct {
	called bool
	body   string
}

func (s *sdk) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	s.called, s.body = true, string(b)
}

func guarded(h http.Handler, s Server) http.Handler {
	return guard(h, s, maxBody, slog.New(slog.DiscardHandler))
}

// nested returns an object of n levels.
func nested(n int) string { return strings.Repeat(`{"a":`, n) + "1" + strings.Repeat("}", n) }

// manyKeys returns an object of n keys, the last first.
func manyKeys(n int) string {
	var b strings.Builder
	for i := range n {
		_, _ = fmt.Fprintf(&b, `,"%06d":0`, n-i)
	}
	return "{" + b.String()[1:] + "}"
}

// TestOnlySignedReachesSDK: the SDK gets what is signed, byte for byte, and nothing else.
func TestOnlySignedReachesSDK(t *testing.T) {
	t.Parallel()
	synctest.Test(t, onlySignedReachesSDK) // where the clock stands still: a busy machine takes longer than 10 s
}

func onlySignedReachesSDK(t *testing.T) {
	now := time.Now()
	type call struct {
		header, body string
		code         int
	}
	signed := func(body string) call { return call{sign(key, now, body), body, 200} }
	large := strings.Repeat(" ", 64<<10)
	for name, tc := range map[string]call{
		"as it is":                           signed(`{"a":1}`),
		"as it is, not canonical":            signed(` { "b":1, "a" : 1.0}`),
		"as it is, over 64 KiB":              signed(`{"a":"` + large + `"}`),
		"as it is, hundreds of levels":       signed(nested(900)),
		"as it is, 20,000 keys":              signed(manyKeys(20_000)),
		"as it is, a lone surrogate":         signed(`{"a":"\ud800"}`),
		"as it is, a key twice":              signed(`{"a":1,"a":2}`),
		"nothing":                            signed(""),
		"fallback key":                       {sign(fallback, now, "{}"), "{}", 200},
		"canonical form":                     {sign(key, now, `{"a":"&","b":1}`), `{"b":1.0, "a":"\u0026"}`, 200},
		"canonical form, fallback key":       {sign(fallback, now, `{"a":"&"}`), `{"a":"\u0026"}`, 200},
		"canonical form, 100 levels":         {sign(key, now, nested(100)), " " + nested(100), 200},
		"as it is, too deep for any decoder": {sign(key, now, nested(10_001)), nested(10_001), 400},
		"as it is, no JSON":                  {sign(key, now, "x"), "x", 400},
		"almost five minutes old":            {sign(key, now.Add(-290*time.Second), "{}"), "{}", 200},
		"almost five minutes ahead":          {sign(key, now.Add(290*time.Second), "{}"), "{}", 200},

		"unsigned":                                {"", "{}", 401},
		"an empty signature":                      {"t=&s=", "{}", 401},
		"no time":                                 {"s=" + strings.Repeat("0", 64), "{}", 401},
		"a time that is no number":                {"t=now&s=" + strings.Repeat("0", 64), "{}", 401},
		"a time beyond all":                       {"t=9223372036854775807&s=" + strings.Repeat("0", 64), "{}", 401},
		"half a signature":                        {sign(key, now, "{}")[:40], "{}", 401},
		"five minutes and a bit old":              {sign(key, now.Add(-302*time.Second), "{}"), "{}", 401},
		"five minutes and a bit ahead":            {sign(key, now.Add(310*time.Second), "{}"), "{}", 401},
		"another body's":                          {sign(key, now, "{}"), `{"a":1}`, 401},
		"another key's":                           {sign("signkey-test-00", now, "{}"), "{}", 401},
		"an empty key's":                          {sign("", now, "{}"), "{}", 401},
		"5 MiB of brackets":                       {sign(key, now, ""), strings.Repeat("[", maxBody), 401},
		"20,000 keys":                             {sign(key, now, ""), manyKeys(20_000), 401},
		"a lone surrogate, signed as empty":       {sign(key, now, ""), `{"a":"\ud800"}`, 401},
		"a lone surrogate, signed as replacement": {sign(key, now, `{"a":"`+"\ufffd"+`"}`), `{"a":"\ud800"}`, 401},
		"a key twice, signed as empty":            {sign(key, now, ""), `{"a":1,"a":2}`, 401},
		"no JSON, signed as empty":                {sign(key, now, ""), "x", 401},
		"white space, signed as empty":            {sign(key, now, ""), " ", 401},
		"canonical form, over 64 KiB":             {sign(key, now, "{}"), "{" + large + "}", 401},
		"canonical form, 101 levels":              {sign(key, now, nested(101)), " " + nested(101), 401},
		"over 5 MiB":                              {sign(key, now, ""), strings.Repeat("x", maxBody+1), 413},
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut} {
			got := &sdk{}
			w := httptest.NewRecorder()
			r := httptest.NewRequestWithContext(t.Context(), method, "/api/inngest", strings.NewReader(tc.body))
			if tc.header != "" {
				r.Header.Set("X-Inngest-Signature", tc.header)
			}
			guarded(got, Server{SigningKey: key, SigningKeyFallback: fallback}).ServeHTTP(w, r)
			if w.Code != tc.code || got.called != (tc.code == 200) || got.called && got.body != tc.body {
				t.Errorf("%s, %s: got %d, the SDK was called: %v; want %d", name, method, w.Code, got.called, tc.code)
			}
		}
	}
}

// TestNoKeysNobody: without a key nothing is signed, whatever it is signed with.
func TestNoKeysNobody(t *testing.T) {
	t.Parallel()
	for name, key := range map[string]string{"none": "", "a prefix alone": "signkey-test-"} {
		got := &sdk{}
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader("{}"))
		r.Header.Set("X-Inngest-Signature", sign("", time.Now(), "{}"))
		guarded(got, Server{SigningKey: key}).ServeHTTP(httptest.NewRecorder(), r)
		if got.called {
			t.Errorf("%s: it is let through", name)
		}
	}
}

// TestDevIsBounded: with a dev server nothing is signed, and what is too deep for a decoder, or too large, is still
// refused.
func TestDevIsBounded(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		body string
		code int
	}{
		"a call":            {`{"a":1}`, 200},
		"nothing":           {"", 200},
		"hundreds":          {nested(900), 200},
		"10,001 levels":     {nested(10_001), 400},
		"5 MiB of brackets": {strings.Repeat("[", maxBody), 400},
		"over 5 MiB":        {strings.Repeat("[", maxBody+1), 413},
	} {
		for _, header := range []string{"", "t=1&s=ff"} {
			got := &sdk{}
			w := httptest.NewRecorder()
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPut, "/", strings.NewReader(tc.body))
			r.Header.Set("X-Inngest-Signature", header)
			guarded(got, Server{Dev: true}).ServeHTTP(w, r)
			if w.Code != tc.code || got.called != (tc.code == 200) {
				t.Errorf("%s: got %d, the SDK was called: %v; want %d", name, w.Code, got.called, tc.code)
			}
		}
	}
}

// TestSDKAgrees: what the SDK signs is let through, and the SDK itself takes what was.
func TestSDKAgrees(t *testing.T) {
	t.Parallel()
	client, err := inngestgo.NewClient(inngestgo.ClientOpts{
		AppID: "app", Dev: new(false), EventKey: new("k"), SigningKey: new(key), SigningKeyFallback: new(fallback),
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	h := guarded(client.Serve(), Server{SigningKey: key, SigningKeyFallback: fallback})
	for name, tc := range map[string]struct {
		method, body string
		code         int
	}{
		"registration":                 {http.MethodPut, `{"url":"https://app.example/?a=1\u0026b=\u003c"}`, 200},
		"inspection":                   {http.MethodGet, "", 200},
		"call of no function":          {http.MethodPost, `{"b":1.0,"a":"é \u2028 😀"}`, 410},
		"call, hundreds of levels":     {http.MethodPost, nested(90), 410},
		"call, ten thousand levels":    {http.MethodPost, `{"event":` + nested(9_990) + "}", 410},
		"call, canonical form changes": {http.MethodPost, `{"n":1e3,"z":-0,"\u00e9":0.10}`, 410},
	} {
		for _, k := range []string{key, fallback} {
			sig, err := inngestgo.Sign(t.Context(), time.Now(), []byte(k), []byte(tc.body))
			if err != nil {
				t.Fatal(err)
			}
			r := httptest.NewRequestWithContext(t.Context(), tc.method, "/api/inngest", strings.NewReader(tc.body))
			r.Header.Set("X-Inngest-Signature", sig)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != tc.code {
				t.Errorf("%s: got %d %s, want %d", name, w.Code, w.Body, tc.code)
			}
		}
	}
}

// worst are the bodies that cost most to refuse.
func worst() map[string]string {
	return map[string]string{
		"brackets":      strings.Repeat("[", maxBody),
		"keys":          manyKeys(maxBody / 12)[:maxBody/12*11],
		"small, keys":   manyKeys((64 << 10) / 12),
		"small, levels": strings.Repeat(`{"a":`, 99) + manyKeys((64<<10)/12-100) + strings.Repeat("}", 99),
		"small, arrays": "[" + strings.Repeat("[],", (64<<10)/3-2) + "[]]",
	}
}

// TestWorstBodyIsOnlyHashed: a large body of a stranger is read and hashed; what canonicalises it would allocate twice
// as much.
func TestWorstBodyIsOnlyHashed(t *testing.T) { // not parallel: it counts all that is allocated
	h := guarded(&sdk{}, Server{SigningKey: key, SigningKeyFallback: fallback})
	for name, body := range worst() {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(body))
		r.Header.Set("X-Inngest-Signature", sign(key, time.Now(), ""))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		h.ServeHTTP(httptest.NewRecorder(), r)
		runtime.ReadMemStats(&after)
		if got, most := after.TotalAlloc-before.TotalAlloc, uint64(len(body)+4<<20); got > most {
			t.Errorf("%s: allocated %d bytes, want %d at the most", name, got, most)
		}
	}
}

// BenchmarkRefuse: the worst bodies of strangers, with two keys; the worst must cost less than 100 ms.
func BenchmarkRefuse(b *testing.B) {
	h := guarded(&sdk{}, Server{SigningKey: key, SigningKeyFallback: fallback})
	header := sign(key, time.Now(), "")
	for name, body := range worst() {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				r := httptest.NewRequestWithContext(b.Context(), http.MethodPost, "/", bytes.NewReader([]byte(body)))
				r.Header.Set("X-Inngest-Signature", header)
				h.ServeHTTP(httptest.NewRecorder(), r)
			}
		})
	}
}
