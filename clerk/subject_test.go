package clerk_test

import (
	"encoding/json"
	"testing"

	"clerksync/clerk"
)

func TestIsOf(t *testing.T) {
	t.Parallel()
	for data, want := range map[string]string{
		`{"id":"user_a","object":"user"}`:                          "is",
		`{"id":"user_a","object":"user","email_addresses":7}`:      "is",
		`{"id":"user_a","deleted":true}`:                           "deletion",
		`{"data":{"id":"user_a","deleted":true},"headers":{}}`:     "deletion",
		`{"type":"user.deleted","data":{"id":"user_a"}}`:           "is",
		`{"id":"user_a","deleted":"yes"}`:                          "is",
		`{"id":"user_b","public_metadata":{"user_id":"user_a"}}`:   "",
		`{"id":"user_b","deleted":true,"by":{"user_id":"user_a"}}`: "",
		`{"id":"sess_1","user_id":"user_a"}`:                       "is",
		`{"id":"sess_1","user_id":"user_b"}`:                       "",
		`{"id":"m","public_user_data":{"user_id":"user_a"}}`:       "is",
		`{"id":"i","items":[{"payer":{"user_id":"user_a"}}]}`:      "is",
		`{"id":"org_1","created_by":"user_a"}`:                     "",
		`{"id":"user_ab"}`:                                         "",
		`{"id":7,"user_id":"user_a"}`:                              "is",
		`null`:                                                     "",
		`{"id":"user_a"`:                                           "is",
		`{"id":"user_b"`:                                           "",
		`["user_a"]`:                                               "is",
		``:                                                         "",
	} {
		is, deletion := clerk.IsOf(json.RawMessage(data), "user_a")
		got := ""
		switch {
		case deletion:
			got = "deletion"
		case is:
			got = "is"
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", data, got, want)
		}
	}
}
