package webhook

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	svix "github.com/svix/svix-webhooks/go"
)

// ProbeType is the type of the events by which 'clerksync doctor --url' tries whether the service has a signing secret.
// A probe is verified like every webhook. Then it is answered with Proven and that is all: it is not forwarded, not
// stored, not counted, and not taken for a webhook of Clerk's, so that it cannot end the alarm that none come.
const ProbeType = "clerksync.probe"

// Proven is in the answer to a probe whose signature is right.
const Proven = "the signature is right"

// probed is the reason of the answer to a probe.
const probed = "probe"

// Signed returns a request that posts an event to a URL as Clerk's sender does: signed with the secret now, under this
// svix-id.
func Signed(ctx context.Context, url, secret, id string, event []byte) (*http.Request, error) {
	now := time.Now()
	hook, err := svix.NewWebhook(secret)
	if err != nil {
		return nil, fmt.Errorf("signing secret: %w", err)
	}
	signature, err := hook.Sign(id, now, event)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(event))
	if err != nil {
		return nil, err
	}
	req.Header = http.Header{
		"Content-Type": {"application/json"}, "Svix-Id": {id}, "Svix-Signature": {signature},
		"Svix-Timestamp": {strconv.FormatInt(now.Unix(), 10)},
	}
	return req, nil
}

// Post sends a request as Clerk's sender does: it follows no redirect.
func Post(req *http.Request) (*http.Response, error) {
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return client.Do(req)
}
