// Package inngest talks to Inngest: it verifies Inngest's calls before the SDK's handler answers them, registers the
// functions, sends events, and asks Inngest for what the doctor reports.
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

	"clerksync/reach"

	"github.com/inngest/inngestgo"
)

const (
	// registerTimeout bounds a registration with all its requests.
	registerTimeout = 5 * time.Second
	// checkpointTimeout is how long a checkpoint may take. It is fixed in the SDK's HTTP client.
	checkpointTimeout = 30 * time.Second
)

// WriteTimeout returns how long a server must allow for a call of a function whose work takes at most run: a checkpoint
// that is not answered takes checkpointTimeout more.
func WriteTimeout(run time.Duration) time.Duration { return run + checkpointTimeout + 30*time.Second }

// Options is what New needs.
type Options struct {
	Server Server
	// Origin is the URL at which Inngest reaches this service, without the path, which is Path. Origin may be "" for
	// Inngest Cloud, which knows it.
	Origin, Path string
	// Register creates the functions in a client. It is called twice, once with checkpoints, which spare a run of one
	// step its second request, and once without, for servers that have none.
	Register func(client inngestgo.Client, checkpoint bool) error
	MaxBody  int64 // the largest body of a call, in bytes
	Log      *slog.Logger
}

// Handler answers Inngest's calls of the functions, and registers the functions with Inngest.
type Handler struct {
	http.Handler // answers one call; it refuses calls that Inngest has not signed, except in dev mode

	o       Options
	key     string                // the signing key of the SDK's clients
	clients map[bool]http.Handler // the SDK's handlers: with checkpoints, and without
	// checkpoints tells whether the server takes checkpoints. It may change during a run: the run's steps are the same
	// with and without them.
	checkpoints atomic.Bool
	registered  chan struct{}
}

// New creates the functions twice, with and without checkpoints, because the SDK cannot change that later.
func New(o Options) (*Handler, error) {
	s := o.Server
	h := &Handler{o: o, key: s.SigningKey, clients: map[bool]http.Handler{}, registered: make(chan struct{})}
	if h.key == "" { // a dev server needs no key, but without one the SDK would not list the functions
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
	h.checkpoints.Store(!s.SelfHosted()) // Inngest Cloud takes checkpoints
	if s.exposes() {
		o.Log.Info("a run takes two requests instead of one: the checkpoints that spare the second would show "+
			"the signing key, for Inngest is on another host without https://", "inngest", s.apiURL())
	}
	return h, nil
}

// client returns the SDK's handler of a client that has the functions. It sets all options, because the SDK would read
// the others from the environment.
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

// KeepRegistered registers the functions again and again until ctx ends, because a server that has lost its data, as a
// dev server has after every start, cannot learn of them in any other way. It does nothing for Inngest Cloud, which
// asks for the functions itself.
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

// sdk returns the SDK's handler that fits the server, with or without checkpoints.
func (h *Handler) sdk() http.Handler { return h.clients[h.checkpoints.Load()] }

// register registers the functions once. Before that it asks whether Inngest takes checkpoints, because the server may
// have another version than the last time.
func (h *Handler) register(ctx context.Context, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	s := h.o.Server
	if !s.exposes() {
		half, cancel := context.WithTimeout(ctx, timeout/2)
		has, err := s.hasCheckpoints(half)
		cancel()
		if errors.Is(err, context.DeadlineExceeded) { // with checkpoints, each run would wait for it even longer
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

// registration returns the body that registers the functions
// (https://github.com/inngest/inngest/blob/main/docs/SDK_SPEC.md, section 4.3.2). It gets the list from the SDK by a
// signed request, as Inngest Cloud does (section 4.3.5). The SDK could also post the list itself, but without a
// time-out, and calls of functions would wait meanwhile.
func (h *Handler) registration(ctx context.Context) ([]byte, error) {
	url := h.o.Origin + h.o.Path
	body, _ := json.Marshal(map[string]string{"url": url}) // texts never fail
	signature, err := inngestgo.Sign(ctx, time.Now(), []byte(h.key), body)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPut, url, bytes.NewReader(body))
	if err != nil {
		return nil, reach.Explain(err)
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
