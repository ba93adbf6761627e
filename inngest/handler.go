// Package inngest holds all that talks to Inngest, but for the SDK's handler, which it wraps: the verification of
// Inngest's calls, the registration of the functions, the event API and what else Inngest is asked.
package inngest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/inngest/inngestgo"
)

const (
	// registerTimeout is how long Inngest may take to answer what a registration asks.
	registerTimeout = 5 * time.Second
	// checkpointTimeout is how long a checkpoint may take: the client in the SDK has it, and nobody can set it.
	checkpointTimeout = 30 * time.Second
)

// WriteTimeout returns how long a server must let a call of the functions take, if what they do takes run at the most:
// a checkpoint that is not answered comes on top.
func WriteTimeout(run time.Duration) time.Duration { return run + checkpointTimeout + 30*time.Second }

// Options is what New needs.
type Options struct {
	Server Server
	// Origin is the URL at which Inngest reaches this service, without a path, which is Path. It may be "" for Inngest
	// Cloud, which knows it.
	Origin, Path string
	// Register creates the functions in a client. It is called twice, for with checkpoints a run of one step is one
	// request instead of two.
	Register func(client inngestgo.Client, checkpoint bool) error
	MaxBody  int64 // of a call, in bytes
	Log      *slog.Logger
}

// Handler answers Inngest's calls of the functions, and tells Inngest of them.
type Handler struct {
	http.Handler // answers one call; those that Inngest has not signed are refused, but for a dev server's

	o       Options
	key     string                // that the SDK's clients have
	clients map[bool]http.Handler // the SDK's handlers: with checkpoints, and without
	// checkpoints tells whether the server takes them. A run may begin without and go on with them, or the other way
	// round: its steps are the same.
	checkpoints atomic.Bool
	registered  chan struct{}
}

// New creates the functions twice, with and without checkpoints, for the SDK lets nobody change that later.
func New(o Options) (*Handler, error) {
	s := o.Server
	h := &Handler{o: o, key: s.SigningKey, clients: map[bool]http.Handler{}, registered: make(chan struct{})}
	if h.key == "" { // of a dev server; without a key the SDK would not list the functions
		h.key = fmt.Sprintf("%x", rand.Text())
	}
	for _, checkpoint := range []bool{false, true} {
		var err error
		if h.clients[checkpoint], err = h.client(checkpoint); err != nil {
			return nil, err
		}
	}
	sdk := func(w http.ResponseWriter, r *http.Request) { h.sdk().ServeHTTP(w, r) }
	h.Handler = guard(http.HandlerFunc(sdk), s, o.MaxBody, o.Log)
	h.checkpoints.Store(!s.SelfHosted()) // Inngest Cloud has them
	if s.exposes() {
		o.Log.Info("a run takes two requests instead of one: the checkpoints that spare the second would show "+
			"the signing key, for Inngest is on another host without https://", "inngest", s.apiURL())
	}
	return h, nil
}

// client returns the SDK's handler of a client with the functions. All its settings are passed on: what is not set here
// the SDK would read from the environment.
func (h *Handler) client(checkpoint bool) (http.Handler, error) {
	s := h.o.Server
	c, err := inngestgo.NewClient(inngestgo.ClientOpts{
		AppID:              s.AppID,
		Dev:                &s.Dev,
		EventKey:           new(s.eventKey()),
		SigningKey:         &h.key,
		SigningKeyFallback: &s.SigningKeyFallback,
		Env:                &s.Env,
		APIBaseURL:         new(s.apiURL()),
		EventAPIBaseURL:    new(s.eventURL()),
		Logger:             h.o.Log,
		HTTPClient:         &http.Client{Timeout: 5 * time.Second},
		MaxBodySize:        int(h.o.MaxBody),
	})
	if err != nil {
		return nil, fmt.Errorf("inngest client: %w", err)
	}
	serve := inngestgo.ServeOpts{Path: &h.o.Path, EnableUnauthedSync: new(false)}
	if h.o.Origin != "" {
		serve.Origin = &h.o.Origin
	}
	return c.ServeWithOpts(serve), h.o.Register(c, checkpoint)
}

// Registered is closed when Inngest knows the functions for the first time.
func (h *Handler) Registered() <-chan struct{} { return h.registered }

// KeepRegistered tells an Inngest that does not ask for the functions of them, again and again until ctx ends: one that
// has lost its data, as the dev server has after every start, has no other way to learn of them.
func (h *Handler) KeepRegistered(ctx context.Context) {
	s := h.o.Server
	if !s.SelfHosted() {
		return
	}
	every := 30 * time.Second
	if s.Dev {
		every = 5 * time.Second // as often as the dev server itself looks for apps
	}
	tell := sync.OnceFunc(func() { close(h.registered) })
	for first, known := true, false; ; first = false {
		err, wait := h.register(ctx, registerTimeout), every
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			if first || known {
				h.o.Log.WarnContext(ctx, "the functions cannot be registered with Inngest; trying again", "error", err)
			}
			wait = time.Second
		case !known:
			h.o.Log.InfoContext(ctx, "registered the functions with Inngest", "inngest", s.apiURL())
			tell()
		}
		known = err == nil
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
}

// sdk is the handler that fits the server.
func (h *Handler) sdk() http.Handler { return h.clients[h.checkpoints.Load()] }

// register tells Inngest of the functions once, and asks before whether it takes checkpoints: it may be another version
// than the last time.
func (h *Handler) register(ctx context.Context, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	s := h.o.Server
	if !s.exposes() {
		half, cancel := context.WithTimeout(ctx, timeout/2)
		has, err := s.hasCheckpoints(half)
		cancel()
		if errors.Is(err, context.DeadlineExceeded) { // each run would wait for it, and longer
			has, err = false, nil
		}
		if err == nil && h.checkpoints.Swap(has) != has {
			h.o.Log.InfoContext(ctx, "asked whether Inngest takes checkpoints", "checkpoints", has)
		}
	}
	body, err := h.registration(ctx)
	if err != nil {
		return err
	}
	err = s.post(ctx, "/fn/register", body)
	_, says := errors.AsType[answered](err)
	switch {
	case err == nil, errors.Is(err, errPart):
		return nil
	case says || errors.Is(err, ErrKey):
		return err
	case errors.Is(err, context.DeadlineExceeded):
		return errors.New("it did not answer in time")
	}
	return fmt.Errorf("it cannot be reached: %w", err)
}

// registration is what Inngest is to know (https://github.com/inngest/inngest/blob/main/docs/SDK_SPEC.md, section
// 4.3.2). The SDK lists its functions when it is asked by a signed request, as Inngest Cloud asks (section 4.3.5). It
// would also post them itself, but without a time-out, and its calls of functions would wait meanwhile.
func (h *Handler) registration(ctx context.Context) ([]byte, error) {
	url := h.o.Origin + h.o.Path
	body, _ := json.Marshal(map[string]string{"url": url}) // texts never fail
	signature, err := inngestgo.Sign(ctx, time.Now(), []byte(h.key), body)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPut, url, bytes.NewReader(body))
	if err != nil {
		return nil, withoutURL(err)
	}
	r.Header.Set(signatureHeader, signature)
	w := &recorder{header: http.Header{}, code: http.StatusOK}
	h.sdk().ServeHTTP(w, r)
	var list struct {
		URL        string          `json:"url"`
		AppID      string          `json:"app_id"`
		Functions  json.RawMessage `json:"functions"`
		Inspection struct {
			Capabilities json.RawMessage `json:"capabilities"`
		} `json:"inspection"`
	}
	if err := json.Unmarshal(w.Bytes(), &list); err != nil || w.code != http.StatusOK {
		return nil, fmt.Errorf("the SDK does not list the functions: it answers %d", w.code)
	}
	return json.Marshal(map[string]any{
		"v": "1", "deployType": "ping", "sdk": inngestgo.HeaderValueSDK, "appName": list.AppID, "url": list.URL,
		"headers": map[string]string{"env": h.o.Server.Env}, "capabilities": list.Inspection.Capabilities,
		"functions": list.Functions,
	})
}

// recorder keeps the answer of a handler that is called without a socket.
type recorder struct {
	bytes.Buffer
	header http.Header
	code   int
}

func (r *recorder) Header() http.Header { return r.header }
func (r *recorder) WriteHeader(c int)   { r.code = c }
