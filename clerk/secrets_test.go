package clerk_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"clerksync/clerk"

	"github.com/google/go-cmp/cmp"
)

// TestWithoutSecrets: what is secret goes with its comma, wherever it stands, and not a byte else.
func TestWithoutSecrets(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		data, want string
		err        error
	}{
		"nothing":            {data: `{"id":"user_1","n":[1,{}]}`, want: `{"id":"user_1","n":[1,{}]}`},
		"alone":              {data: `{"private_metadata":{"a":1}}`, want: `{}`},
		"first":              {data: `{"private_metadata":{"a":1},"id":"x"}`, want: `{"id":"x"}`},
		"last":               {data: `{"id":"x","private_metadata":null}`, want: `{"id":"x"}`},
		"between":            {data: `{"id":"x","private_metadata":[1,2],"b":1}`, want: `{"id":"x","b":1}`},
		"two and nothing":    {data: `{"private_metadata":1,"backup_codes":2}`, want: `{}`},
		"two first":          {data: `{"private_metadata":1,"backup_codes":2,"id":"x"}`, want: `{"id":"x"}`},
		"two last":           {data: `{"id":"x","private_metadata":1,"backup_codes":2}`, want: `{"id":"x"}`},
		"around":             {data: `{"private_metadata":1,"id":"x","backup_codes":2}`, want: `{"id":"x"}`},
		"spaces":             {data: "{ \"id\" : \"x\" ,\n \"private_metadata\" : 1 }", want: "{ \"id\" : \"x\" }"},
		"spaces, first":      {data: "{\t\"private_metadata\" : { } , \"id\" : \"x\" }", want: "{\t \"id\" : \"x\" }"},
		"an escaped name":    {data: `{"id":"x","private\u005fmetadata":1}`, want: `{"id":"x"}`},
		"strings with signs": {data: `{"a":"},{\"private_metadata\":","b":"\\","private_metadata":"\\\"","c":"]"}`, want: `{"a":"},{\"private_metadata\":","b":"\\","c":"]"}`},
		"deep":               {data: `[[{"a":[{"backup_codes":["1"],"id":1},{"id":2}]}]]`, want: `[[{"a":[{"id":1},{"id":2}]}]]`},
		"the app's own":      {data: `{"unsafe_metadata":{"backup_codes":1,"x":{"private_metadata":1}},"private_metadata":1}`, want: `{"unsafe_metadata":{"backup_codes":1,"x":{"private_metadata":1}}}`},
		"no object":          {data: `true`, want: `true`},
		"digits":             {data: `{"n":12345678901234567890,"e":-1.5e+300}`, want: `{"n":12345678901234567890,"e":-1.5e+300}`},
		"too large":          {data: `{"n":1e309}`, err: clerk.ErrNumber},
		"too long":           {data: `{"n":` + strings.Repeat("9", 310) + `}`, err: clerk.ErrNumber},
		"too large, secret":  {data: `{"private_metadata":{"n":1e309}}`, err: clerk.ErrNumber},
		"no JSON":            {data: `{"a":}`, err: clerk.ErrNotObject},
		"empty":              {data: ``, err: clerk.ErrNotObject},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := clerk.WithoutSecrets(json.RawMessage(tc.data), false)
			if string(got) != tc.want || !errors.Is(err, tc.err) {
				t.Errorf("got %s, %v, want %s, %v", got, err, tc.want, tc.err)
			}
		})
	}
}

// FuzzWithoutSecrets compares with the obvious way: decode, delete, encode.
func FuzzWithoutSecrets(f *testing.F) {
	f.Add([]byte(`{"private_metadata":1,"phone_numbers":[{"backup_codes":["1"],"id":"x"}],"public_metadata":{"backup_codes":1},"a":"\\\""}`), false)
	f.Add([]byte(`{"a":1,"private_metadata":{"a":[1,{"b":"}"}]} , "backup_codes":[]}`), true)
	f.Fuzz(func(t *testing.T, data []byte, keepPrivate bool) {
		e, err := clerk.ParseEnvelope(append(append([]byte(`{"type":"user.created","data":`), data...), '}'))
		if err != nil || len(e.Data) == 0 { // what is sent on has each key once
			return
		}
		got, err := clerk.WithoutSecrets(e.Data, keepPrivate)
		if errors.Is(err, clerk.ErrNumber) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		var want, have any
		if err := errors.Join(json.Unmarshal(e.Data, &want), json.Unmarshal(got, &have)); err != nil {
			t.Fatalf("%s: %v", got, err)
		}
		prune(want, keepPrivate, false)
		if d := cmp.Diff(want, have); d != "" {
			t.Errorf("of %s (-want +got):\n%s", data, d)
		}
	})
}

// prune takes the secrets out of what has been decoded.
func prune(v any, keepPrivate, app bool) {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			prune(e, keepPrivate, app)
		}
	case map[string]any:
		if !app {
			delete(v, "backup_codes")
		}
		if !app && !keepPrivate {
			delete(v, "private_metadata")
		}
		for k, e := range v {
			prune(e, keepPrivate, app || k == "public_metadata" || k == "unsafe_metadata" || k == "private_metadata")
		}
	}
}
