package clerk_test

import (
	"testing"
	"time"

	"clerksync/clerk"
	"clerksync/internal/testenv"
)

// TestUserID: only what has Clerk's form is one of Clerk's ids, and such an id tells when it was made.
func TestUserID(t *testing.T) {
	t.Parallel()
	for id, want := range map[string]string{
		"user_0ujtsYcgvSTl8PAuAdqWYSMnLOv":  "2017-10-10T04:00:47Z", // the example of the KSUID's README
		"user_000000000000000000000000000":  "2014-05-13T16:53:20Z",
		"user_aWgEPTl1tmebfsQzFP4bxwgy80V":  "2150-06-19T23:21:35Z", // the greatest KSUID
		"user_0ujtsYcgvSTl8PAuAdqWYSMnLO":   "",
		"user_0ujtsYcgvSTl8PAuAdqWYSMnLOvv": "",
		"user_0ujtsYcgvSTl8PAuAdqWYSMnLO-":  "",
		"user_0ujtsYcgvSTl8PAuAdqWYSMnLé":   "",
		"0ujtsYcgvSTl8PAuAdqWYSMnLOv":       "",
		"org_0ujtsYcgvSTl8PAuAdqWYSMnLOvzz": "",
		"user_system":                       "",
		"":                                  "",
	} {
		if got := clerk.IsUserID(id); got != (want != "") {
			t.Errorf("%q: got %v, want %v", id, got, want != "")
		}
		got := clerk.UserIDMadeAt(id)
		if want == "" && !got.IsZero() || want != "" && got.UTC().Format(time.RFC3339) != want {
			t.Errorf("%q was made at %v, want %q", id, got.UTC(), want)
		}
	}
	for i := range int64(100) {
		want := time.Unix(1_767_603_600+i*86_400, 0)
		if id := testenv.UserID(want, i); !clerk.UserIDMadeAt(id).Equal(want) {
			t.Errorf("%s was made at %v, want %v", id, clerk.UserIDMadeAt(id), want)
		}
	}
}
