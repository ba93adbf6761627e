package inbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// ErrRefused says that Inngest does not take what was sent, however often it comes; so not when it is away, overloaded or in
// disagreement about the key.
var ErrRefused = errors.New("refused")

// EventAPI is Inngest's event API, POST /e/KEY (https://www.inngest.com/docs/events). inngestgo's Client.SendMany sends the same, but it
// encodes every event's data once more, which was a tenth of what a webhook costs; and it heeds no context.
type EventAPI struct {
	url, env string
	client   http.Client
}

// NewEventAPI returns the API of the server at a URL, without a path, for an event key. env is the branch environment, or "".
func NewEventAPI(server, key, env string) *EventAPI {
	return &EventAPI{url: server + "/e/" + url.PathEscape(key), env: env, client: http.Client{
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, MaxIdleConnsPerHost: senders, IdleConnTimeout: 90 * time.Second},
	}}
}

// Send returns nil when Inngest says that it has accepted every event, and ErrRefused when it never will. What may have been a hiccup is
// tried three times; Inngest knows an event by its id. No error holds the event key.
func (a *EventAPI) Send(ctx context.Context, events []Event) error {
	size := len("[]")
	for _, e := range events {
		size += len(e.ID) + len(e.Name) + len(e.Data) + 64 // the keys and the time
	}
	body := append(make([]byte, 0, size), '[')
	for i, e := range events {
		if i > 0 {
			body = append(body, ',')
		}
		body = e.append(body)
	}
	body = append(body, ']')
	wait := backoff.NewExponentialBackOff()
	wait.InitialInterval = 50 * time.Millisecond
	ids, err := backoff.Retry(ctx, func() (int, error) { return a.post(ctx, body) }, backoff.WithMaxTries(3), backoff.WithBackOff(wait))
	if err == nil && ids != len(events) {
		err = errors.New("what answered is not Inngest: check INNGEST_BASE_URL")
	}
	return err
}

// post returns how many events Inngest says that it has accepted.
func (a *EventAPI) post(ctx context.Context, body []byte) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.url, bytes.NewReader(body))
	if err != nil {
		return 0, backoff.Permanent(errors.New("the URL of Inngest cannot be used: check INNGEST_BASE_URL"))
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "clerksync")
	if a.env != "" {
		req.Header.Set("X-Inngest-Env", a.env)
	}
	res, err := a.client.Do(req)
	if u, ok := errors.AsType[*url.Error](err); ok { // quotes the URL, and that holds the event key
		err = u.Err
	}
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	var answer struct {
		IDs   []string
		Error string
	}
	// An answer that is no JSON holds no ids.
	_ = json.NewDecoder(io.LimitReader(res.Body, 1<<20)).Decode(&answer)
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 1<<10)) // so that the connection can be used again
	switch err := fmt.Errorf("it answers %d %s %s", res.StatusCode, http.StatusText(res.StatusCode), answer.Error); {
	case res.StatusCode < http.StatusMultipleChoices:
		return len(answer.IDs), nil
	case res.StatusCode == http.StatusBadRequest || res.StatusCode == http.StatusRequestEntityTooLarge:
		return 0, backoff.Permanent(fmt.Errorf("%w: %w", ErrRefused, err))
	case res.StatusCode < http.StatusInternalServerError:
		return 0, backoff.Permanent(err)
	default:
		return 0, err
	}
}
