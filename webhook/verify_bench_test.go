package webhook

import (
	"bytes"
	"testing"
	"time"

	"clerksync/internal/testenv"

	svix "github.com/svix/svix-webhooks/go"
)

// BenchmarkVerify checks the signature of a webhook of 2.5 KB.
func BenchmarkVerify(b *testing.B) {
	hook, err := newHook(testenv.Secret)
	if err != nil {
		b.Fatal(err)
	}
	h := Handler{hooks: []*svix.Webhook{hook}}
	body := bytes.Repeat([]byte("x"), 2500)
	header := testenv.Signed(b, "/", testenv.Secret, "msg_1", time.Now(), body).Header
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := h.verify(body, header); err != nil {
			b.Fatal(err)
		}
	}
}
