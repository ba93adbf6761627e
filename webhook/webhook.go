// Package webhook takes Clerk's signed webhooks. It refuses what does not come from Clerk, and answers 2xx only after
// the event is durable.
package webhook

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"clerksync/clerk"
	"clerksync/inbox"
	"clerksync/inngest"

	"github.com/prometheus/client_golang/prometheus"
	svix "github.com/svix/svix-webhooks/go"
)

// Path is the path at which the service takes webhooks.
const Path = "/webhooks/clerk"

// SampleInstance is the instance in the events that 'clerksync send' makes. Clerk has no such instance.
const SampleInstance = "ins_2clerksyncSample"

// Unsigned is in the answer to an unsigned webhook. It is the error text of Svix's library.
const Unsigned = "missing required headers"

const (
	// MaxBody is the size of the largest body that is read, in bytes. Svix sends at most 350 KB.
	MaxBody = 512 << 10
	// putTimeout is how long a webhook waits for a slow database. Clerk gives up after 15 s.
	putTimeout = 8 * time.Second
	// retryAfter is the pause before Clerk tries again if the database does not answer. Svix obeys it up to twice the
	// pause in its own schedule.
	retryAfter = 5 * time.Second
	// minKey is the shortest key that a signing secret may have, in bytes. Clerk's have 24.
	minKey = 16
	// ahead is how much later than the svix-timestamp of its delivery an event may have happened: svix-timestamp is in
	// whole seconds, and Clerk's clock may differ from Svix's.
	ahead = 5 * time.Second
	// maxID limits the length of a svix-id, which becomes the key of a row.
	maxID = 256
)

// Options is what New needs.
type Options struct {
	// Secrets are the signing secrets that are accepted, "whsec_…". There may be several: Clerk rotates a secret
	// by a second endpoint with the same URL.
	Secrets []string
	// InstanceID is the Clerk instance whose events are accepted; "" accepts all.
	InstanceID string
	// SecretsName and InstanceName are what answers call these two options, such as the names of environment variables.
	SecretsName, InstanceName string
	// Forward are patterns (path.Match) of the types of events that go to Inngest. Types with one-time codes are
	// forwarded only if a pattern is their full name, see OneTimeCodes.
	Forward []string
	// ForwardPrivateMetadata keeps private_metadata in the events.
	ForwardPrivateMetadata bool
	// Seen, if set, is called for each verified webhook, with the Clerk instance that the event names. It is "" if the
	// event names none or SampleInstance.
	Seen func(at time.Time, instanceID string)
	// Answered, if set, is called after each webhook. It must be quick, because the answer is sent after it.
	Answered func(Answer)
	// Put makes an event durable. It is the method of an inbox.Inbox.
	Put        func(ctx context.Context, e inbox.Event) error
	Log        *slog.Logger
	Registerer prometheus.Registerer
}

// Handler serves POST /webhooks/clerk.
type Handler struct {
	o        Options
	hooks    []*svix.Webhook // one for each secret
	received *prometheus.CounterVec
	took     *prometheus.HistogramVec
}

// CheckSecret returns an error if a signing secret cannot be right. The text of the error is meant to follow the name
// of the secret, and does not quote it.
func CheckSecret(s string) error {
	_, err := newHook(s)
	return err
}

// newHook returns a verifier for one signing secret. The length is checked here because Svix's library accepts a key of
// one byte.
func newHook(secret string) (*svix.Webhook, error) {
	rest, ok := strings.CutPrefix(secret, "whsec_")
	if !ok {
		return nil, errors.New(`does not begin with "whsec_"`)
	}
	switch k, err := base64.StdEncoding.DecodeString(rest); {
	case err != nil:
		return nil, errors.New("is not base64 after whsec_")
	case len(k) < minKey:
		return nil, errors.New("is too short")
	default:
		return svix.NewWebhookRaw(k)
	}
}

// New returns the handler. It fails if there is no secret, or if a secret or a pattern cannot be used.
func New(o Options) (*Handler, error) {
	if len(o.Secrets) == 0 {
		return nil, errors.New("no signing secret")
	}
	h := &Handler{
		o: o,
		received: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "clerksync_webhooks_total", Help: "Webhooks by answer and its reason.",
		}, []string{"code", "reason"}),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "clerksync_webhook_duration_seconds", Help: "How long it took to answer a webhook.",
			// From an insert into a database on the same host to Clerk's patience, with putTimeout before it.
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 8, 15},
		}, []string{"code"}),
	}
	for _, s := range o.Secrets {
		hook, err := newHook(s)
		if err != nil {
			return nil, fmt.Errorf("a signing secret %w", err)
		}
		h.hooks = append(h.hooks, hook)
	}
	for _, p := range o.Forward {
		if _, err := path.Match(p, ""); err != nil {
			return nil, fmt.Errorf("pattern %q: %w", p, err)
		}
	}
	o.Registerer.MustRegister(h.received, h.took)
	return h, nil
}

// ServeHTTP answers 202 if the event is durable, 204 if its type is not forwarded, 200 if it is a probe, 400, 403, 413
// or 415 if it is refused, and 503 if it may be lost, so that Clerk sends it again.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	told := Answer{At: time.Now()}
	a := h.answer(w, r, &told)
	told.Code, told.Reason, told.Took = a.code, a.reason, time.Since(told.At)
	if a.reason != probed { // which says nothing about Clerk's webhooks
		code := strconv.Itoa(a.code)
		h.received.WithLabelValues(code, a.reason).Inc()
		h.took.WithLabelValues(code).Observe(told.Took.Seconds())
		if h.o.Answered != nil {
			h.o.Answered(told)
		}
	}
	if a.code == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", strconv.Itoa(int(retryAfter/time.Second)))
	}
	if a.text == "" {
		w.WriteHeader(a.code)
		return
	}
	http.Error(w, a.text, a.code)
}

// Answer says what a webhook was answered. ID and Type are "" unless its signature is right.
type Answer struct {
	ID, Type string // the svix-id, and Clerk's type of the event, which may be any text
	Code     int
	Reason   string    // one of those in docs/metrics.md
	At       time.Time // when it came
	Took     time.Duration
}

// answer is the answer to a webhook. The reason is for the metrics.
type answer struct {
	code         int
	reason, text string
}

func refusal(code int, reason, format string, args ...any) answer {
	return answer{code, reason, fmt.Sprintf(format, args...)}
}

func (h *Handler) answer(w http.ResponseWriter, r *http.Request, told *Answer) answer {
	tooLarge := refusal(http.StatusRequestEntityTooLarge, "body_too_large", "the body is larger than %d bytes", MaxBody)
	if r.ContentLength > MaxBody {
		return tooLarge
	}
	if typ := r.Header.Get("Content-Type"); typ != "" && typ != "application/json" {
		if media, _, _ := mime.ParseMediaType(typ); media != "application/json" {
			return answer{http.StatusUnsupportedMediaType, "not_json", "the content type is not application/json"}
		}
	}
	body, err := read(w, r) // the raw bytes, because the signature is over them
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return tooLarge
	}
	if err != nil {
		return answer{http.StatusBadRequest, "unreadable", "the body cannot be read"}
	}
	return h.accept(r.Context(), body, r.Header, told)
}

// accept answers a webhook with this body. It sets told's ID and Type, when the signature is verified.
func (h *Handler) accept(ctx context.Context, body []byte, header http.Header, told *Answer) answer {
	id, sent, err := h.verify(body, header)
	if err != nil {
		h.o.Log.WarnContext(ctx, "refused a webhook", "reason", err)
		return refusal(http.StatusBadRequest, "not_verified", "%v: check that %s is this endpoint's, and the clock",
			err, h.o.SecretsName)
	}
	if len(id) > maxID {
		return answer{http.StatusBadRequest, "not_an_event", "the svix-id is too long"}
	}
	told.ID = id
	e, err := clerk.ParseEnvelope(body)
	if err != nil {
		h.o.Log.WarnContext(ctx, "refused a signed webhook", "svix_id", id, "reason", err)
		return answer{http.StatusBadRequest, "not_an_event", err.Error()}
	}
	if e.Type == ProbeType {
		h.o.Log.InfoContext(ctx, "answered a probe of 'clerksync doctor'", "svix_id", id)
		return answer{http.StatusOK, probed, Proven}
	}
	told.Type = e.Type
	if h.o.InstanceID != "" && e.InstanceID != "" && e.InstanceID != h.o.InstanceID {
		h.o.Log.WarnContext(ctx, "refused a webhook of another Clerk instance",
			"svix_id", id, "instance_id", e.InstanceID)
		return refusal(http.StatusForbidden, "other_instance", "the event is of another Clerk instance than %s",
			h.o.InstanceName)
	}
	if e.InstanceID == SampleInstance {
		e.InstanceID = ""
	}
	if h.o.Seen != nil {
		h.o.Seen(time.Now(), e.InstanceID)
	}
	if !forwards(h.o.Forward, e.Type) {
		return answer{http.StatusNoContent, "not_forwarded", ""}
	}
	data, err := clerk.WithoutSecrets(e.Data, h.o.ForwardPrivateMetadata)
	if err != nil {
		if errors.Is(err, clerk.ErrNotObject) { // the body is JSON, so data is missing
			err = errors.New("the event has no data")
		}
		h.o.Log.WarnContext(ctx, "refused a signed webhook", "svix_id", id, "reason", err)
		return answer{http.StatusBadRequest, "not_an_event", err.Error()}
	}
	event := inbox.Event{ID: id, Name: inbox.EventName(e.Type), Data: data}
	event.TS, event.V = mend(e.Timestamp, sent)
	if size := event.Size(); size > inngest.MaxEventSize {
		h.o.Log.WarnContext(ctx, "refused a webhook that is too large for Inngest", "svix_id", id, "bytes", size)
		return refusal(http.StatusRequestEntityTooLarge, "event_too_large",
			"the event is larger than the %d bytes that Inngest takes", inngest.MaxEventSize)
	}
	ctx, cancel := context.WithTimeout(ctx, putTimeout)
	defer cancel()
	if err := h.o.Put(ctx, event); err != nil {
		h.o.Log.WarnContext(ctx, "could not make a webhook durable; Clerk will send it again",
			"svix_id", id, "error", err)
		return answer{http.StatusServiceUnavailable, "not_durable", "the database does not answer: send it again"}
	}
	h.o.Log.DebugContext(ctx, "webhook is durable", "svix_id", id, "type", e.Type)
	return answer{http.StatusAccepted, "durable", ""}
}

// verify checks that one of the secrets has signed the body, at most five minutes (Svix's limit) before or after now.
// It returns the id of the message and when it was sent, in whole seconds. Its errors quote nothing of the webhook.
func (h *Handler) verify(body []byte, header http.Header) (id string, sent time.Time, err error) {
	for _, hook := range h.hooks {
		if err = hook.Verify(body, header); err == nil {
			return signed(header)
		}
	}
	return "", time.Time{}, err
}

// signed returns the id and the time that the library has verified. The library itself does not return them. It uses
// the svix-* headers if all three are there, and else webhook-*. Headers of the other family are not verified: with an
// id from these, somebody could replay a webhook as another event.
func signed(header http.Header) (id string, sent time.Time, _ error) {
	family := "Svix-"
	for _, name := range []string{"Id", "Timestamp", "Signature"} {
		if header.Get("Svix-"+name) == "" {
			family = "Webhook-"
		}
	}
	seconds, err := strconv.ParseInt(header.Get(family+"Timestamp"), 10, 64)
	return header.Get(family + "Id"), time.Unix(seconds, 0), err
}

// read reads the body, at most MaxBody bytes. It allocates at once as much as the client announces; package app limits
// how many large bodies are read at the same time.
func read(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if r.ContentLength < 0 { // unknown: a buffer that grows would leave three times as much garbage
		body := bytes.NewBuffer(make([]byte, 0, MaxBody+bytes.MinRead))
		_, err := body.ReadFrom(http.MaxBytesReader(w, r.Body, MaxBody))
		return body.Bytes(), err
	}
	body := make([]byte, r.ContentLength)
	_, err := io.ReadFull(r.Body, body)
	return body, err
}

// OneTimeCodes returns which types of events with one-time codes the patterns forward, and which are left out although
// a pattern matches them. Inngest keeps events in its history, where such codes must not be. So these types are
// forwarded only if a pattern is their full name.
func OneTimeCodes(patterns []string) (forwarded, leftOut []string) {
	for _, typ := range codeTypes() {
		switch {
		case forwards(patterns, typ):
			forwarded = append(forwarded, typ)
		case matches(patterns, typ):
			leftOut = append(leftOut, typ)
		}
	}
	return forwarded, leftOut
}

// codeTypes returns the types of events whose data has a one-time code, or a link that signs the user in.
func codeTypes() []string { return []string{"email.created", "sms.created"} }

func forwards(patterns []string, typ string) bool {
	if slices.Contains(codeTypes(), typ) {
		return slices.Contains(patterns, typ)
	}
	return matches(patterns, typ)
}

func matches(patterns []string, typ string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, _ := path.Match(p, typ) // New has checked the patterns
		return ok
	})
}

// mend returns the time of an event, in milliseconds, changed if necessary so that Inngest accepts it: Inngest delays
// an event from the future until that time, and refuses one from before 1980. sent is the svix-timestamp, which is the
// time of this delivery by the sender's clock. With our own clock instead, if it were slow, all changes within a second
// would get the same time and be ordered by their arrival. v is inbox.ClerkTime if the result is Clerk's time and not
// the delivery's.
func mend(t clerk.Millis, sent time.Time) (ts int64, v string) {
	earliest := time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()
	if int64(t) < earliest {
		return sent.UnixMilli(), ""
	}
	return min(int64(t), sent.Add(ahead).UnixMilli()), inbox.ClerkTime
}
