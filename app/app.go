// Package app is the service: its parts wired together, its routes, its start and its end.
package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"clerksync/clerk"
	"clerksync/config"
	"clerksync/functions"
	"clerksync/inbox"
	"clerksync/inngest"
	"clerksync/reconcile"
	"clerksync/store"
	"clerksync/store/database"
	"clerksync/webhook"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// SampleInstance is the Clerk instance of the events that 'clerksync send' makes.
const SampleInstance = "ins_2clerksyncSample"

// Options is what New needs.
type Options struct {
	Config config.Config
	// Functions are the functions of your own.
	Functions []functions.Function
	Log       *slog.Logger
}

// App is the service, wired and listening.
type App struct {
	cfg      config.Config
	log      *slog.Logger
	listener net.Listener
	server   *http.Server
	db       *database.DB
	users    *store.Users
	inbox    *inbox.Inbox
	watch    *reconcile.Watch
	inngest  *inngest.Handler
}

// New wires the service in the order of its dependencies, and listens. If it fails, nothing is left open.
func New(ctx context.Context, o Options) (_ *App, err error) {
	cfg, log := o.Config, o.Log
	a := &App{cfg: cfg, log: log}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.Close(ctx))
		}
	}()
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))

	if a.listener, err = (&net.ListenConfig{}).Listen(ctx, "tcp", cfg.Address()); err != nil {
		return a, fmt.Errorf("cannot listen on %s: set PORT and HOST to an address that is free: %w", cfg.Address(), err)
	}
	if _, ok := cfg.Embedded(); ok {
		log.WarnContext(ctx, "the embedded database is for development: one process, no replicas; set MONGODB_URI to a MongoDB for production")
	}
	if a.db, err = OpenDatabase(ctx, cfg, log); err != nil {
		return a, err
	}
	a.users = store.NewUsers(a.db)
	server := InngestServer(cfg.Inngest)
	a.inbox = inbox.New(inbox.Options{
		DB: a.db, Sender: server.EventAPI(), ResendAfter: cfg.InboxResendAfter, Handled: functions.Handles, Log: log, Registerer: reg,
	})
	state := database.NewCheckpoints(a.db)
	a.watch = reconcile.NewWatch(state, log, reg)
	a.watch.InstanceID = cfg.InstanceID
	claims := store.NewWelcomes(a.db)
	if err := database.Patiently(ctx, log, func() error { return Prepare(ctx, a.db) }); err != nil {
		return a, err
	}
	if cfg.Mail.SMTPURL == "" {
		log.InfoContext(ctx, "no welcome mails are sent: set SMTP_URL and MAIL_FROM to send them")
	}
	var api *clerk.API
	if cfg.SecretKey == "" {
		log.InfoContext(ctx, "nothing is compared with Clerk: set CLERK_SECRET_KEY to repair what webhooks miss")
	} else if api, err = a.clerkAPI(ctx); err != nil {
		return a, err
	}
	runs := store.NewRuns(a.db)
	fns, err := allFunctions(
		cfg, o.Functions, a.users, claims, runs, inbox.NewDeadLetters(a.db), Reconciler(cfg, api, a.users, state, log),
	)
	if err != nil {
		return a, err
	}
	fns.Inbox, fns.Log, fns.Seen = a.inbox, log, a.watch.Webhook
	origin := cfg.Inngest.ServeOrigin
	if origin == "" && server.SelfHosted() {
		origin = a.URL()
	}
	a.inngest, err = inngest.New(inngest.Options{
		Server: server, Origin: origin, Path: cfg.Inngest.ServePath, Register: fns.Register, MaxBody: maxCall, Log: log,
	})
	if err != nil {
		return a, err
	}
	hook, err := webhook.New(webhook.Options{
		Secrets: cfg.Secrets(), InstanceID: cfg.InstanceID, Forward: cfg.Forward(),
		ForwardPrivateMetadata: cfg.ForwardPrivateMetadata, Seen: a.seen, Put: a.inbox.Put, Log: log, Registerer: reg,
		SecretsName: "CLERK_WEBHOOK_SIGNING_SECRET", InstanceName: "CLERK_INSTANCE_ID",
	})
	if err != nil {
		return a, err
	}
	a.noteOneTimeCodes(ctx)
	routes := a.routes(hook, a.inngest, reg)
	if cfg.AdminToken != "" {
		routes.POST("/users/:id/ensure", a.ensureRoute(&reconcile.Ensure{API: api, Users: a.users}))
	}
	a.server = &http.Server{
		Handler:           routes,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       readTimeout,
		WriteTimeout:      inngest.WriteTimeout(functions.RunTimeout),
		IdleTimeout:       30 * time.Second,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	return a, nil
}

// clerkAPI returns a client of Clerk's API. That Clerk is away is no reason not to start.
func (a *App) clerkAPI(ctx context.Context) (*clerk.API, error) {
	api, err := ClerkAPI(a.cfg)
	if err != nil {
		return nil, err
	}
	bounded, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	if err := CheckInstance(bounded, a.cfg, api, a.db, false); errors.Is(err, clerk.ErrKey) || ctx.Err() != nil {
		return nil, err
	} else if err != nil {
		a.log.WarnContext(ctx, "Clerk's API does not answer, so CLERK_SECRET_KEY is not checked", "error", err)
	}
	return api, nil
}

// seen notes a verified webhook. A sample of ours is of no instance of Clerk's.
func (a *App) seen(at time.Time, instanceID string) {
	if instanceID == SampleInstance {
		instanceID = ""
	}
	a.watch.Verified(at, instanceID)
}

// noteOneTimeCodes says what becomes of the types of event that hold one-time codes.
func (a *App) noteOneTimeCodes(ctx context.Context) {
	forwarded, leftOut := webhook.OneTimeCodes(a.cfg.Forward())
	if len(forwarded) > 0 {
		a.log.WarnContext(ctx, "CLERK_FORWARD_EVENTS names types that hold one-time codes: whoever sees Inngest's history can read them", "types", forwarded)
	}
	if len(leftOut) > 0 {
		a.log.InfoContext(ctx, "types that hold one-time codes are not forwarded: name them in CLERK_FORWARD_EVENTS if a function of yours needs them", "types", leftOut)
	}
}

// allFunctions returns the Inngest functions, without what only a running service has. For their ids alone, users and
// the others may be nil or zero.
func allFunctions(
	c config.Config, own []functions.Function, users *store.Users, claims *store.Welcomes, runs *store.Runs,
	dead inbox.DeadLetters, r *reconcile.Reconcile,
) (*functions.Functions, error) {
	f := &functions.Functions{
		Users: users, Runs: runs, InstanceID: c.InstanceID, BatchSize: c.Batch.Size, BatchTimeout: c.Batch.Timeout, Own: own,
		Crons: []functions.Cron{functions.Upkeep(
			users.SweepBuried,
			functions.Retention{Name: "tombstones", After: store.TombstoneRetention, Remove: users.ForgetDeleted},
			functions.Retention{Name: "welcome_mails", After: store.TombstoneRetention, Remove: claims.Forget},
			functions.Retention{Name: "runs", After: store.RunRetention, Remove: runs.Forget},
			functions.Retention{Name: "dropped_dead_letters", After: inbox.DroppedRetention, Remove: dead.ForgetDropped},
		)},
	}
	if c.SecretKey != "" {
		f.Crons = append(f.Crons, functions.Reconcile(r, tierCrons(c))...)
	}
	if c.Mail.SMTPURL == "" {
		return f, nil
	}
	m, mistakes := Mailer(c.Mail)
	f.Welcome = &functions.Welcome{Mailer: m, Claims: claims, Unverified: c.Mail.Unverified}
	return f, mistakes.Err()
}

func (a *App) routes(hook, calls http.Handler, reg *prometheus.Registry) *echo.Echo {
	e := echo.New()
	e.IPExtractor = echo.ExtractIPDirect()
	e.GET("/", func(c echo.Context) error { return c.String(http.StatusOK, "server is running") })
	e.GET("/healthz", func(c echo.Context) error { return c.String(http.StatusOK, "ok") })
	e.GET("/readyz", a.ready)
	e.GET("/metrics", echo.WrapHandler(promhttp.HandlerFor(reg, promhttp.HandlerOpts{})))
	e.POST(webhook.Path, echo.WrapHandler(boundMemory(hook, largeWebhooks)))
	e.Match([]string{http.MethodGet, http.MethodPost, http.MethodPut}, "/api/inngest", echo.WrapHandler(boundMemory(calls, largeCalls)))
	return e
}

// ready answers 200 if the database answers and Inngest can be reached, else 503; and which of them, and whether
// webhooks are missing.
func (a *App) ready(c echo.Context) error {
	ctx, cancel := context.WithTimeout(c.Request().Context(), 3*time.Second)
	defer cancel()
	state := map[string]string{"database": "ok", "inngest": "ok", "webhooks": "ok"}
	code := http.StatusOK
	if alarm := a.watch.Alarm(); alarm != "" { // is not ended by another process taking over
		state["webhooks"] = alarm
	}
	if a.db.Ping(ctx) != nil {
		state["database"], code = "does not answer", http.StatusServiceUnavailable
	}
	if InngestServer(a.cfg.Inngest).Reach(ctx) != nil {
		state["inngest"], code = "cannot be reached", http.StatusServiceUnavailable
	}
	return c.JSON(code, state)
}

// URL is where this machine reaches the service.
func (a *App) URL() string {
	_, port, _ := net.SplitHostPort(a.listener.Addr().String())
	return LocalURL(a.cfg.Host, port)
}

// LocalURL is where the machine that a service listens on reaches it.
func LocalURL(host, port string) string {
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port)
}

// Run serves until ctx ends, then stops accepting, finishes what is in flight and closes everything.
func (a *App) Run(ctx context.Context) error {
	work, stopWork := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWork()
	inboxDone := make(chan struct{})
	go func() {
		defer close(inboxDone)
		a.inbox.Run(work, a.cfg.ShutdownTimeout/2)
	}()
	var others sync.WaitGroup
	others.Go(func() { a.inngest.KeepRegistered(work) })
	others.Go(func() { a.watch.Run(work) })
	failed := make(chan error, 1)
	go func() { failed <- a.server.Serve(a.listener) }()
	a.log.InfoContext(ctx, "listening", "url", a.URL())
	if a.cfg.Inngest.IsDev() {
		a.log.WarnContext(ctx, "INNGEST_DEV is on: whoever reaches /api/inngest can call the functions; set it to 0 in production")
	}

	var err error
	select {
	case err = <-failed:
		err = fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
		a.log.InfoContext(ctx, "shutting down")
	}
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.cfg.ShutdownTimeout/2) // the inbox has the other half
	defer cancel()
	if e := a.server.Shutdown(bounded); e != nil && err == nil {
		// Nothing is lost: Clerk and Inngest come again.
		a.log.WarnContext(ctx, "requests were cut off", "error", e)
		err = a.server.Close()
	}
	stopWork() // no request is left that could write to the inbox
	<-inboxDone
	others.Wait()
	return errors.Join(err, a.Close(ctx))
}

// Close closes all that New has opened.
func (a *App) Close(ctx context.Context) error {
	var errs []error
	if a.listener != nil && a.server == nil {
		errs = append(errs, a.listener.Close())
	}
	if a.db != nil {
		errs = append(errs, a.db.Close(ctx))
	}
	return errors.Join(errs...)
}

// Registered is closed when Inngest knows the functions for the first time.
func (a *App) Registered() <-chan struct{} { return a.inngest.Registered() }

// Users are the rows.
func (a *App) Users() *store.Users { return a.users }

// Database is the open database.
func (a *App) Database() *database.DB { return a.db }

// FunctionIDs returns the ids of all functions that the settings make, own among them.
func FunctionIDs(cfg config.Config, own []functions.Function) ([]string, error) {
	fns, err := allFunctions(cfg, own, nil, &store.Welcomes{}, &store.Runs{}, inbox.DeadLetters{}, nil)
	return fns.IDs(), err
}
