package inbox

import (
	"strings"
	"testing"
)

// TestEventID: what is written is read back, and what is no sending of another id is an id of its own.
func TestEventID(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]EventID{
		"msg_1":                            {Row: "msg_1"},
		"msg_1:r1":                         {Row: "msg_1", Sends: 1},
		"msg_1:r12":                        {Row: "msg_1", Sends: 12},
		"msg_1:replay2":                    {Row: "msg_1", Sends: 2, Replayed: true},
		"msg_1:replay0":                    {Row: "msg_1", Replayed: true}, // a dead letter that Inngest never took
		"msg_1:send-welcome-email":         {Row: "msg_1:send-welcome-email"},
		"msg_1:send-welcome-email:replay1": {Row: "msg_1:send-welcome-email", Sends: 1, Replayed: true},
		"msg_1:r1:r2":                      {Row: "msg_1:r1", Sends: 2},
		"odd:r":                            {Row: "odd:r"},
		"odd:rx":                           {Row: "odd:rx"},
		"odd:r0":                           {Row: "odd:r0"},
		"odd:r05":                          {Row: "odd:r05"},
		"odd:r+5":                          {Row: "odd:r+5"},
		"odd:replay":                       {Row: "odd:replay"},
		"odd:replay00":                     {Row: "odd:replay00"},
		"odd:r99999999999999999999999999":  {Row: "odd:r99999999999999999999999999"},
		"":                                 {},
	} {
		got := ParseEventID(s)
		if got != want {
			t.Errorf("%q: got %+v, want %+v", s, got, want)
		}
		if got.String() != s {
			t.Errorf("%q is written %q", s, got)
		}
	}
	for s, want := range map[string]string{
		"msg_1": "msg_1:f", "msg_1:r3": "msg_1:f", "msg_1:f": "msg_1:f", "msg_1:f:replay1": "msg_1:f",
	} {
		own := ParseEventID(s).Own("f")
		if own.String() != want || own.Message("f") != "msg_1" {
			t.Errorf("%q: got the dead letter %q of %q, want %q of msg_1", s, own, own.Message("f"), want)
		}
		if got := ParseEventID(s).IsOwn("f"); got != strings.HasPrefix(s, want) {
			t.Errorf("%q: is the function's own: %v", s, got)
		}
	}
	for function, want := range map[string]bool{
		"r5": true, "replay2": true, "replay0": true,
		"r": false, "r0": false, "replay": false, "r5d2": false, "f": false,
	} {
		if got := Ambiguous(function); got != want {
			t.Errorf("the function %s: ambiguous is %v, want %v", function, got, want)
		}
	}
}
