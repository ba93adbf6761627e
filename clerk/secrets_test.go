package clerk_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"clerksync/clerk"

	"github.com/google/go-cmp/cmp"
)

// TestWithoutSecrets: what is secret goes with its comma, wherever it stands, and not a byte else.
func TestWithoutSecrets(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		data, want, err string
	}{
		"nothing":         {data: `{"id":"user_1","n":[1,{}]}`, want: `{"id":"user_1","n":[1,{}]}`},
		"alone":           {data: `{"private_metadata":{"a":1}}`, want: `{}`},
		"first":           {data: `{"private_metadata":{"a":1},"id":"x"}`, want: `{"id":"x"}`},
		"last":            {data: `{"id":"x","private_metadata":null}`, want: `{"id":"x"}`},
		"between":         {data: `{"id":"x","private_metadata":[1,2],"b":1}`, want: `{"id":"x","b":1}`},
		"two and nothing": {data: `{"private_metadata":1,"backup_codes":2}`, want: `{}`},
		"two first":       {data: `{"private_metadata":1,"backup_codes":2,"id":"x"}`, want: `{"id":"x"}`},
		"two last":        {data: `{"id":"x","private_metadata":1,"backup_codes":2}`, want: `{"id":"x"}`},
		"around":          {data: `{"private_metadata":1,"id":"x","backup_codes":2}`, want: `{"id":"x"}`},
		"spaces":          {data: "{ \"id\" : \"x\" ,\n \"private_metadata\" : 1 }", want: "{ \"id\" : \"x\" }"},
		"spaces, first":   {data: "{\t\"private_metadata\" : { } , \"id\" : \"x\" }", want: "{\t \"id\" : \"x\" }"},
		"an escaped name": {data: `{"id":"x","private\u005fmetadata":1}`, want: `{"id":"x"}`},
		"strings with signs": {
			data: `{"a":"},{\"private_metadata\":","b":"\\","private_metadata":"\\\"","c":"]"}`,
			want: `{"a":"},{\"private_metadata\":","b":"\\","c":"]"}`,
		},
		"deep": {data: `[[{"a":[{"backup_codes":["1"],"id":1},{"id":2}]}]]`, want: `[[{"a":[{"id":1},{"id":2}]}]]`},
		"the app's own": {
			data: `{"unsafe_metadata":{"backup_codes":1,"x":{"private_metadata":1}},"private_metadata":1}`,
			want: `{"unsafe_metadata":{"backup_codes":1,"x":{"private_metadata":1}}}`,
		},
		"no object": {data: `true`, want: `true`},
		"digits": {
			data: `{"n":12345678901234567890,"e":-1.5e+300}`, want: `{"n":12345678901234567890,"e":-1.5e+300}`,
		},
		"too large":          {data: `{"n":1e309}`, err: "beyond 64 bits"},
		"too long":           {data: `{"n":` + strings.Repeat("9", 310) + `}`, err: "beyond 64 bits"},
		"too large, secret":  {data: `{"private_metadata":{"n":1e309}}`, err: "beyond 64 bits"},
		"no JSON":            {data: `{"a":}`, err: clerk.ErrNotObject.Error()},
		"empty":              {data: ``, err: clerk.ErrNotObject.Error()},
		"two":                {data: `{} {}`, err: clerk.ErrNotObject.Error()},
		"no end":             {data: `{"private_metadata":1`, err: clerk.ErrNotObject.Error()},
		"a comma and no end": {data: `{"private_metadata":1,`, err: clerk.ErrNotObject.Error()},
		"a comma at the end": {data: `{"private_metadata":1,}`, err: clerk.ErrNotObject.Error()},
		"a name twice": {
			data: `{"private_metadata":1,"id":1,"id":2,"private_metadata":2}`, want: `{"id":1,"id":2}`,
		},
		"half an emoji": {data: `{"\ud83d":"\ud83d","private_metadata":1}`, want: `{"\ud83d":"\ud83d"}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := clerk.WithoutSecrets(json.RawMessage(tc.data), false)
			if string(got) != tc.want || !says(err, tc.err) {
				t.Errorf("got %s, %v, want %s, %q", got, err, tc.want, tc.err)
			}
		})
	}
}

// says tells whether the error contains the text; "" means no error.
func says(err error, text string) bool {
	if err == nil || text == "" {
		return err == nil && text == ""
	}
	return strings.Contains(err.Error(), text)
}

// TestSecretInSecret: a secret within one that goes was cut out of what had gone already, and the index was out of
// range.
func TestSecretInSecret(t *testing.T) {
	t.Parallel()
	// private is what is left where private_metadata stays
	for name, tc := range map[string]struct{ data, want, private string }{
		"in a list": {`{"backup_codes":[{"private_metadata":{}}]}`, `{}`, `{}`},
		"last in a list": {
			`{"id":1,"backup_codes":[{"a":1,"private_metadata":{}}],"b":[2]}`, `{"id":1,"b":[2]}`, `{"id":1,"b":[2]}`,
		},
		"of its own kind": {
			`{"backup_codes":{"backup_codes":{"backup_codes":1},"a":1},"id":1}`, `{"id":1}`, `{"id":1}`,
		},
		"in the app's": {
			`{"private_metadata":{"backup_codes":[{"private_metadata":1}]}}`, `{}`,
			`{"private_metadata":{"backup_codes":[{"private_metadata":1}]}}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for keep, want := range map[bool]string{false: tc.want, true: tc.private} {
				if got, err := clerk.WithoutSecrets(json.RawMessage(tc.data), keep); string(got) != want || err != nil {
					t.Errorf("got %s, %v, want %s", got, err, want)
				}
			}
		})
	}
}

// TestDepth: what is as deep as encoding/json reads passes, and what is deeper is refused; neither panics.
func TestDepth(t *testing.T) {
	t.Parallel()
	nested := func(open, end string, n int) string { return strings.Repeat(open, n) + "1" + strings.Repeat(end, n) }
	for name, tc := range map[string]struct{ data, err string }{
		"9,900 lists":     {nested("[", "]", 9_900), ""},
		"9,901 lists":     {nested("[", "]", 9_901), "more than 9900 levels deep"},
		"9,900 objects":   {nested(`{"a":`, "}", 9_900), ""},
		"9,901 objects":   {nested(`{"a":`, "}", 9_901), "more than 9900 levels deep"},
		"a million":       {nested(`{"backup_codes":[`, "]}", 500_000), "more than 9900 levels deep"},
		"lists of no end": {strings.Repeat("[", 1_000_000), "more than 9900 levels deep"},
		"secrets, 9,900":  {nested(`{"backup_codes":[`, "]}", 4_950), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := clerk.WithoutSecrets(json.RawMessage(tc.data), false); !says(err, tc.err) {
				t.Errorf("got %v, want %q", err, tc.err)
			}
			// Inngest's call holds the data a few levels deeper.
			if call := `{"events":[{"data":` + tc.data + `}]}`; tc.err == "" && !json.Valid([]byte(call)) {
				t.Error("encoding/json does not go as deep as we do")
			}
		})
	}
}

// FuzzWithoutSecrets compares with the obvious way: decode, delete, encode.
func FuzzWithoutSecrets(f *testing.F) {
	f.Add([]byte(`{"private_metadata":1,"phone_numbers":[{"backup_codes":["1"],"id":"x"}],`+
		`"public_metadata":{"backup_codes":1},"a":"\\\""}`), false)
	f.Add([]byte(`{"a":1,"private_metadata":{"a":[1,{"b":"}"}]} , "backup_codes":[]}`), true)
	f.Fuzz(func(t *testing.T, data []byte, keepPrivate bool) {
		e, err := clerk.ParseEnvelope(append(append([]byte(`{"type":"user.created","data":`), data...), '}'))
		if err != nil || len(e.Data) == 0 { // what is sent on has each key once
			return
		}
		checkCut(t, e.Data, keepPrivate)
	})
}

// FuzzSecretsAnywhere does so with JSON that is made for it: the names that matter, in each other, escaped, and with
// space between all.
func FuzzSecretsAnywhere(f *testing.F) {
	for seed := range uint64(500) {
		choices := make([]byte, 1<<10)
		_, _ = rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(choices) // never fails
		f.Add(choices, seed%2 == 0)
	}
	f.Fuzz(func(t *testing.T, choices []byte, keepPrivate bool) {
		g := grammar{choices: choices}
		g.value(0)
		checkCut(t, g.text, keepPrivate)
	})
}

func checkCut(t *testing.T, data json.RawMessage, keepPrivate bool) {
	t.Helper()
	got, err := clerk.WithoutSecrets(data, keepPrivate)
	if says(err, "beyond 64 bits") {
		return
	}
	if err != nil {
		t.Fatalf("of %s: %v", data, err)
	}
	var want, have any
	if err := errors.Join(json.Unmarshal(data, &want), json.Unmarshal(got, &have)); err != nil {
		t.Fatalf("of %s, %s: %v", data, got, err)
	}
	if cut := prune(want, keepPrivate, false); !cut && !bytes.Equal(got, data) {
		t.Errorf("of %s, which has no secret, got %s", data, got)
	}
	if d := cmp.Diff(want, have); d != "" {
		t.Errorf("of %s (-want +got):\n%s", data, d)
	}
	rest := data
	for _, b := range got { // nothing is added or moved
		i := bytes.IndexByte(rest, b)
		if i < 0 {
			t.Fatalf("of %s got %s", data, got)
		}
		rest = rest[i+1:]
	}
}

// grammar writes a JSON value by the choices that bytes make; when they are used up it ends soon.
type grammar struct {
	choices []byte
	text    []byte
}

// below returns a number below n.
func (g *grammar) below(n int) int {
	if len(g.choices) == 0 {
		return 0
	}
	c := int(g.choices[0])
	g.choices = g.choices[1:]
	return c % n
}

func (g *grammar) add(s string) { g.text = append(g.text, s...) }

func (g *grammar) oneOf(s ...string) { g.add(s[g.below(len(s))]) }

func (g *grammar) space() { g.oneOf("", "", "", " ", "\n\t", " \r\n ") }

func (g *grammar) value(depth int) {
	g.space()
	switch kind := g.below(8); {
	case kind < 3 || depth > 8:
		g.oneOf("null", "true", "false", "0", "-1.5E+3", "12345678901234567890", `""`, `"\\"`,
			`",\"private_metadata\":1"`, `"}]\u005d\ud800"`)
	case kind == 3:
		g.list('[', ']', func() { g.value(depth + 1) })
	default:
		names := map[string]bool{} // what is sent on has each once
		g.list('{', '}', func() {
			from := len(g.text)
			g.oneOf(`"private_metadata"`, `"private\u005fmetadata"`, `"\u0070rivate_metadata"`, `"backup_codes"`,
				`"backup_cod\u0065s"`,
				`"public_metadata"`, `"unsafe_metadata"`, `"unsafe\u005Fmetadata"`, `"private_metadata "`, `"id"`,
				`"\""`, `"\\"`, `","`, `"}"`)
			var name string
			if json.Unmarshal(g.text[from:], &name) != nil || names[name] {
				g.text = append(g.text[:from], fmt.Sprintf("%q", fmt.Sprint("x", len(names)))...)
				name = fmt.Sprint("x", len(names))
			}
			names[name] = true
			g.space()
			g.add(":")
			g.value(depth + 1)
		})
	}
	g.space()
}

// list writes up to four elements.
func (g *grammar) list(open, end byte, element func()) {
	g.text = append(g.text, open)
	for i := range g.below(5) {
		if i > 0 {
			g.add(",")
		}
		g.space()
		element()
	}
	g.space()
	g.text = append(g.text, end)
}

// prune takes the secrets out of what has been decoded, and tells whether there were any.
func prune(v any, keepPrivate, app bool) (cut bool) {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			cut = prune(e, keepPrivate, app) || cut
		}
	case map[string]any:
		n := len(v)
		if !app {
			delete(v, "backup_codes")
		}
		if !app && !keepPrivate {
			delete(v, "private_metadata")
		}
		cut = len(v) < n
		for k, e := range v {
			cut = prune(e, keepPrivate, app || k == "public_metadata" || k == "unsafe_metadata" ||
				k == "private_metadata") || cut
		}
	}
	return cut
}
