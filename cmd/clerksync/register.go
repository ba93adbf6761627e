package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"time"

	"github.com/inngest/inngestgo"
)

// registerTimeout is how long Inngest may take to answer a registration.
const registerTimeout = 5 * time.Second

// registerBy sets a.register to what registers the functions that create makes in a client: one of its own, since a
// registration holds the lock that invocations need. The SDK's own call has no time-out and leaves the answer open,
// with a connection, for ever. So it goes through a proxy in this process, which ends it after timeout.
func (a *app) registerBy(ctx context.Context, timeout time.Duration, create func(inngestgo.Client) error) error {
	target, err := url.Parse(a.cfg.Inngest.APIURL())
	if err != nil {
		return errors.New("the URL of Inngest cannot be read")
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen for registrations: %w", err)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) },
		ModifyResponse: func(r *http.Response) error {
			if r.StatusCode >= http.StatusMultipleChoices {
				return nil
			}
			r.Header.Set("Content-Length", "0") // what the SDK leaves open is then nothing
			r.ContentLength = 0
			body := r.Body
			r.Body = http.NoBody
			return body.Close()
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) {
			w.WriteHeader(http.StatusBadGateway)
			_ = json.NewEncoder(w).Encode(map[string]string{"error": "it cannot be reached"})
		},
		ErrorLog: slog.NewLogLogger(a.log.Handler(), slog.LevelDebug),
	}
	mux := http.NewServeMux()
	mux.Handle("POST /fn/register", http.TimeoutHandler(proxy, timeout, `{"error":"it did not answer in time"}`))
	a.proxy = &http.Server{Handler: mux, ReadHeaderTimeout: timeout}
	go func() { _ = a.proxy.Serve(listener) }() // until close
	c, err := a.inngestClient(new("http://" + listener.Addr().String() + "/fn/register"))
	if err != nil {
		return err
	}
	if err := create(c); err != nil {
		return err
	}
	a.register = func(ctx context.Context) error { return selfRegister(ctx, c.ServeWithOpts(a.serveOpts(true))) }
	return nil
}

// registerOnce registers the functions if Inngest can be reached.
func (a *app) registerOnce(ctx context.Context) error {
	bounded, cancel := context.WithTimeout(ctx, registerTimeout)
	defer cancel()
	if err := reach(bounded, a.cfg.Inngest.APIURL()+"/health"); err != nil {
		return errors.New("inngest cannot be reached")
	}
	return a.register(ctx)
}
