package inbox

import (
	"testing"
	"time"
)

func TestIDs(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		id       string
		n        int
		replayed bool
		want     string
	}{
		{"msg_1", 0, false, "msg_1"},
		{"msg_1", 1, false, "msg_1:r1"},
		{"msg_1", 12, false, "msg_1:r12"},
		{"msg_1", 2, true, "msg_1:replay2"},
		{"msg_1:send-welcome-email", 1, true, "msg_1:send-welcome-email:replay1"},
		{"odd:r", 2, false, "odd:r:r2"},
		{"odd:rx", 0, false, "odd:rx"},
		{"odd:replay", 0, false, "odd:replay"},
	} {
		got := sendID(tc.id, tc.n, tc.replayed)
		if got != tc.want {
			t.Errorf("sendID(%q, %d, %v) = %q, want %q", tc.id, tc.n, tc.replayed, got, tc.want)
		}
		if id, replayed := MessageID(got), Replayed(got); id != tc.id || replayed != tc.replayed {
			t.Errorf("%q: got %q, replayed %v, want %q, %v", got, id, replayed, tc.id, tc.replayed)
		}
	}
}

func TestResendInterval(t *testing.T) {
	t.Parallel()
	b := &Inbox{Options: Options{ResendAfter: time.Minute}}
	for n, want := range map[int]time.Duration{0: time.Minute, 1: time.Minute, 2: 2 * time.Minute, 4: 8 * time.Minute, 7: time.Hour, 1000: time.Hour} {
		if got := b.resendInterval(n); got != want {
			t.Errorf("after sending %d: %v, want %v", n, got, want)
		}
	}
}
