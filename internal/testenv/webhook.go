package testenv

import (
	"bytes"
	"net/http"
	"strconv"
	"testing"
	"time"

	svix "github.com/svix/svix-webhooks/go"
)

// Secret is a signing secret for tests, of the length of Clerk's.
const Secret = "whsec_Y2xlcmtzeW5jIHRlc3Qgc2VjcmV0IDE="

// Signed returns a webhook as Svix posts it: signed with the secret for the message id at the given time.
func Signed(t testing.TB, url, secret, id string, at time.Time, body []byte) *http.Request {
	t.Helper()
	wh, err := svix.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	sig, err := wh.Sign(id, at, body)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("svix-id", id)
	req.Header.Set("svix-timestamp", strconv.FormatInt(at.Unix(), 10))
	req.Header.Set("svix-signature", sig)
	return req
}
