package webhook_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"clerksync/inbox"
	"clerksync/inngest"
	"clerksync/internal/testenv"
	"clerksync/webhook"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

const otherSecret = "whsec_Y2xlcmtzeW5jIHRlc3Qgc2VjcmV0IDI="

// box is an inbox that keeps events in memory, or fails.
type box struct {
	events []inbox.Event
	err    error
}

func (b *box) Put(_ context.Context, e inbox.Event) error {
	if b.err != nil {
		return b.err
	}
	b.events = append(b.events, e)
	return nil
}

type bench struct {
	handler *webhook.Handler
	box     *box
	log     *bytes.Buffer
	reg     *prometheus.Registry
}

func setup(t testing.TB, change ...func(*webhook.Options)) bench {
	t.Helper()
	b := bench{box: &box{}, log: &bytes.Buffer{}, reg: prometheus.NewRegistry()}
	o := webhook.Options{
		Secrets: []string{otherSecret, testenv.Secret}, Forward: []string{"user.*"}, Put: b.box.Put,
		SecretsName: "the secret", InstanceName: "ours",
		Log: slog.New(slog.NewTextHandler(b.log, &slog.HandlerOptions{Level: slog.LevelDebug})), Registerer: b.reg,
	}
	for _, f := range change {
		f(&o)
	}
	var err error
	if b.handler, err = webhook.New(o); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b bench) do(req *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	b.handler.ServeHTTP(w, req)
	return w
}

func event(typ string) string {
	return fmt.Sprintf(`{"type":%q,"object":"event","timestamp":1767603600018,"instance_id":"ins_1",`+
		`"data":{"id":"user_a","object":"user"}}`, typ)
}

// TestAnswers holds the table of answers in docs/ingress.md.
func TestAnswers(t *testing.T) {
	t.Parallel()
	now, created := time.Now(), event("user.created")
	big := `{"type":"user.created","data":{"id":"user_a","public_metadata":{"x":"` +
		strings.Repeat("x", inngest.MaxEventSize) + `"}}}`
	sign := func(body string) *http.Request {
		return testenv.Signed(t, "/webhooks/clerk", testenv.Secret, "msg_1", now, []byte(body))
	}
	signAt := func(secret string, at time.Time) *http.Request {
		return testenv.Signed(t, "/", secret, "msg_1", at, []byte(created))
	}
	nested := func(levels int) *http.Request {
		return sign(`{"type":"user.created","data":` + strings.Repeat("[", levels) + strings.Repeat("]", levels) + `}`)
	}
	with := func(req *http.Request, key, value string) *http.Request {
		if req.Header.Set(key, value); value == "" {
			req.Header.Del(key)
		}
		return req
	}
	for name, tc := range map[string]struct {
		req    *http.Request
		change func(*webhook.Options)
		code   int
		text   string
		events int
	}{
		"a user":                   {req: sign(created), code: 202, events: 1},
		"signed by another secret": {req: signAt(otherSecret, now), code: 202, events: 1},
		"signed by nobody's secret": {
			req: signAt("whsec_Y2xlcmtzeW5jIHRlc3Qgc2VjcmV0IDM=", now), code: 400, text: "no matching signature found",
		},
		"not signed":    {req: with(sign(created), "svix-signature", ""), code: 400, text: webhook.Unsigned},
		"without an id": {req: with(sign(created), "svix-id", ""), code: 400, text: webhook.Unsigned},
		"another id":    {req: with(sign(created), "svix-id", "msg_2"), code: 400, text: "no matching signature found"},
		"a broken time": {
			req: with(sign(created), "svix-timestamp", "soon"), code: 400,
			text: "invalid signature headers",
		},
		"too old": {
			req: signAt(testenv.Secret, now.Add(-6*time.Minute)), code: 400, text: "message timestamp too old",
		},
		"four minutes old": {req: signAt(testenv.Secret, now.Add(-4*time.Minute)), code: 202, events: 1},
		"too new": {
			req: signAt(testenv.Secret, now.Add(6*time.Minute)), code: 400, text: "message timestamp too new",
		},
		"empty":       {req: sign(""), code: 400, text: "not a JSON object"},
		"not JSON":    {req: sign("hello"), code: 400, text: "not a JSON object"},
		"a list":      {req: sign("[]"), code: 400, text: "not a JSON object"},
		"two objects": {req: sign(created + created), code: 400, text: "not a JSON object"},
		"a key twice": {
			req: sign(`{"type":"user.created","type":"user.deleted","data":{"id":"user_a"}}`), code: 400,
			text: "each key once",
		},
		"a key of the user twice": {
			req: sign(`{"type":"user.created","data":{"id":"user_a","id":"user_b"}}`), code: 400, text: "each key once",
		},
		"not UTF-8": {
			req: sign(`{"type":"user.created","data":{"id":"user_a","first_name":"` + "\xff" + `"}}`), code: 400,
			text: "UTF-8",
		},
		"half an emoji": {
			req: sign(`{"type":"user.created","data":{"id":"user_a","first_name":"A\ud83d"}}`), code: 202, events: 1,
		},
		"a NUL": {
			req: sign(`{"type":"user.created","data":{"id":"user_a","first_name":"` + "\x00" + `"}}`), code: 400,
			text: "not a JSON object",
		},
		"a huge number": {
			req: sign(`{"type":"user.created","timestamp":1e999,"data":{"id":"user_a",` +
				`"unsafe_metadata":{"n":[-1e999]}}}`), code: 400, text: "number",
		},
		"a huge time": {
			req: sign(`{"type":"user.created","timestamp":1e999,"data":{"id":"user_a"}}`), code: 202, events: 1,
		},
		"100,000 lists in lists": {req: nested(100_000), code: 400, text: "at most 10,000 levels"},
		"9,900 levels":           {req: nested(9_900), code: 202, events: 1},
		"9,901 levels":           {req: nested(9_901), code: 400, text: "more than 9900 levels deep"},
		"compressed": {
			req: with(sign("\x1f\x8b\x08\x00"), "Content-Encoding", "gzip"), code: 400, text: "not a JSON object",
		},
		"a form": {
			req: with(sign(created), "Content-Type", "application/x-www-form-urlencoded"), code: 415,
			text: "application/json",
		},
		"a broken content type": {req: with(sign(created), "Content-Type", ";"), code: 415, text: "application/json"},
		"with a charset": {
			req: with(sign(created), "Content-Type", "application/json; charset=utf-8"), code: 202,
			events: 1,
		},
		"without a content type":   {req: with(sign(created), "Content-Type", ""), code: 202, events: 1},
		"no type":                  {req: sign(`{"data":{}}`), code: 400, text: "no type"},
		"a type that is a number":  {req: sign(`{"type":1,"data":{}}`), code: 400, text: "no type"},
		"no data":                  {req: sign(`{"type":"user.created"}`), code: 400, text: "no data"},
		"a type we do not forward": {req: sign(event("session.created")), code: 204},
		"a type nobody knows":      {req: sign(event("tea.brewed")), code: 204},
		"a probe":                  {req: sign(event(webhook.ProbeType)), code: 200, text: webhook.Proven},
		"a probe where all types are forwarded": {
			req: sign(event(webhook.ProbeType)), change: func(o *webhook.Options) {
				o.Forward, o.InstanceID = []string{"*"}, "ins_2"
				o.Seen = func(time.Time, string) { t.Error("a probe is taken for a webhook of Clerk's") }
				o.Answered = func(webhook.Answer) { t.Error("a probe is shown as a webhook") }
			}, code: 200, text: webhook.Proven,
		},
		"a probe that nobody signed": {
			req: with(sign(event(webhook.ProbeType)), "svix-signature", ""), code: 400, text: webhook.Unsigned,
		},
		"a probe signed by nobody's secret": {
			req: testenv.Signed(t, "/", "whsec_Y2xlcmtzeW5jIHRlc3Qgc2VjcmV0IDM=", "msg_1", now,
				[]byte(event(webhook.ProbeType))), code: 400, text: "no matching signature found",
		},
		"forwarded by a pattern": {
			req: sign(event("session.created")), change: func(o *webhook.Options) {
				o.Forward = []string{"user.*", "session.c*"}
			}, code: 202, events: 1,
		},
		"our instance": {
			req: sign(created), change: func(o *webhook.Options) {
				o.InstanceID = "ins_1"
			}, code: 202, events: 1,
		},
		"another instance": {
			req: sign(created), change: func(o *webhook.Options) {
				o.InstanceID = "ins_2"
			}, code: 403, text: "another Clerk instance than ours",
		},
		"a body of 512 KiB": {
			req:  sign(strings.Repeat(" ", webhook.MaxBody-len(created)) + created),
			code: 202, events: 1,
		},
		"a body over 512 KiB": {
			req: sign(strings.Repeat(" ", webhook.MaxBody) + created), code: 413, text: "524288 bytes",
		},
		"an event over 256 KiB": {req: sign(big), code: 413, text: "262144 bytes that Inngest takes"},
		"the database is down": {
			req: sign(created), change: func(o *webhook.Options) {
				o.Put = (&box{err: errors.New("down")}).Put
			}, code: 503, text: "send it again",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			change := tc.change
			if change == nil {
				change = func(*webhook.Options) {}
			}
			b := setup(t, change)
			w := b.do(tc.req)
			if w.Code != tc.code || !strings.Contains(w.Body.String(), tc.text) {
				t.Errorf("got %d %q, want %d %q", w.Code, w.Body, tc.code, tc.text)
			}
			if got := len(b.box.events); got != tc.events {
				t.Errorf("got %d events, want %d", got, tc.events)
			}
			if got, want := w.Header().Get("Retry-After"), map[bool]string{true: "5"}[tc.code == 503]; got != want {
				t.Errorf("got Retry-After %q, want %q", got, want)
			}
			metrics, err := b.reg.Gather()
			if tc.code == 200 { // a probe does not count
				if err != nil || len(metrics) != 0 {
					t.Errorf("got metrics %v, %v, want none", metrics, err)
				}
				return
			}
			if err != nil || len(metrics) != 2 {
				t.Errorf("got %d metrics, %v, want the number of webhooks and how long they took", len(metrics), err)
			}
			for _, f := range metrics {
				if m := f.GetMetric(); len(m) != 1 || m[0].GetLabel()[0].GetValue() != strconv.Itoa(tc.code) {
					t.Errorf("got %v, want one webhook with %d", f, tc.code)
				}
			}
			signed := !strings.Contains(w.Body.String(), "the secret")
			if logged := strings.Contains(b.log.String(), "svix_id=msg_1"); tc.code == 400 && logged != signed {
				t.Errorf("the log holds the svix-id: %v, want %v: %s", logged, signed, b.log)
			}
			if strings.Contains(b.log.String(), "user_a") {
				t.Errorf("the log holds the payload: %s", b.log)
			}
		})
	}
}

// TestBodyWithoutLength: a body that does not say how long it is is cut off all the same.
func TestBodyWithoutLength(t *testing.T) {
	t.Parallel()
	req := testenv.Signed(t, "/", testenv.Secret, "msg_1", time.Now(), []byte(event("user.created")))
	req.ContentLength = -1
	req.Body = io.NopCloser(io.LimitReader(endless{}, 100<<20))
	if got := setup(t).do(req).Code; got != 413 {
		t.Errorf("got %d, want 413", got)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// TestEvent: what is forwarded has the name and the data that Inngest's own integration produces, less the secrets.
func TestEvent(t *testing.T) {
	t.Parallel()
	signed := time.Now()
	const (
		common = `"big":12345678901234567890,"public_metadata":{"private_metadata":"the app's","backup_codes":[1],` +
			`"h":"<&>"},"phone_numbers":[{`
		data = `"data":{"private_metadata":{"k":1},` + common +
			`"backup_codes":["secret"],"id":"idn_1"}],"user":{"private_metadata":{}}}`
		pruned = common + `"id":"idn_1"}],"user":{`
	)
	for name, tc := range map[string]struct {
		timestamp string
		private   bool
		data      string
		ts        int64 // 0 is the second of svix-timestamp
	}{
		"milliseconds":  {`1767603600018`, false, `{` + pruned + `}}`, 1767603600018},
		"seconds":       {`1767603600`, false, `{` + pruned + `}}`, 1767603600000},
		"RFC 3339":      {`"2026-01-05T09:00:00Z"`, false, `{` + pruned + `}}`, 1767603600000},
		"none":          {`null`, false, `{` + pruned + `}}`, 0},
		"nonsense":      {`"soon"`, false, `{` + pruned + `}}`, 0},
		"in the future": {`4102444800000`, false, `{` + pruned + `}}`, signed.Unix()*1000 + 5000},
		"4 s ahead":     {fmt.Sprint(signed.Unix()*1000 + 4000), false, `{` + pruned + `}}`, signed.Unix()*1000 + 4000},
		"before 1980":   {`-5`, false, `{` + pruned + `}}`, 0},
		"private on demand": {
			`1767603600018`, true, `{"private_metadata":{"k":1},` + pruned + `"private_metadata":{}}}`, 1767603600018,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, func(o *webhook.Options) { o.ForwardPrivateMetadata = tc.private })
			body := fmt.Sprintf(`{"type":"user.updated","timestamp":%s,%s}`, tc.timestamp, data)
			if w := b.do(testenv.Signed(t, "/", testenv.Secret, "msg_1", signed, []byte(body))); w.Code != 202 {
				t.Fatalf("got %d %s", w.Code, w.Body)
			}
			got := b.box.events[0]
			if tc.ts == 0 {
				tc.ts = signed.Unix() * 1000
			}
			want := inbox.Event{ID: "msg_1", Name: "clerk/user.updated", Data: json.RawMessage(tc.data), TS: tc.ts}
			if tc.timestamp != `null` && tc.timestamp != `"soon"` && tc.timestamp != `-5` {
				want.V = inbox.ClerkTime
			}
			if d := cmp.Diff(want, got, cmp.Transformer("string", func(r json.RawMessage) string {
				return string(r)
			})); d != "" {
				t.Errorf("event (-want +got):\n%s", d)
			}
		})
	}
}

// TestOneTimeCodes: a pattern does not forward the types that hold one-time codes; their names do.
func TestOneTimeCodes(t *testing.T) {
	t.Parallel()
	const data = `{"id":"ema_1","otp_code":"424242","body":"Your code is 424242"}`
	types := []string{"sms.created", "email.created", "user.created", "session.created"}
	for forward, want := range map[string]struct{ forwarded, named, leftOut string }{
		"*":                             {"user.created session.created", "", "email.created sms.created"},
		"*.created":                     {"user.created session.created", "", "email.created sms.created"},
		"user.*":                        {"user.created", "", ""},
		"email.*":                       {"", "", "email.created"},
		"* sms.created":                 {"sms.created user.created session.created", "sms.created", "email.created"},
		"email.created sms.created":     {"sms.created email.created", "email.created sms.created", ""},
		"[es]m*.created user.* sms.???": {"user.created", "", "email.created sms.created"},
	} {
		t.Run(forward, func(t *testing.T) {
			t.Parallel()
			patterns := strings.Fields(forward)
			b := setup(t, func(o *webhook.Options) { o.Forward = patterns })
			var forwarded []string
			for _, typ := range types {
				body := fmt.Sprintf(`{"type":%q,"data":%s}`, typ, data)
				switch w := b.do(testenv.Signed(t, "/", testenv.Secret, "msg_1", time.Now(), []byte(body))); w.Code {
				case http.StatusAccepted:
					forwarded = append(forwarded, typ)
					if got := string(b.box.events[len(b.box.events)-1].Data); got != data {
						t.Errorf("%s: got %s, want it whole", typ, got)
					}
				case http.StatusNoContent:
				default:
					t.Errorf("%s: got %d %s", typ, w.Code, w.Body)
				}
			}
			if got := strings.Join(forwarded, " "); got != want.forwarded {
				t.Errorf("forwarded %q, want %q", got, want.forwarded)
			}
			named, leftOut := webhook.OneTimeCodes(patterns)
			if got, want := fmt.Sprintf("%q %q", named, leftOut),
				fmt.Sprintf("%q %q", strings.Fields(want.named), strings.Fields(want.leftOut)); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
			if strings.Contains(b.log.String(), "424242") {
				t.Errorf("the log holds a code: %s", b.log)
			}
		})
	}
}

// TestTwoEventsOfOneSecond: two changes of one second, delivered within that second and swapped, keep their own times
// whatever our clock says, and so their order.
func TestTwoEventsOfOneSecond(t *testing.T) {
	t.Parallel()
	for name, behind := range map[string]time.Duration{ // our clock
		"right": 0, "4 minutes behind": 4 * time.Minute, "4 minutes ahead": -4 * time.Minute,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { // its clock begins with a full second
				b := setup(t)
				clerks := time.Now().Add(behind)
				time.Sleep(50 * time.Millisecond)
				for i, ms := range []int64{clerks.UnixMilli() + 900, clerks.UnixMilli() + 100} {
					body := fmt.Sprintf(`{"type":"user.updated","timestamp":%d,"data":{"id":"user_a"}}`, ms)
					if w := b.do(testenv.Signed(t, "/", testenv.Secret, fmt.Sprint("msg_", i), clerks,
						[]byte(body))); w.Code != 202 {
						t.Fatalf("got %d %s", w.Code, w.Body)
					}
				}
				for i, want := range []int64{900, 100} {
					if got := b.box.events[i].TS - clerks.UnixMilli(); got != want {
						t.Errorf("event %d has the time %d ms of the second, want %d", i, got, want)
					}
				}
			})
		})
	}
}

// TestPublishedVector is the example in Svix's documentation
// (https://docs.svix.com/receiving/verifying-payloads/how-manual) and that of Standard Webhooks, verified at the time
// at which they were signed. They are no events of Clerk, and refused as such.
func TestPublishedVector(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ prefix, secret, id, timestamp, signature, body string }{
		"svix": {
			"svix-", "whsec_plJ3nmyCDGBKInavdOK15jsl", "msg_loFOjxBNrRLzqYUf", "1731705121",
			"v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0=", `{"event_type":"ping","data":{"success":true}}`,
		},
		"standard webhooks": {
			"webhook-", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330",
			"v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", `{"test": 2432232314}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			var at int64
			if _, err := fmt.Sscan(tc.timestamp, &at); err != nil {
				t.Fatal(err)
			}
			for want, signature := range map[string]string{
				"the event has no type": tc.signature,
				"no matching signature": "v1,A" + tc.signature[4:],
			} {
				synctest.Test(t, func(t *testing.T) {
					time.Sleep(time.Until(time.Unix(at, 0))) // the bubble's clock, which begins in 2000
					b := setup(t, func(o *webhook.Options) { o.Secrets = []string{tc.secret} })
					req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(tc.body))
					req.Header.Set(tc.prefix+"id", tc.id)
					req.Header.Set(tc.prefix+"timestamp", tc.timestamp)
					req.Header.Set(tc.prefix+"signature", signature)
					if w := b.do(req); w.Code != 400 || !strings.Contains(w.Body.String(), want) {
						t.Errorf("got %d %q, want 400 and %q", w.Code, w.Body, want)
					}
				})
			}
			// Our own signing, which the other tests rest on, gives the published signature.
			if got := testenv.Signed(t, "/", tc.secret, tc.id, time.Unix(at, 0),
				[]byte(tc.body)).Header.Get("svix-signature"); got != tc.signature {
				t.Errorf("got signature %s, want %s", got, tc.signature)
			}
		})
	}
}

func TestHeaders(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change func(http.Header)
		id     string // "" for refused
	}{
		"svix": {func(http.Header) {}, "msg_1"},
		"webhook": {func(h http.Header) {
			for _, k := range []string{"id", "timestamp", "signature"} {
				h.Set("webhook-"+k, h.Get("svix-"+k))
				h.Del("svix-" + k)
			}
		}, "msg_1"},
		"several signatures": {
			func(h http.Header) { h.Set("svix-signature", "v1a,AAAA v1,BBBB "+h.Get("svix-signature")) }, "msg_1",
		},
		"another scheme only": {func(h http.Header) {
			h.Set("svix-signature", strings.Replace(h.Get("svix-signature"), "v1,", "v2,", 1))
		}, ""},
		"a signature without its scheme": {
			func(h http.Header) { h.Set("svix-signature", strings.TrimPrefix(h.Get("svix-signature"), "v1,")) }, "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			req := testenv.Signed(t, "/", testenv.Secret, "msg_1", time.Now(), []byte(event("user.created")))
			tc.change(req.Header)
			w := b.do(req)
			got := ""
			if len(b.box.events) > 0 {
				got = b.box.events[0].ID
			}
			if got != tc.id || w.Code != map[bool]int{true: 202, false: 400}[tc.id != ""] {
				t.Errorf("got %d and event %q, want event %q", w.Code, got, tc.id)
			}
		})
	}
}

// TestReplayUnderAnotherID: who replays a webhook may add headers of the other family, in any number that the library
// does not verify. The event keeps the id and the time that were signed: under another id it would be a new event, and
// at another time a newer one.
func TestReplayUnderAnotherID(t *testing.T) {
	t.Parallel()
	at := time.Now().Add(-time.Minute)
	const noTime = `{"type":"user.updated","data":{"id":"user_a"}}`
	foreign := map[string]string{
		"id": "msg_forged", "timestamp": strconv.FormatInt(time.Now().Unix(), 10), "signature": "v1,AAAA",
	}
	for name, tc := range map[string]struct {
		signed, other string
		add           []string // headers of the other family
		code          int
	}{
		"an id":                         {"webhook-", "svix-", []string{"id"}, 202},
		"a time":                        {"webhook-", "svix-", []string{"timestamp"}, 202},
		"an id and a time":              {"webhook-", "svix-", []string{"id", "timestamp"}, 202},
		"an id and a signature":         {"webhook-", "svix-", []string{"id", "signature"}, 202},
		"a time and a signature":        {"webhook-", "svix-", []string{"timestamp", "signature"}, 202},
		"all three":                     {"webhook-", "svix-", []string{"id", "timestamp", "signature"}, 400},
		"an id, beside svix":            {"svix-", "webhook-", []string{"id"}, 202},
		"an id and a time, beside svix": {"svix-", "webhook-", []string{"id", "timestamp"}, 202},
		"all three, beside svix":        {"svix-", "webhook-", []string{"id", "timestamp", "signature"}, 202},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			req := testenv.Signed(t, "/", testenv.Secret, "msg_1", at, []byte(noTime))
			for _, k := range []string{"id", "timestamp", "signature"} {
				value := req.Header.Get("svix-" + k)
				req.Header.Del("svix-" + k)
				req.Header.Set(tc.signed+k, value)
			}
			for _, k := range tc.add {
				req.Header.Set(tc.other+k, foreign[k])
			}
			if w := b.do(req); w.Code != tc.code {
				t.Fatalf("got %d %s, want %d", w.Code, w.Body, tc.code)
			}
			for _, e := range b.box.events {
				if e.ID != "msg_1" || e.TS != at.Unix()*1000 {
					t.Errorf("got the event %s at %d, want msg_1 at %d", e.ID, e.TS, at.Unix()*1000)
				}
			}
		})
	}
}

func TestNew(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		secrets, forward []string
		want             string
	}{
		"no secret":       {nil, nil, "no signing secret"},
		"an empty secret": {[]string{""}, nil, "whsec_"},
		"an empty key":    {[]string{"whsec_"}, nil, "too short"},
		"a short key":     {[]string{"whsec_c2hvcnQ="}, nil, "too short"},
		"not base64":      {[]string{"whsec_!!!!"}, nil, "base64"},
		"a bad pattern":   {[]string{testenv.Secret}, []string{"user.["}, "pattern"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := webhook.New(webhook.Options{
				Secrets: tc.secrets, Forward: tc.forward, Registerer: prometheus.NewRegistry(),
			})
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

func FuzzHandler(f *testing.F) {
	f.Add([]byte(event("user.created")), "msg_1", true)
	f.Add([]byte(`{"type":"user.updated","data":{"a":[[[[{"private_metadata":1}]]]]},"timestamp":1e300}`), "msg:r1",
		true)
	f.Add([]byte("{\"type\":\"user.deleted\",\"data\":\"\\u0000\xff\"}"), "x", false)
	f.Fuzz(func(t *testing.T, body []byte, id string, signed bool) {
		b := setup(t)
		req := testenv.Signed(t, "/", testenv.Secret, id, time.Now(), body)
		if !signed {
			req.Header.Set("svix-signature", "v1,AAAA")
		}
		w := b.do(req)
		switch {
		case w.Code == 202 && len(b.box.events) == 1 && signed && json.Valid(b.box.events[0].Data) &&
			b.box.events[0].Size() <= inngest.MaxEventSize:
		case (w.Code == 204 || w.Code == 400 || w.Code == 413) && len(b.box.events) == 0:
		default:
			t.Errorf("got %d with %d events", w.Code, len(b.box.events))
		}
	})
}

// TestDeliveryTimeIsCalledClerks: a time from before 1980 is replaced by that of the delivery, which was then said to
// be Clerk's.
func TestDeliveryTimeIsCalledClerks(t *testing.T) {
	t.Parallel()
	b := setup(t)
	body := `{"type":"user.updated","timestamp":100000000,"data":{"id":"user_a","object":"user"}}` // 1973
	now := time.Now()
	if w := b.do(testenv.Signed(t, "/", testenv.Secret, "msg_1", now, []byte(body))); w.Code != http.StatusAccepted {
		t.Fatal(w.Code)
	}
	if e := b.box.events[0]; e.TS != now.Unix()*1000 || e.V != "" {
		t.Errorf("got ts %d and v %q, want the time of the delivery, and nothing that says it is Clerk's", e.TS, e.V)
	}
}

// TestAnswered: each answer is told once, and what is not signed says nothing of itself: no id and no type. Whatever
// types of events come, the metrics have a label for the answer alone.
func TestAnswered(t *testing.T) {
	t.Parallel()
	var told []webhook.Answer
	b := setup(t, func(o *webhook.Options) { o.Answered = func(a webhook.Answer) { told = append(told, a) } })
	now := time.Now()
	hostile := `{"type":"a\"} 1\nclerksync_webhooks_total{code=\"200","data":{"id":"user_a"}}`
	for _, tc := range []struct {
		body, secret string
		want         webhook.Answer
	}{
		{event("user.created"), testenv.Secret, webhook.Answer{
			ID: "msg_1", Type: "user.created", Code: 202, Reason: "durable",
		}},
		{event("session.created"), testenv.Secret, webhook.Answer{
			ID: "msg_1", Type: "session.created", Code: 204, Reason: "not_forwarded",
		}},
		{hostile, testenv.Secret, webhook.Answer{
			ID: "msg_1", Type: "a\"} 1\nclerksync_webhooks_total{code=\"200", Code: 204, Reason: "not_forwarded",
		}},
		{"[]", testenv.Secret, webhook.Answer{ID: "msg_1", Code: 400, Reason: "not_an_event"}},
		{
			event("user.created"), "whsec_" + strings.Repeat("A", 32),
			webhook.Answer{Code: 400, Reason: "not_verified"},
		},
	} {
		told = nil
		w := b.do(testenv.Signed(t, "/webhooks/clerk", tc.secret, "msg_1", now, []byte(tc.body)))
		if len(told) != 1 || w.Code != tc.want.Code || told[0].At.Before(now) || told[0].Took <= 0 {
			t.Fatalf("%s: got %d %v", tc.body, w.Code, told)
		}
		told[0].At, told[0].Took = time.Time{}, 0
		if d := cmp.Diff(tc.want, told[0]); d != "" {
			t.Errorf("%s (-want +got):\n%s", tc.body, d)
		}
	}
	families, err := b.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range families {
		for _, m := range f.GetMetric() {
			labels := f.GetName()
			for _, l := range m.GetLabel() {
				labels += " " + l.GetValue()
			}
			got = append(got, labels)
		}
	}
	want := []string{
		"clerksync_webhook_duration_seconds 202", "clerksync_webhook_duration_seconds 204",
		"clerksync_webhook_duration_seconds 400", "clerksync_webhooks_total 202 durable",
		"clerksync_webhooks_total 204 not_forwarded", "clerksync_webhooks_total 400 not_an_event",
		"clerksync_webhooks_total 400 not_verified",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("the metrics (-want +got):\n%s", d)
	}
}
