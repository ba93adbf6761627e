package webhook

import (
	"bytes"
	"testing"
	"time"

	"clerksync/internal/testenv"
)

// BenchmarkVerify checks the signature of a webhook of 2.5 KB.
func BenchmarkVerify(b *testing.B) {
	k, err := key(testenv.Secret)
	if err != nil {
		b.Fatal(err)
	}
	body := bytes.Repeat([]byte("x"), 2500)
	header := testenv.Signed(b, "/", testenv.Secret, "msg_1", time.Now(), body).Header
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := verify([][]byte{k}, body, header, time.Now()); err != nil {
			b.Fatal(err)
		}
	}
}
