// Package inngest talks to Inngest: it verifies Inngest's calls before the SDK's handler answers them, registers the
// functions, sends events, and asks Inngest for what the doctor reports.
package inngest

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/inngest/inngestgo"
)

const (
	// RegisterTimeout bounds a registration with all its requests, from the moment that Options.Turn is asked.
	RegisterTimeout = 5 * time.Second
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
	// Turn, if set, is asked just before each registration. It returns why this process must not register its functions
	// now, or "" if it may. Processes that have the same functions hand over the same text for them.
	Turn    func(ctx context.Context, functions string) (why string, err error)
	MaxBody int64 // the largest body of a call, in bytes
	Log     *slog.Logger
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
			"the signing key, for Inngest is on another host without https://", "inngest", s.PageURL())
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

// sdk returns the SDK's handler that fits the server, with or without checkpoints.
func (h *Handler) sdk() http.Handler { return h.clients[h.checkpoints.Load()] }
