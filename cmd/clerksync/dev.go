package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"clerksync/app"
	"clerksync/config"
	"clerksync/internal/dev"
	"clerksync/store/mapping"
	"clerksync/webhook"
)

// devResendAfter is how long 'dev' waits before it sends an event again. Its Inngest keeps accepted events in memory
// and may lose them, and a minute is long for somebody who watches.
const devResendAfter = 5 * time.Second

type devCmd struct {
	Demo bool `help:"Then play a sign-up, a change and a deletion, print the row after each, and end."`
}

// Help returns the text of --help besides the flags.
func (devCmd) Help() string {
	return "It starts an embedded database in ./" + dev.Folder + ", an Inngest dev server, which it builds if there " +
		"is none, and the service. With --demo, the exit status tells whether all three rows were right."
}

// Run starts everything, prints the URLs, and ends everything when ctx ends.
func (c devCmd) Run(ctx context.Context, e env) error {
	cfg, mistakes := config.Read(e.environ)
	startInngest := !cfg.Inngest.SelfHosted()
	if err := c.defaults(ctx, &cfg, e); err != nil {
		return err
	}
	m, err := app.LoadMap(cfg)
	if err := errors.Join(append(mistakes, app.Check(cfg)...).Err(), err); err != nil {
		return err
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	if !startInngest {
		return c.serve(ctx, cfg, m, e)
	}
	own, err := dev.StartInngest(ctx, e.environ, e.stderr, e.say)
	if err != nil {
		return err
	}
	cfg.Inngest.Dev = own.URL()
	go func() {
		<-own.Done()
		stop(errors.New("the Inngest dev server has ended"))
	}()
	return errors.Join(c.serve(ctx, cfg, m, e), own.Stop())
}

// defaults sets what 'serve' would not start without, and says which settings it ignores.
func (devCmd) defaults(ctx context.Context, cfg *config.Config, e env) (err error) {
	cfg.Host, cfg.MongoURI = cmp.Or(cfg.Host, "127.0.0.1"), cmp.Or(cfg.MongoURI, devDatabase)
	if !isSet(e.environ, "PORT") && !dev.Free(ctx, cfg.Address()) {
		cfg.Port = "0"
	}
	if !isSet(e.environ, "INBOX_RESEND_AFTER") {
		cfg.InboxResendAfter = devResendAfter
	}
	if cfg.SigningSecrets == "" {
		if cfg.SigningSecrets, err = dev.MakeSecret(); err != nil {
			return fmt.Errorf("the signing secret in ./%s: %w: "+
				"remove what is there, or set CLERK_WEBHOOK_SIGNING_SECRET", dev.Folder, err)
		}
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
	return err
}

// serve runs the service until ctx ends or the demo is over.
func (c devCmd) serve(ctx context.Context, cfg config.Config, m *mapping.Map, e env) error {
	a, err := app.New(ctx, app.Options{
		Config: cfg, Map: m, Functions: appFunctions(cfg), Log: app.Logger(cfg, e.stderr),
		Dev: &app.Dev{Play: (&dev.Player{Secret: cfg.Secrets()[0]}).Play},
	})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	select {
	case <-a.Registered():
	case err := <-ended:
		return errors.Join(err, context.Cause(ctx))
	}
	hook := a.URL() + webhook.Path
	e.say("\nclerksync   %s\nwebhooks    %s\nInngest     %s", a.URL(), hook, cfg.Inngest.URL())
	if uri := a.Database().EmbeddedURI(); uri != "" {
		e.say("database    %s%s (any MongoDB client)", uri, a.Database().Name())
	}
	if c.Demo {
		err := dev.Demo(ctx, e.stdout, a.Users(), hook, cfg.Secrets()[0], rowText)
		stop()
		return errors.Join(err, <-ended)
	}
	e.say(`
Next: in another terminal, in this folder, send it a signed webhook and look at the collection %s:
  %s send user.created%s
Ctrl-C ends all of it.`, oneLine(m.Collection), program(), toFlag(hook))
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

// toFlag returns what 'send' has to be told to post to hook, which is nothing if it posts there anyway.
func toFlag(hook string) string {
	if hook == "http://127.0.0.1:3000"+webhook.Path {
		return ""
	}
	return " --to " + hook
}
