// Package webhook is the signed ingress: it takes Clerk's webhooks, refuses what is not Clerk's, and answers 2xx only
// when the event is durable.
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

// Path is where the service takes webhooks.
const Path = "/webhooks/clerk"

// Unsigned is in the answer to a webhook that is not signed. It is what Svix's library says.
const Unsigned = "missing required headers"

const (
	// MaxBody is the largest body that is read, in bytes. Svix sends 350 KB at the most.
	MaxBody = 512 << 10
	// putTimeout is how long Clerk waits for a slow database; it gives up by itself after 15 s.
	putTimeout = 8 * time.Second
	// retryAfter is when Clerk may come again while the database is down. Svix honours it up to twice its own schedule.
	retryAfter = 5 * time.Second
	// minKey is the shortest key of a signing secret, in bytes. Clerk's have 24.
	minKey = 16
	// ahead is how much later than its delivery an event may be: svix-timestamp is whole seconds, and Clerk's clock is
	// not Svix's.
	ahead = 5 * time.Second
	// maxID bounds a svix-id, which becomes the key of a row.
	maxID = 256
)

// Putter makes an event durable: an inbox.Inbox.
type Putter interface {
	Put(ctx context.Context, e inbox.Event) error
}

// Options is what New needs.
type Options struct {
	// Secrets are the signing secrets that are accepted, "whsec_…": several, because Clerk rotates by a second endpoint
	// on the same URL.
	Secrets []string
	// InstanceID is the Clerk instance whose events are taken; "" takes all.
	InstanceID string
	// Forward are patterns (path.Match) of the types that go to Inngest; see OneTimeCodes for those that have to be
	// named.
	Forward []string
	// ForwardPrivateMetadata keeps private_metadata in the events.
	ForwardPrivateMetadata bool
	// Seen, if set, is told when Clerk has reached us, and the instance that the event names; "" if it names none.
	Seen       func(at time.Time, instanceID string)
	Inbox      Putter
	Log        *slog.Logger
	Registerer prometheus.Registerer
}

// Handler serves POST /webhooks/clerk.
type Handler struct {
	Options
	hooks    []*svix.Webhook // one for each of Secrets
	received *prometheus.CounterVec
}

// CheckSecret returns an error that says what is wrong with a signing secret, without quoting it.
func CheckSecret(s string) error {
	_, err := newHook(s)
	return err
}

// newHook returns what verifies the signatures of a signing secret. Svix's library itself takes a key of one byte.
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

// New returns the handler. It fails if there is no secret, or a secret or a pattern cannot be used.
func New(o Options) (*Handler, error) {
	if len(o.Secrets) == 0 {
		return nil, errors.New("no signing secret")
	}
	h := &Handler{Options: o, received: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "clerksync_webhooks_total", Help: "Webhooks by answer and its reason.",
	}, []string{"code", "reason"})}
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
	o.Registerer.MustRegister(h.received)
	return h, nil
}

// ServeHTTP answers 202 when the event is durable, 204 to types that are not forwarded, 400, 403 or 413 to what is
// refused, and 503 when the event may be lost, so that Clerk sends it again.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a := h.answer(w, r)
	h.received.WithLabelValues(strconv.Itoa(a.code), a.reason).Inc()
	if a.code == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", strconv.Itoa(int(retryAfter/time.Second)))
	}
	if a.text == "" {
		w.WriteHeader(a.code)
		return
	}
	http.Error(w, a.text, a.code)
}

// answer is what a webhook gets; the reason is for the metrics.
type answer struct {
	code         int
	reason, text string
}

func (h *Handler) answer(w http.ResponseWriter, r *http.Request) answer {
	ctx := r.Context()
	tooLarge := func() answer {
		return answer{http.StatusRequestEntityTooLarge, "body_too_large", fmt.Sprintf("the body is larger than %d bytes", MaxBody)}
	}
	if r.ContentLength > MaxBody {
		return tooLarge()
	}
	if typ := r.Header.Get("Content-Type"); typ != "" && typ != "application/json" {
		if media, _, _ := mime.ParseMediaType(typ); media != "application/json" {
			return answer{http.StatusUnsupportedMediaType, "not_json", "the content type is not application/json"}
		}
	}
	body, err := read(w, r) // the raw bytes: they are what is signed
	if tooMany := (*http.MaxBytesError)(nil); errors.As(err, &tooMany) {
		return tooLarge()
	}
	if err != nil {
		return answer{http.StatusBadRequest, "unreadable", "the body cannot be read"}
	}
	id, sent, err := h.verify(body, r.Header)
	if err != nil {
		h.Log.WarnContext(ctx, "refused a webhook", "reason", err)
		return answer{http.StatusBadRequest, "not_verified", err.Error() + ": check that CLERK_WEBHOOK_SIGNING_SECRET is this endpoint's, and the clock"}
	}
	if len(id) > maxID {
		return answer{http.StatusBadRequest, "not_an_event", "the svix-id is too long"}
	}
	e, err := clerk.ParseEnvelope(body)
	if err != nil {
		h.Log.WarnContext(ctx, "refused a signed webhook", "svix_id", id, "reason", err)
		return answer{http.StatusBadRequest, "not_an_event", err.Error()}
	}
	if h.InstanceID != "" && e.InstanceID != "" && e.InstanceID != h.InstanceID {
		h.Log.WarnContext(ctx, "refused a webhook of another Clerk instance", "svix_id", id, "instance_id", e.InstanceID)
		return answer{http.StatusForbidden, "other_instance", "the event is of another Clerk instance than CLERK_INSTANCE_ID"}
	}
	if h.Seen != nil {
		h.Seen(time.Now(), e.InstanceID)
	}
	if !forwards(h.Forward, e.Type) {
		return answer{http.StatusNoContent, "not_forwarded", ""}
	}
	data, err := clerk.WithoutSecrets(e.Data, h.ForwardPrivateMetadata)
	if err != nil {
		if errors.Is(err, clerk.ErrNotObject) {
			err = errors.New("the event has no data")
		}
		h.Log.WarnContext(ctx, "refused a signed webhook", "svix_id", id, "reason", err)
		return answer{http.StatusBadRequest, "not_an_event", err.Error()}
	}
	event := inbox.Event{ID: id, Name: "clerk/" + e.Type, Data: data}
	ts, clerks := mend(e.Timestamp, sent)
	if event.TS = ts; clerks {
		event.V = inbox.ClerkTime
	}
	if size := event.Size(); size > inngest.MaxEventSize {
		h.Log.WarnContext(ctx, "refused a webhook that is too large for Inngest", "svix_id", id, "bytes", size)
		return answer{http.StatusRequestEntityTooLarge, "event_too_large", fmt.Sprintf("the event is larger than the %d bytes that Inngest takes", inngest.MaxEventSize)}
	}
	ctx, cancel := context.WithTimeout(ctx, putTimeout)
	defer cancel()
	if err := h.Inbox.Put(ctx, event); err != nil {
		h.Log.WarnContext(ctx, "could not make a webhook durable; Clerk will send it again", "svix_id", id, "error", err)
		return answer{http.StatusServiceUnavailable, "not_durable", "the database does not answer: send it again"}
	}
	h.Log.DebugContext(ctx, "webhook is durable", "svix_id", id, "type", e.Type)
	return answer{http.StatusAccepted, "durable", ""}
}

// verify returns the id of the message, and to the second when it was sent, if one of the secrets has signed the body
// within Svix's five minutes of now. No error quotes anything.
func (h *Handler) verify(body []byte, header http.Header) (id string, sent time.Time, err error) {
	for _, hook := range h.hooks {
		if err = hook.Verify(body, header); err == nil {
			return signed(header)
		}
	}
	return "", time.Time{}, err
}

// signed returns what the library has verified of the headers, which it does not tell: it takes the svix-* family only
// if all three are there, and else webhook-*. A header of the other family is not signed, and would make another event
// of a webhook that somebody replays.
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

// read reads the body, MaxBody at the most. What a client announces is allocated at once: boundMemory bounds how many
// large ones there are.
func read(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if r.ContentLength < 0 { // at once too: a buffer that grows leaves three times as much behind
		body := bytes.NewBuffer(make([]byte, 0, MaxBody+bytes.MinRead))
		_, err := body.ReadFrom(http.MaxBytesReader(w, r.Body, MaxBody))
		return body.Bytes(), err
	}
	body := make([]byte, r.ContentLength)
	_, err := io.ReadFull(r.Body, body)
	return body, err
}

// OneTimeCodes returns those types of event that hold one-time codes and are forwarded by the patterns, and those that
// are left out though a pattern matches them: they would be kept in Inngest's history, where a code has no business.
// Only its name forwards one.
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

// codeTypes are those whose data holds a one-time code or a link that signs in.
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

// mend returns the time of an event as Inngest takes it, in milliseconds: it delays an event from the future until
// then, and refuses one from before 1980. sent is the svix-timestamp, the time of this delivery by the sender's clock,
// to which ours is of no use: a slow one would give the changes of a second the order of their arrival. clerks tells
// whether it is Clerk's time, and not that of the delivery.
func mend(t clerk.Millis, sent time.Time) (ts int64, clerks bool) {
	earliest := time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()
	if int64(t) < earliest {
		return sent.UnixMilli(), false
	}
	return min(int64(t), sent.Add(ahead).UnixMilli()), true
}
