package inbox

import (
	"testing"
	"time"
)

func TestResendInterval(t *testing.T) {
	t.Parallel()
	b := &Inbox{Options: Options{ResendAfter: time.Minute}}
	for n, want := range map[int]time.Duration{
		0: time.Minute, 1: time.Minute, 2: 2 * time.Minute, 4: 8 * time.Minute, 7: time.Hour, 1000: time.Hour,
	} {
		if got := b.resendInterval(n); got != want {
			t.Errorf("after sending %d: %v, want %v", n, got, want)
		}
	}
}
