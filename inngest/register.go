package inngest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"clerksync/reach"

	"github.com/inngest/inngestgo"
)

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
	known, failing, held := false, false, "" // held: why it did not register them when it could ask last
	for {
		why, err := h.takeTurn(ctx)
		wait := every
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			if !failing {
				h.o.Log.WarnContext(ctx, "the functions cannot be registered with Inngest; trying again", "error", err)
			}
			wait = time.Second
		case why != "":
			if why != held {
				h.o.Log.InfoContext(ctx, "not registering the functions with Inngest now", "because", why)
			}
			wait = RegisterTimeout
		case !known:
			h.o.Log.InfoContext(ctx, "registered the functions with Inngest", "inngest", s.PageURL())
			tell()
		}
		known, failing = err == nil && why == "", err != nil
		if !failing {
			held = why
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
}

// takeTurn registers the functions once, or returns why it must not.
func (h *Handler) takeTurn(ctx context.Context) (why string, err error) {
	end := time.Now().Add(RegisterTimeout)
	if h.o.Turn != nil {
		bounded, cancel := context.WithDeadline(ctx, end)
		defer cancel()
		functions, err := h.fingerprint(bounded)
		if err == nil {
			why, err = h.o.Turn(bounded, functions)
		}
		if err != nil || why != "" {
			return why, err
		}
	}
	return "", h.register(ctx, time.Until(end)) // what a slow Turn has left
}

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
// (https://github.com/inngest/inngest/blob/main/docs/SDK_SPEC.md, section 4.3.2).
func (h *Handler) registration(ctx context.Context) ([]byte, error) {
	l, err := h.list(ctx, h.sdk())
	if err != nil {
		return nil, err
	}
	return json.Marshal(map[string]any{
		"v": "1", "deployType": "ping", "sdk": inngestgo.HeaderValueSDK, "appName": l.AppID, "url": l.URL,
		"headers": map[string]string{"env": h.o.Server.Env}, "capabilities": l.Inspection.Capabilities,
		"functions": l.Functions,
	})
}

// fingerprint returns a text that differs if the functions do, be it in an event on which one runs. It is the same
// wherever Inngest reaches the process, and whether or not the server takes checkpoints.
func (h *Handler) fingerprint(ctx context.Context) (string, error) {
	l, err := h.list(ctx, h.clients[false])
	if err != nil {
		return "", err
	}
	for _, f := range l.Functions {
		delete(f, "steps") // they have the URL, and nothing else that the rest does not have
	}
	b, err := json.Marshal(l.Functions)
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8]), err
}

// list is what the SDK says of the functions.
type list struct {
	URL        string                       `json:"url"`
	AppID      string                       `json:"app_id"`
	Functions  []map[string]json.RawMessage `json:"functions"`
	Inspection struct {
		Capabilities json.RawMessage `json:"capabilities"`
	} `json:"inspection"`
}

// list gets the list from the SDK by a signed request, as Inngest Cloud does (SDK_SPEC.md, section 4.3.5). The SDK
// could also post the list itself, but without a time-out, and calls of functions would wait meanwhile.
func (h *Handler) list(ctx context.Context, sdk http.Handler) (l list, _ error) {
	url := h.o.Origin + h.o.Path
	body, _ := json.Marshal(map[string]string{"url": url}) // texts never fail
	signature, err := inngestgo.Sign(ctx, time.Now(), []byte(h.key), body)
	if err != nil {
		return l, fmt.Errorf("sign: %w", err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPut, url, bytes.NewReader(body))
	if err != nil {
		return l, reach.Explain(err)
	}
	r.Header.Set(signatureHeader, signature)
	w := &recorder{header: http.Header{}, code: http.StatusOK}
	sdk.ServeHTTP(w, r)
	if err := json.Unmarshal(w.Bytes(), &l); err != nil || w.code != http.StatusOK {
		return l, fmt.Errorf("the SDK does not list the functions: it answers %d", w.code)
	}
	// The SDK has them in random order. In the same order always, lists can be compared, here and by Inngest, which
	// does nothing if it has exactly this list.
	slices.SortFunc(l.Functions, func(a, b map[string]json.RawMessage) int { return bytes.Compare(a["id"], b["id"]) })
	return l, nil
}

// recorder keeps the answer of a handler that is called without a socket.
type recorder struct {
	bytes.Buffer
	header http.Header
	code   int
}

func (r *recorder) Header() http.Header { return r.header }
func (r *recorder) WriteHeader(c int)   { r.code = c }
