// Package app is the service: it wires its parts together, serves its routes, and starts and ends it.
package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"time"

	"clerksync/activity"
	"clerksync/clerk"
	"clerksync/config"
	"clerksync/freshness"
	"clerksync/functions"
	"clerksync/history"
	"clerksync/inbox"
	"clerksync/inngest"
	"clerksync/reconcile"
	"clerksync/replicas"
	"clerksync/store"
	"clerksync/store/database"
	"clerksync/store/mapping"
	"clerksync/webhook"

	"github.com/prometheus/client_golang/prometheus"
)

// Options is what New needs.
type Options struct {
	Config    config.Config        // must pass Check
	Map       *mapping.Map         // from LoadMap
	Functions []functions.Function // the app's own functions
	Log       *slog.Logger
	Dev       *Dev // only 'clerksync dev' has one
}

// App is the service, wired and listening.
type App struct {
	cfg       config.Config
	dev       *Dev
	log       *slog.Logger
	listener  net.Listener
	db        *database.DB
	users     *store.Users
	history   *history.History
	inbox     *inbox.Inbox
	watch     *reconcile.Watch
	freshness *freshness.Freshness
	activity  *activity.Activity
	inngest   *inngest.Handler
	server    *http.Server
	metrics   *metrics
	counts    *counts
	traces    *traces // nil without traces
	cleanups  []cleanup

	metricsListener net.Listener // nil without METRICS_ADDR
}

// cleanup ends a part of the service.
type cleanup struct {
	part string
	end  func(context.Context) error
}

// New listens, opens the database and wires the service; Run serves. If New fails, it leaves nothing open. It
// makes the parts in the order in which they need each other, to show how they are connected.
func New(ctx context.Context, o Options) (_ *App, err error) {
	cfg, log := o.Config, o.Log
	a := &App{cfg: cfg, dev: o.Dev, log: log, metrics: newMetrics()}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.Close(ctx))
		}
	}()
	a.noteMap(ctx, o.Map)
	a.noteSettings(ctx)

	if err := a.openTraces(ctx); err != nil {
		return nil, err
	}
	if a.listener, err = a.listenOn(ctx, "listener", cfg.Address(), "PORT and HOST"); err != nil {
		return nil, err
	}
	if err := a.listenMetrics(ctx); err != nil {
		return nil, err
	}
	if err := a.openDatabase(ctx, o.Map); err != nil {
		return nil, err
	}
	claims, runs := store.NewWelcomes(a.db), store.NewRuns(a.db)

	server := InngestServer(cfg.Inngest)
	a.inbox = inbox.New(inbox.Options{
		DB: a.db, Send: a.traces.sending(server.EventAPI().Send), ResendAfter: cfg.InboxResendAfter,
		Handled: functions.Handles, Log: log, Registerer: a.metrics,
	})
	a.activity = activity.New(database.NewCheckpoints(a.db), log, a.metrics)
	a.counts = newCounts(a.users, a.inbox.Table, a.metrics)
	a.watch = reconcile.NewWatch(database.NewCheckpoints(a.db), log, a.metrics)
	a.watch.InstanceID = cfg.InstanceID
	a.freshness = a.newFreshness(a.metrics)
	api, err := a.clerkAPI(ctx)
	if err != nil {
		return nil, err
	}

	r := Reconciler(cfg, api, a.db, a.users, log)
	fns, err := allFunctions(cfg, o.Functions, a.users, a.history, claims, runs, a.inbox.Table, r)
	if err != nil {
		return nil, err
	}
	fns.Inbox, fns.Log, fns.Seen, fns.Wrote = a.inbox, log, a.watch.Webhook, a.wrote
	if a.traces != nil {
		fns.Trace = a.traces.run
	}
	if fns.Welcome != nil {
		fns.Welcome.Mailed = a.metrics.mailed
	}
	if a.inngest, err = a.newInngest(server, fns); err != nil {
		return nil, err
	}
	hook, err := a.newWebhook()
	if err != nil {
		return nil, err
	}
	page, err := a.statusPage(server, api, fns.IDs())
	if err != nil {
		return nil, err
	}
	a.server = newServer(a.routes(hook, server, &reconcile.Ensure{API: api, Users: a.users}, page), log)
	if page != nil {
		a.server.RegisterOnShutdown(page.End)
	}
	return a, nil
}

// newInngest returns what answers Inngest's calls and registers the functions. An Inngest that is not the cloud is
// taken to reach the service where this machine does, unless the settings say otherwise.
func (a *App) newInngest(server inngest.Server, fns *functions.Functions) (*inngest.Handler, error) {
	i := a.cfg.Inngest
	origin := i.Origin()
	if origin == "" && server.SelfHosted() {
		origin = a.URL()
	}
	o := inngest.Options{
		Server: server, Origin: origin, Path: i.ServePath, Register: fns.Register, MaxBody: maxCall, Log: a.log,
	}
	if a.dev == nil { // 'clerksync dev' has no replicas, and would wait for those that it was before
		o.Turn = a.newReplica(server, a.metrics).Beat
	}
	return inngest.New(o)
}

// newReplica returns a process among those that register functions with the server.
func (a *App) newReplica(server inngest.Server, reg prometheus.Registerer) *replicas.Replicas {
	return replicas.New(replicas.Options{
		State: database.NewCheckpoints(a.db), App: server.App(), Settle: inngest.RegisterTimeout,
		Registerer: reg,
	})
}

// newWebhook returns what answers Clerk's webhooks.
func (a *App) newWebhook() (*webhook.Handler, error) {
	c := a.cfg
	return webhook.New(webhook.Options{ //nolint:gosec // G101: it names the variable that has the secrets
		Secrets: c.Secrets(), SecretsName: "CLERK_WEBHOOK_SIGNING_SECRET",
		InstanceID: c.InstanceID, InstanceName: "CLERK_INSTANCE_ID",
		Forward: c.Forward(), ForwardPrivateMetadata: c.ForwardPrivateMetadata,
		Seen: a.watch.Verified, Answered: a.answered, Put: a.inbox.Put, Log: a.log, Registerer: a.metrics,
	})
}

func newServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       readTimeout,
		WriteTimeout:      inngest.WriteTimeout(functions.RunTimeout),
		IdleTimeout:       30 * time.Second,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
}

// openDatabase opens the database and prepares it for the rows of the map.
func (a *App) openDatabase(ctx context.Context, m *mapping.Map) (err error) {
	c := a.cfg
	if a.db, err = database.OpenOn(ctx, c.EmbeddedPort, c.MongoURI, c.DatabaseName(), a.log); err != nil {
		return databaseError(err)
	}
	a.onClose("database", a.db.Close)
	a.db.Observe(a.metrics.command)
	if a.traces != nil {
		a.db.ObserveCollections()
		a.db.Observe(a.traces.command)
	}
	a.users = store.NewUsers(a.db, m)
	a.openHistory()
	return database.Patiently(ctx, a.log, func() error {
		if err := CheckMap(ctx, a.db, m, a.cfg.Inngest.AppID); err != nil {
			return err
		}
		if err := Prepare(ctx, a.db, a.users, a.history); err != nil {
			return err
		}
		return RememberMap(ctx, a.db, m, a.cfg.Inngest.AppID)
	})
}

// answered tells of a webhook's answer who wants to know.
func (a *App) answered(w webhook.Answer) {
	a.activity.Webhook(w)
	a.traces.answered(w)
}

// wrote tells what became of an event who wants to know.
func (a *App) wrote(ctx context.Context, w functions.Wrote) {
	a.activity.Wrote(w)
	a.traces.wrote(ctx, w)
}

// noteSettings logs what the settings turn off, and which of them are dangerous.
func (a *App) noteSettings(ctx context.Context) {
	if _, ok := a.cfg.Embedded(); ok && a.dev == nil {
		a.log.WarnContext(ctx, "the embedded database is for development: one process, no replicas; "+
			"set MONGODB_URI to a MongoDB for production")
	}
	if a.cfg.Inngest.IsDev() && a.dev == nil {
		a.log.WarnContext(ctx, "INNGEST_DEV is on: whoever reaches /api/inngest can call the functions; "+
			"set it to 0 in production")
	}
	if a.cfg.Mail.SMTP == "" {
		a.log.InfoContext(ctx, "no welcome mails are sent: set SMTP_URL and MAIL_FROM to send them")
	}
	if a.cfg.SecretKey == "" {
		a.log.InfoContext(ctx, "nothing is compared with Clerk: set CLERK_SECRET_KEY to repair what webhooks miss")
	}
	forwarded, leftOut := webhook.OneTimeCodes(a.cfg.Forward())
	if len(forwarded) > 0 {
		a.log.WarnContext(ctx, "CLERK_FORWARD_EVENTS names types that hold one-time codes: "+
			"whoever sees Inngest's history can read them", "types", forwarded)
	}
	if len(leftOut) > 0 {
		a.log.InfoContext(ctx, "types that hold one-time codes are not forwarded: "+
			"name them in CLERK_FORWARD_EVENTS if a function of yours needs them", "types", leftOut)
	}
}

// clerkAPI returns a client of Clerk's API, or nil if no secret key is set. It fails if Clerk does not accept the key,
// but not if Clerk does not answer: the service starts without Clerk.
func (a *App) clerkAPI(ctx context.Context) (*clerk.API, error) {
	if a.cfg.SecretKey == "" {
		return nil, nil
	}
	api, err := ClerkAPI(a.cfg)
	if err != nil {
		return nil, err
	}
	api.Observe(a.metrics.request)
	bounded, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	err = reconcile.CheckInstance(bounded, api, database.NewCheckpoints(a.db), a.cfg.InstanceID, false)
	if errors.Is(err, clerk.ErrKey) || ctx.Err() != nil {
		return nil, err
	}
	if err != nil {
		a.log.WarnContext(ctx, "Clerk's API does not answer, so CLERK_SECRET_KEY is not checked", "error", err)
	}
	return api, nil
}

// URL returns the URL at which this machine reaches the service. If PORT is 0, it has the port that the system chose.
func (a *App) URL() string {
	_, port, _ := net.SplitHostPort(a.listener.Addr().String())
	return LocalURL(a.cfg.Host, port)
}

// LocalURL returns the URL at which a machine reaches a service that listens on it.
func LocalURL(host, port string) string {
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port)
}

// Registered is closed when Inngest knows the functions for the first time.
func (a *App) Registered() <-chan struct{} { return a.inngest.Registered() }

// Database returns the open database.
func (a *App) Database() *database.DB { return a.db }

// Activity returns what happens just now.
func (a *App) Activity() *activity.Activity { return a.activity }

// Users returns the users of the open database.
func (a *App) Users() *store.Users { return a.users }

// Run serves until ctx ends, and then closes the service. It closes the server first, which finishes the requests in
// flight, and then the parts that these requests need.
func (a *App) Run(ctx context.Context) error {
	a.start(ctx, "metrics", a.serveMetrics)
	a.start(ctx, "counts", a.counts.Run)
	a.start(ctx, "activity", a.activity.Run)
	a.start(ctx, "watch", a.watch.Run)
	a.start(ctx, "freshness", a.freshness.Run)
	a.start(ctx, "registration", a.inngest.KeepRegistered)
	a.start(ctx, "inbox", func(ctx context.Context) { a.inbox.Run(ctx, a.share()) })
	failed := make(chan error, 1)
	go func() { failed <- a.server.Serve(a.listener) }()
	a.onClose("server", a.stopServer)
	a.log.InfoContext(ctx, "listening", "url", a.URL())
	var err error
	select {
	case err = <-failed:
		err = fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
		a.log.InfoContext(ctx, "shutting down")
	}
	return errors.Join(err, a.Close(ctx))
}

// start runs a part of the service until Close, which waits until run returns, or until its time is over.
func (a *App) start(ctx context.Context, part string, run func(context.Context)) {
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		run(ctx)
	}()
	a.onClose(part, func(ctx context.Context) error {
		stop()
		select {
		case <-ended:
		case <-ctx.Done(): // nothing is lost: what is not written yet is in the inbox, or Clerk and Inngest repeat it
			a.log.WarnContext(ctx, "a part of the service was cut off", "part", part)
		}
		return nil
	})
}

// share is how long the end may wait for the requests in flight, and then for the events in memory. What is left of
// ShutdownTimeout, a fifth or more, is for the parts that are closed after these.
func (a *App) share() time.Duration { return a.cfg.ShutdownTimeout * 2 / 5 }

// stopServer lets the requests in flight finish.
func (a *App) stopServer(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, a.share())
	defer cancel()
	err := a.server.Shutdown(ctx)
	if err == nil {
		return nil
	}
	a.log.WarnContext(ctx, "requests were cut off", "error", err) // nothing is lost: Clerk and Inngest repeat them
	return a.server.Close()
}

func (a *App) onClose(part string, end func(context.Context) error) {
	a.cleanups = append(a.cleanups, cleanup{part, end})
}

// Close closes all parts, the last one first, for which they have ShutdownTimeout together: whoever runs the service
// kills it soon after that. Run calls it too, and a second call does nothing.
func (a *App) Close(ctx context.Context) error {
	// ctx has ended, which is why the service closes.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.cfg.ShutdownTimeout)
	defer cancel()
	var errs []error
	for _, c := range slices.Backward(a.cleanups) {
		if err := c.end(ctx); err != nil {
			errs = append(errs, fmt.Errorf("close the %s: %w", c.part, err))
		}
	}
	a.cleanups = nil
	return errors.Join(errs...)
}
