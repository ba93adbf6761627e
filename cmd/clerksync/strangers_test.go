package main

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"
)

// callKey and callKeyFallback are the signing keys of a service in production.
const (
	callKey         = "signkey-test-0123456789abcdef"
	callKeyFallback = "signkey-test-fedcba9876543210"
)

// signCall signs a call of Inngest as its server does: over the bytes as they are.
func signCall(req *http.Request, key string, at time.Time, body string) *http.Request {
	_, bare, _ := strings.Cut(strings.TrimPrefix(key, "signkey-"), "-")
	mac := hmac.New(sha256.New, []byte(bare))
	_, _ = fmt.Fprintf(mac, "%s%d", body, at.Unix())
	req.Header.Set("X-Inngest-Signature", fmt.Sprintf("t=%d&s=%s", at.Unix(), hex.EncodeToString(mac.Sum(nil))))
	return req
}

// deleteCall is what Inngest calls the function for a deleted user with, as the canonical bytes that its server signs.
func deleteCall(data string) string {
	event := `{"data":` + data + `,"name":"clerk/user.deleted","ts":1}`
	return `{"ctx":{"attempt":0,"fn_id":"00000000-0000-0000-0000-000000000001","max_attempts":3,"run_id":"01J",` +
		`"stack":{"current":0,"stack":[]},"step_id":"step"},` +
		`"event":` + event + `,"events":[` + event + `],"steps":{}}`
}

// TestOtherPagesCallNothing: the calls of a dev server are not signed, so any page in a developer's browser could post
// one to the port that 'dev' has. The browser says that it is another page's.
func TestOtherPagesCallNothing(t *testing.T) {
	t.Parallel()
	s := serve(t, good(t))
	call := s.url + "/api/inngest?fnId=clerksync-delete-user-with-clerk&stepId=step"
	for name, tc := range map[string]struct {
		header, value string
		code          int
	}{
		"Inngest":               {"X-Inngest-Server-Kind", "dev", 206},
		"another page":          {"Sec-Fetch-Site", "cross-site", 403},
		"another port":          {"Sec-Fetch-Site", "same-site", 403},
		"of an old browser":     {"Origin", "http://evil.example", 403},
		"a file in the browser": {"Origin", "null", 403},
	} {
		r := request(t, http.MethodPost, call, deleteCall(`{"deleted":true,"id":"user_a"}`))
		r.Header.Set("Content-Type", "text/plain")
		r.Header.Set(tc.header, tc.value)
		if code, body := do(t, r); code != tc.code {
			t.Errorf("%s: got %d %s, want %d", name, code, body, tc.code)
		}
	}
}

// TestStrangersCallEndsNothing: the SDK canonicalises the body of a call before it looks at its signature, recursively
// and in quadratic time, and takes what it cannot canonicalise for empty. So it gets nothing that we have not verified.
// A signed body may be as deep as it likes.
func TestStrangersCallEndsNothing(t *testing.T) {
	t.Parallel()
	settings := good(t)
	maps.Copy(settings, map[string]string{
		"INNGEST_DEV": "0", "INNGEST_BASE_URL": newFakeInngest(t).URL, "INNGEST_EVENT_KEY": "thekey",
		"INNGEST_SIGNING_KEY": callKey, "INNGEST_SIGNING_KEY_FALLBACK": callKeyFallback,
	})
	s := serve(t, settings)
	call := s.url + "/api/inngest?fnId=clerksync-delete-user-with-clerk&stepId=step"
	post := func(body string) *http.Request { return request(t, http.MethodPost, call, body) }
	other := func(method, body string) *http.Request { return request(t, method, s.url+"/api/inngest", body) }
	now := time.Now()
	body := deleteCall(`{"deleted":true,"id":"user_a"}`)
	var keys bytes.Buffer
	for i := range 20_000 {
		_, _ = fmt.Fprintf(&keys, `"%05d":0,`, i)
	}
	deep := func(n int) string { return strings.Repeat(`{"a":`, n) + "1" + strings.Repeat("}", n) }
	withMetadata := func(s string) string {
		return deleteCall(`{"deleted":true,"id":"user_a","unsafe_metadata":` + s + `}`)
	}
	put := `{"url":"https://app.example/api/inngest?a=1\u0026b=2"}` // as json.Marshal writes it
	for name, tc := range map[string]struct {
		req  *http.Request
		code int
	}{
		"5 MiB of brackets": {
			signCall(post(strings.Repeat("[", 5<<20)), callKey, now, "other"), 401,
		},
		"5 MiB of brackets, PUT": {
			signCall(other(http.MethodPut, strings.Repeat("[", 5<<20)), callKey, now, "other"), 401,
		},
		"5 MiB of brackets for the trust probe": {
			signCall(request(t, http.MethodPost, s.url+"/api/inngest?probe=trust", strings.Repeat("[", 5<<20)), callKey,
				now, "x"), 401,
		},
		"20,000 keys": {
			signCall(post(`{`+keys.String()+`"a":0}`), callKey, now, "other"), 401,
		},
		"a lone surrogate, signed as empty": {
			signCall(post(deleteCall(`{"deleted":true,"id":"user_a","x":"\ud800"}`)), callKey, now, ""), 401,
		},
		"a lone surrogate, PUT, signed as empty": {
			signCall(other(http.MethodPut, `{"url":"https://x.example","x":"\ud800"}`), callKey, now, ""), 401,
		},
		"a body with GET, signed as empty": {signCall(other(http.MethodGet, "x"), callKey, now, ""), 401},
		"signed six minutes ahead":         {signCall(post(body), callKey, now.Add(6*time.Minute), body), 401},
		"signed six minutes ago":           {signCall(post(body), callKey, now.Add(-6*time.Minute), body), 401},
		"signed four minutes ahead":        {signCall(post(body), callKey, now.Add(4*time.Minute), body), 206},
		"signed with the fallback key":     {signCall(post(body), callKeyFallback, now, body), 206},
		"signed with no key":               {signCall(post(body), "", now, body), 401},
		"PUT, not signed":                  {other(http.MethodPut, put), 401},
		"GET, not signed":                  {other(http.MethodGet, ""), 401},
		"PUT, signed over its canonical form": {
			signCall(other(http.MethodPut, put), callKey, now, strings.Replace(put, `\u0026`, "&", 1)), 200,
		},
		"GET, signed": {signCall(other(http.MethodGet, ""), callKey, now, ""), 200},
		"trust probe, signed": {
			signCall(request(t, http.MethodPost, s.url+"/api/inngest?probe=trust", ""), callKey, now, ""), 200,
		},
		"signed, metadata a thousand levels deep": {
			signCall(post(withMetadata(deep(1000))), callKey, now, withMetadata(deep(1000))), 206,
		},
		"signed, metadata 200,000 levels deep": {
			signCall(post(withMetadata(deep(200_000))), callKey, now, withMetadata(deep(200_000))), 400,
		},
		"signed, not in its canonical form, large": {
			signCall(post(" "+withMetadata(`"`+strings.Repeat("x", 64<<10)+`"`)), callKey, now, "other"), 401,
		},
	} {
		if code, text := do(t, tc.req); code != tc.code {
			t.Errorf("%s: got %d %s, want %d", name, code, text, tc.code)
		}
	}
}

// TestDeepCallEndsNothingInDev: with a dev server nothing is signed, and still no body ends the process.
func TestDeepCallEndsNothingInDev(t *testing.T) {
	t.Parallel()
	s := serve(t, good(t))
	for name, method := range map[string]string{
		"call": http.MethodPost, "registration": http.MethodPut,
		"inspection": http.MethodGet,
	} {
		for _, signature := range []string{"", "t=1&s=ff"} {
			for _, body := range []string{strings.Repeat("[", 5<<20), strings.Repeat(`{"a":`, 900_000)} {
				req := request(t, method, s.url+"/api/inngest?fnId=clerksync-delete-user-with-clerk&stepId=step", body)
				if signature != "" {
					req.Header.Set("X-Inngest-Signature", signature)
				}
				if code, text := do(t, req); code != http.StatusBadRequest {
					t.Errorf("%s with signature %q: got %d %s, want 400", name, signature, code, text)
				}
			}
		}
	}
}
