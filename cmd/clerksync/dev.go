package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"clerksync/activity"
	"clerksync/app"
	"clerksync/config"
	"clerksync/internal/child"
	"clerksync/internal/dev"
	"clerksync/internal/mongod"
	"clerksync/store"
	"clerksync/store/database"
	"clerksync/store/mapping"
	"clerksync/webhook"
)

// devResendAfter is how long 'dev' waits before it sends an event again. Its Inngest keeps accepted events in memory
// and may lose them, and a minute is long for somebody who watches. A storm of 200 webhooks takes ten seconds.
const devResendAfter = 15 * time.Second

// devPort is the first of the ports that 'dev' tries.
const devPort = 3000

type devCmd struct {
	Demo     bool `help:"Then play a sign-up, a change and a deletion, print the row after each, and end."`
	NotLocal bool `help:"Start though the database is not on this machine, or the key of Clerk's API is a live one."`
}

// Help returns the text of --help besides the flags.
func (devCmd) Help() string {
	return "It starts a database in ./" + dev.Folder + ", an Inngest dev server, which it builds if there is none, " +
		"and the service. The database is that of MONGODB_URI, else a mongod if there is one on PATH, else an " +
		"embedded one. With --demo, the exit status tells whether all three rows were right."
}

// Run starts everything, prints the URLs and what becomes of each event, and ends everything when ctx ends.
func (c devCmd) Run(ctx context.Context, e env) error {
	cfg, mistakes := readSettings(append(e.environ, fromEnvFiles(e)...))
	own := ownServers{database: cfg.MongoURI == "", inngest: !cfg.Inngest.SelfHosted()}
	c.defaults(ctx, &cfg, e)
	secret := dev.MakeSecret()
	cfg.SigningSecrets = strings.TrimSpace(cfg.SigningSecrets + " " + secret)
	m, err := app.LoadMap(cfg)
	if err := errors.Join(append(mistakes, app.Check(cfg)...).Err(), err); err != nil {
		return err
	}
	if err := c.checkLocal(cfg); err != nil {
		return err
	}
	if err := dev.MakeFolder(); err != nil {
		return fmt.Errorf("%w: make ./%s a folder that you may write to", err, dev.Folder)
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	end, err := own.start(ctx, &cfg, stop, e)
	if err == nil {
		err = c.serve(ctx, cfg, m, dev.Running{Secret: secret, Database: own.mongod}, e)
	}
	return errors.Join(err, end())
}

// ownServers says which servers 'dev' starts, because no setting names one.
type ownServers struct {
	database, inngest bool
	mongod            string // the connection string of the mongod that was started, or ""
}

// start starts the servers, sets in cfg where they are, and returns what ends them, which is not nil even beside an
// error. When one of them ends by itself, it calls stop.
func (o *ownServers) start(
	ctx context.Context, cfg *config.Config, stop context.CancelCauseFunc, e env,
) (end func() error, _ error) {
	var ends []func() error
	started := func(what string, done <-chan struct{}, stopIt func() error) {
		ends = append(ends, stopIt)
		go func() {
			<-done
			stop(errors.New(what + " has ended"))
		}()
	}
	end = func() (err error) {
		for _, f := range slices.Backward(ends) {
			err = errors.Join(err, f())
		}
		return err
	}
	if !o.database {
		e.say("taking the database of MONGODB_URI")
	} else if own, err := dev.StartMongod(ctx, e.environ, cfg.EmbeddedPort, e.say); err != nil {
		return end, mongodError(ctx, err)
	} else if own != nil {
		started("mongod", own.Done(), own.Stop)
		o.mongod = own.URI(cfg.DatabaseName())
		cfg.MongoURI = o.mongod
	}
	if !o.inngest {
		return end, nil
	}
	own, err := dev.StartInngest(ctx, e.environ, app.Logger(*cfg, e.stderr), e.say)
	if err != nil {
		return end, err
	}
	started("the Inngest dev server", own.Done(), own.Stop)
	cfg.Inngest.Dev = own.URL()
	return end, nil
}

// mongodError adds to an error of dev.StartMongod what to do.
func mongodError(ctx context.Context, err error) error {
	const other = "set MONGODB_URI to another database, such as " + devDatabase + ", the embedded one"
	switch {
	case ctx.Err() != nil: // a Ctrl-C
		return err
	case errors.Is(err, database.ErrPort):
		return fmt.Errorf("%w: set EMBEDDED_PORT to a free port, or leave it unset", err)
	case errors.Is(err, mongod.ErrNone):
		return fmt.Errorf("%w: put mongod on PATH, or %s", err, other)
	}
	return fmt.Errorf("%w: see to that, or %s", err, other)
}

// fromEnvFiles returns what 'dev' takes from an app's files of settings, and says what it takes and what it does not.
func fromEnvFiles(e env) []string {
	const secret = "CLERK_WEBHOOK_SIGNING_SECRET" //nolint:gosec // G101: it is the name of the variable
	names := dev.Names{Secret: secret, Key: "CLERK_SECRET_KEY", Other: config.OtherName}
	inEnviron := func(name string) bool {
		return isSet(e.environ, name) || child.Getenv(e.environ, name+"_FILE") != ""
	}
	taken := dev.FromEnvFiles(names, inEnviron, e.say)
	other := config.OtherName(func(name string) string { return child.Getenv(e.environ, name) })
	all := append(slices.Clone(e.environ), taken...)
	if other != "" && child.Getenv(all, secret) == "" && child.Getenv(all, secret+"_FILE") == "" {
		e.say("%s is set, but not taken: if that is the endpoint's signing secret, you mean %s", other, secret)
	}
	return taken
}

// checkLocal refuses what is not a developer's own, unless it is meant.
func (c devCmd) checkLocal(cfg config.Config) error {
	var errs []error
	if cfg.IsURI() && !database.IsLocal(cfg.MongoURI) {
		errs = append(errs, errors.New("MONGODB_URI names a database that is not on this machine, and 'dev' writes "+
			"sample users: unset it, or say --not-local if you mean it"))
	}
	if strings.HasPrefix(cfg.SecretKey, "sk_live_") {
		errs = append(errs, errors.New("CLERK_SECRET_KEY is a production instance's (sk_live_…): "+
			"set it to a development instance's (sk_test_…), or say --not-local if you mean it"))
	}
	if c.NotLocal {
		return nil
	}
	return errors.Join(errs...)
}

// defaults sets what 'serve' would not start without, and says which settings it ignores.
func (devCmd) defaults(ctx context.Context, cfg *config.Config, e env) {
	cfg.Host, cfg.MongoURI = cmp.Or(cfg.Host, "127.0.0.1"), cmp.Or(cfg.MongoURI, devDatabase)
	if !isSet(e.environ, "PORT") {
		cfg.Port = dev.FreePort(ctx, cfg.Host, devPort)
	}
	if !isSet(e.environ, "INBOX_RESEND_AFTER") {
		cfg.InboxResendAfter = devResendAfter
	}
	i := &cfg.Inngest
	if !i.SelfHosted() && i.DevKnown() {
		i.Dev = "1"
	}
	if i.IsDev() && i.SigningKey != "" {
		e.say("INNGEST_SIGNING_KEY is ignored: a dev server signs nothing")
		i.SigningKey = ""
	}
	if i.IsDev() && i.SigningKeyFallback != "" {
		e.say("INNGEST_SIGNING_KEY_FALLBACK is ignored: a dev server signs nothing")
		i.SigningKeyFallback = ""
	}
}

// serve runs the service until ctx ends or the demo is over. running has what is known of this start before it runs.
func (c devCmd) serve(ctx context.Context, cfg config.Config, m *mapping.Map, running dev.Running, e env) error {
	secret := running.Secret
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	o := app.Options{
		Config: cfg, Map: m, Functions: appFunctions(cfg), Log: app.Logger(cfg, e.stderr),
		Dev: &app.Dev{
			Play: (&dev.Player{Secret: secret}).Play,
			Routes: func(a *activity.Activity, u *store.Users) http.Handler {
				return &dev.Teller{Secret: secret, Activity: a, Users: u, Done: ctx.Done(), Text: rowText}
			},
		},
	}
	a, err := app.New(ctx, o)
	// Another 'dev' that starts just now may have taken the port since it was found free.
	for tries := 1; errors.Is(err, syscall.EADDRINUSE) && !isSet(e.environ, "PORT") &&
		!errors.Is(err, database.ErrPort) && tries < 5; tries++ {
		o.Config.Port = dev.FreePort(ctx, cfg.Host, devPort)
		a, err = app.New(ctx, o)
	}
	if err != nil {
		return err
	}
	events, end := a.Activity().Subscribe()
	defer end()
	ended := make(chan error, 1)
	go func() {
		ended <- a.Run(ctx)
		stop()
	}()
	select {
	case <-a.Registered():
	case err := <-ended:
		return errors.Join(err, context.Cause(ctx))
	}
	hook := a.URL() + webhook.Path
	running.URL, running.Inngest = a.URL(), cfg.Inngest.URL()
	remove, err := running.Announce()
	if err != nil {
		stop()
		return errors.Join(fmt.Errorf("%w: make ./%s a folder that you may write to", err, dev.Folder), <-ended)
	}
	defer remove()
	e.say("\nclerksync   %s/status   open this first\nwebhooks    %s\nInngest     %s", a.URL(), hook, cfg.Inngest.URL())
	switch uri := a.Database().EmbeddedURI(); {
	case uri != "":
		e.say("database    %s%s (any MongoDB client)", uri, a.Database().Name())
	case running.Database != "":
		e.say("database    %s (any MongoDB client)", running.Database)
	}
	if c.Demo {
		err := dev.Demo(ctx, e.stdout, a.Users(), hook, secret, rowText)
		stop()
		return errors.Join(err, <-ended)
	}
	e.say(`
Next: in another terminal, in this folder, send it a signed webhook, or press a button on that page:
  %s send user.created
The rows are in the collection %s. Ctrl-C ends all of it.
`, program(), oneLine(m.Collection))
	dev.Print(ctx, e.stdout, events, oneLine)
	err = <-ended
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) { // Canceled is a normal end
		err = errors.Join(err, cause)
	}
	return err
}

// program returns how this program is called: whoever ran it by 'go run' has no other file of it.
func program() string {
	if file, _ := os.Executable(); strings.Contains(file, "go-build") {
		return "go run ./cmd/clerksync"
	}
	return "clerksync"
}
