package inngest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/go-json-experiment/json/jsontext"
)

// Event is an event as Inngest's event API takes it (https://www.inngest.com/docs/events).
type Event struct {
	ID   string          // Inngest ignores an event whose ID it has seen in the last 24 hours
	Name string          // such as "clerk/user.created"
	Data json.RawMessage // sent as it is
	TS   int64           // in milliseconds since 1970
	V    string          // the version of the event's data; left out if empty
}

// MaxEventSize is the size in bytes of the largest event that every Inngest accepts: the limit of its free plan
// (https://www.inngest.com/docs/usage-limits/inngest).
const MaxEventSize = 256 << 10

// Size returns the size of the event in bytes, as Inngest counts it.
func (e Event) Size() int {
	return len(Event{ID: e.ID, Name: e.Name, TS: e.TS, V: e.V}.append(nil)) + len(e.Data)
}

// append appends the event as JSON. The data is JSON already, and is copied unchanged.
func (e Event) append(b []byte) []byte {
	b = append(b, `{"id":`...)
	b, _ = jsontext.AppendQuote(b, e.ID) // the error only says that it replaced invalid UTF-8
	b = append(b, `,"name":`...)
	b, _ = jsontext.AppendQuote(b, e.Name)
	b = append(b, `,"data":`...)
	b = append(b, e.Data...)
	b = append(b, `,"ts":`...)
	b = strconv.AppendInt(b, e.TS, 10)
	if e.V != "" {
		b = append(b, `,"v":`...)
		b, _ = jsontext.AppendQuote(b, e.V)
	}
	return append(b, '}')
}

// These errors of Send say something about the events. Any other error says nothing about them: Inngest is away or
// overloaded, or does not accept the key.
var (
	// ErrRefused says that Inngest itself has answered that it will never accept one of the events.
	ErrRefused = errors.New("refused")
	// ErrBlocked says that Inngest, or something between here and Inngest, answered 4xx, perhaps because of one of the
	// events. It may let that event through at another time.
	ErrBlocked = errors.New("not let through")
)

const (
	// maxRetryAfter bounds the pause that an answer may ask for.
	maxRetryAfter = time.Minute
	// idleConns is how many connections are kept open: as many requests as the inbox sends at the same time.
	idleConns = 4
)

// EventAPI is Inngest's event API, POST /e/KEY (https://www.inngest.com/docs/events). It does the same as inngestgo's
// Client.SendMany, which encodes every event's data once more, a tenth of the cost of a webhook, and ignores the
// context.
type EventAPI struct {
	server Server
	client http.Client
}

// EventAPI returns the event API of the server. It sends events with the server's event key.
func (s Server) EventAPI() *EventAPI {
	return &EventAPI{s, http.Client{Transport: &http.Transport{
		Proxy: http.ProxyFromEnvironment, MaxIdleConnsPerHost: idleConns, IdleConnTimeout: 90 * time.Second,
	}}}
}

// Send returns nil if Inngest says that it has accepted every event. The error may be ErrRefused or ErrBlocked, and
// holds a backoff.RetryAfterError if the answer has a Retry-After. After a network error or a 5xx, Send tries up to
// three times; Inngest recognizes the events by their ids. No error holds the event key.
func (a *EventAPI) Send(ctx context.Context, events []Event) error {
	size := 0 // growing the body would copy all events several times
	for _, e := range events {
		size += len(e.Data) + 300 // for the other fields
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
	post := func() (int, error) { return a.post(ctx, body) }
	ids, err := backoff.Retry(ctx, post, backoff.WithMaxTries(3), backoff.WithBackOff(wait))
	if err == nil && ids != len(events) {
		err = errors.New("what answered is not Inngest: check its URL")
	}
	return err
}

// post returns how many events Inngest says that it has accepted.
func (a *EventAPI) post(ctx context.Context, body []byte) (int, error) {
	res, err := a.server.call(ctx, &a.client, http.MethodPost, a.server.eventsURL(), "", body)
	if res == nil {
		return 0, err
	}
	var answer struct {
		IDs    []string
		Status int
		Error  string
	}
	_ = json.Unmarshal(res.body, &answer) // an answer that is not JSON has no ids, and is not Inngest's own
	code := res.code
	err = fmt.Errorf("it answers %d %s %s", code, http.StatusText(code), answer.Error)
	own := answer.Error != "" && answer.Status == code
	ofNoEvent := slices.Contains([]int{
		http.StatusUnauthorized, http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests,
	}, code)
	switch {
	case code < http.StatusMultipleChoices:
		return len(answer.IDs), nil
	case own && (code == http.StatusBadRequest || code == http.StatusRequestEntityTooLarge):
		return 0, backoff.Permanent(fmt.Errorf("%w: %w", ErrRefused, err))
	case code >= http.StatusBadRequest && code < http.StatusInternalServerError && !ofNoEvent:
		return 0, backoff.Permanent(fmt.Errorf("%w: %w", ErrBlocked, err))
	}
	if pause := retryAfter(res.header.Get("Retry-After"), time.Now()); pause > 0 {
		return 0, backoff.Permanent(fmt.Errorf("%w: %w", err, &backoff.RetryAfterError{Duration: pause}))
	}
	if code < http.StatusInternalServerError {
		return 0, backoff.Permanent(err)
	}
	return 0, err
}

// retryAfter reads the header Retry-After, which has seconds or a time (RFC 9110, 10.2.3). It returns 0 if there is
// none.
func retryAfter(header string, now time.Time) time.Duration {
	if s, err := strconv.ParseUint(header, 10, 31); err == nil {
		return min(time.Duration(s)*time.Second, maxRetryAfter)
	}
	if t, err := http.ParseTime(header); err == nil {
		return min(max(t.Sub(now), 0), maxRetryAfter)
	}
	return 0
}
