package inngest

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/inngest/inngestgo"
)

// FuzzGuard: of small bodies, what the SDK signs is let through, and the signature of nothing opens to nothing but
// nothing.
func FuzzGuard(f *testing.F) {
	for _, s := range []string{
		`{"url":"https://app.example/?a=1\u0026b=\u003c"}`, `{"n":1e3,"z":-0,"\u00e9":0.10,"big":12345678901234567890}`,
		`"\ud800"`, `[1E400]`,
		`{"a":1,"a":2}`, "{\"a\":\"\xff\"}", `[[[[]]]]`, ` {} `, `{"\ud83d\ude00":1,"\ufb33":2}`,
		`[1e21,1e-7,0.000001,5e-324,1.7976931348623157e308]`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, body string) {
		now := time.Now()
		call := func(header string) bool {
			got := &sdk{}
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(body))
			r.Header.Set("X-Inngest-Signature", header)
			guarded(got, Server{SigningKey: key}).ServeHTTP(httptest.NewRecorder(), r)
			return got.called
		}
		if body != "" && call(sign(key, now, "")) {
			t.Errorf("%q is let through by the signature of nothing", body)
		}
		// RFC 8785 is for JSON in UTF-8, without lone surrogates and without a key twice.
		if !jsontext.Value(body).IsValid() || len(body) > 1000 ||
			strings.Count(body, "[")+strings.Count(body, "{") > 100 {
			return
		}
		header, err := inngestgo.Sign(t.Context(), now, []byte(key), []byte(body))
		if err != nil {
			t.Fatal(err)
		}
		// the SDK signs what it refuses as nothing
		if refused := header == sign(key, now, ""); !refused && !call(header) {
			t.Errorf("%q: what the SDK signs is refused", body)
		}
	})
}
