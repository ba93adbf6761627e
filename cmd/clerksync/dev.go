package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"clerksync/app"
	"clerksync/config"

	"clerksync/clerk"
	"clerksync/internal/inngestserver"
	"clerksync/store"
	"clerksync/webhook"
)

// devFolder holds the embedded database of 'clerksync dev' and, in secretFile, its signing secret.
const (
	devFolder  = "data"
	secretFile = "signing-secret"
)

// inngestPort is the dev server's usual port.
const inngestPort = 8288

// devResendAfter is how long 'dev' waits for a function: its Inngest keeps what it has accepted in memory, and a minute
// is long for somebody who looks on.
const devResendAfter = 5 * time.Second

type devCmd struct {
	Demo bool `help:"Then play a sign-up, a change and a deletion, print the row after each, and end; the exit status tells whether all three were right."`
}

// Run starts everything, prints where it is, and ends all of it when ctx ends.
func (c devCmd) Run(ctx context.Context, e env) error {
	cfg, mistakes := config.Read(e.environ)
	say := func(format string, args ...any) { _, _ = fmt.Fprintf(e.stdout, format+"\n", args...) } // a closed terminal ends nothing
	startInngest := !cfg.Inngest.SelfHosted()
	if err := c.defaults(ctx, &cfg, e.environ); err != nil {
		return err
	}
	ignoreKeys(&cfg.Inngest, say)
	if err := append(mistakes, app.Check(cfg)...).Err(); err != nil {
		return err
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var own *inngestserver.Server
	var err error
	if startInngest {
		if own, err = runInngest(ctx, e, say); err != nil {
			return err
		}
		cfg.Inngest.Dev = own.URL()
		go func() {
			<-own.Done()
			stop(errors.New("the Inngest dev server has ended"))
		}()
	}
	err = c.serve(ctx, cfg, e, say)
	if own != nil {
		err = errors.Join(err, own.Stop())
	}
	return err
}

// defaults fills in what 'serve' would refuse to start without.
func (devCmd) defaults(ctx context.Context, cfg *config.Config, environ []string) error {
	if cfg.Host == "" {
		cfg.Host = "127.0.0.1"
	}
	if !isSet(environ, "PORT") && !free(ctx, cfg.Address()) {
		cfg.Port = "0"
	}
	if !isSet(environ, "INBOX_RESEND_AFTER") {
		cfg.InboxResendAfter = devResendAfter
	}
	if cfg.MongoURI == "" {
		cfg.MongoURI = config.EmbeddedPrefix + "./" + devFolder
	}
	if !cfg.Inngest.SelfHosted() && cfg.Inngest.DevKnown() {
		cfg.Inngest.Dev = "1"
	}
	if cfg.SigningSecrets != "" {
		return nil
	}
	var err error
	if cfg.SigningSecrets, err = devSecret(); errors.Is(err, fs.ErrNotExist) {
		cfg.SigningSecrets, err = makeDevSecret(filepath.Join(devFolder, secretFile))
	}
	return err
}

// ignoreKeys drops the signing keys if Inngest is a dev server, whose calls are not signed, and says so.
func ignoreKeys(c *config.Inngest, say func(string, ...any)) {
	if !c.IsDev() {
		return
	}
	for name, key := range map[string]*string{"INNGEST_SIGNING_KEY": &c.SigningKey, "INNGEST_SIGNING_KEY_FALLBACK": &c.SigningKeyFallback} {
		if *key != "" {
			say("%s is ignored: a dev server signs nothing", name)
			*key = ""
		}
	}
}

// makeDevSecret makes a signing secret and keeps it in a file, where 'clerksync send' finds it too.
func makeDevSecret(file string) (string, error) {
	key := make([]byte, 24) // as long as Clerk's
	if _, err := rand.Read(key); err != nil {
		return "", err
	}
	secret := "whsec_" + base64.StdEncoding.EncodeToString(key)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return "", err
	}
	return secret, os.WriteFile(file, []byte(secret+"\n"), 0o600)
}

// free tells whether the address can be listened on.
func free(ctx context.Context, addr string) bool {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	return err == nil && l.Close() == nil
}

// runInngest finds, or builds, and starts an Inngest dev server.
func runInngest(ctx context.Context, e env, say func(string, ...any)) (*inngestserver.Server, error) {
	dir, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	cmd, err := inngestserver.Find(ctx, inngestserver.FindOptions{
		BuildOptions: inngestserver.BuildOptions{Environ: e.environ, Progress: func(line string) { say("%s", line) }}, Dir: dir,
	})
	if err != nil {
		return nil, err
	}
	port := inngestPort
	if !free(ctx, net.JoinHostPort("127.0.0.1", strconv.Itoa(port))) {
		port = 0
	}
	say("starting the Inngest dev server (%s)", cmd.Source)
	return inngestserver.Start(ctx, cmd, inngestserver.Config{Port: port, Output: e.stderr})
}

// serve runs the service until ctx ends or the demo is over.
func (c devCmd) serve(ctx context.Context, cfg config.Config, e env, say func(string, ...any)) error {
	a, err := app.New(ctx, app.Options{Config: cfg, Functions: appFunctions(), Log: app.Logger(cfg, e.stderr)})
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
	say("")
	say("clerksync   %s", a.URL())
	say("webhooks    %s", hook)
	say("Inngest     %s", cfg.Inngest.URL())
	if uri := a.Database().EmbeddedURI(); uri != "" {
		say("database    %s%s (any MongoDB client)", uri, a.Database().Name())
	}
	if c.Demo {
		err := demo(ctx, e.stdout, store.NewUsers(a.Database()), hook, cfg.Secrets()[0])
		stop()
		return errors.Join(err, <-ended)
	}
	to := ""
	if !strings.HasSuffix(a.URL(), ":3000") {
		to = " --to " + hook
	}
	say("")
	say("Next: in another terminal, in this folder, send it a signed webhook and look at the collection users:")
	say("  go run ./cmd/clerksync send user.created%s", to)
	say("Ctrl-C ends all of it.")
	return errors.Join(<-ended, interesting(context.Cause(ctx)))
}

// interesting drops the cause of a normal end.
func interesting(cause error) error {
	if errors.Is(cause, context.Canceled) {
		return nil
	}
	return cause
}

// demoWait is how long a row may take; a run takes a quarter of a second.
const demoWait = 30 * time.Second

// demo plays three webhooks of one user and prints the row after each. It fails if a row is not as Clerk has the user.
func demo(ctx context.Context, w io.Writer, users *store.Users, hook, secret string) error {
	id := "user_2demo" + rand.Text()[:22]
	for _, step := range []struct {
		typ, title string
		want       store.Row
		gone       bool
	}{
		{
			typ: clerk.UserCreated, title: "Ada signs up",
			want: store.Row{Email: "ada@example.com", FullName: "Ada Lovelace", ProfilePicture: "https://img.clerk.com/c2FtcGxlLWFkYQ"},
		},
		{
			typ: clerk.UserUpdated, title: "Ada marries and changes her picture",
			want: store.Row{Email: "ada@example.com", FullName: "Ada King", ProfilePicture: "https://img.clerk.com/c2FtcGxlLWFkYS0y"},
		},
		{typ: clerk.UserDeleted, title: "Ada deletes her account", gone: true},
	} {
		body, err := sampleEvent(step.typ, "ada", id, time.Now())
		if err != nil {
			return err
		}
		status, text, err := post(ctx, hook, secret, body)
		if err != nil {
			return fmt.Errorf("demo: %w", err)
		}
		if _, err := fmt.Fprintf(w, "\n%s: %s → %d\n", step.title, step.typ, status); err != nil {
			return err
		}
		if status != http.StatusAccepted {
			return fmt.Errorf("demo: the webhook was answered %d %s", status, text)
		}
		row, err := waitFor(ctx, users, id, func(r store.Row, gone bool) bool {
			return gone == step.gone && r.Email == step.want.Email && r.FullName == step.want.FullName &&
				r.ProfilePicture == step.want.ProfilePicture && (gone || r.Username != "")
		})
		if err != nil {
			return fmt.Errorf("demo: after %s: %w", step.typ, err)
		}
		if _, err := fmt.Fprintln(w, row); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintln(w, "\nAll three rows are as Clerk has the user.")
	return err
}

// waitFor reads the row until it is right, and returns it as text.
func waitFor(ctx context.Context, users *store.Users, id string, right func(r store.Row, gone bool) bool) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, demoWait)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		r, err := users.Get(ctx, id)
		gone := errors.Is(err, store.ErrNotFound)
		switch {
		case err != nil && !gone:
			return "", err
		case right(r, gone) && gone:
			return "(no row)", nil
		case right(r, gone):
			return rowText(r)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return "", errors.New("the row did not become right in time")
		}
	}
}
