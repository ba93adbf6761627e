package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"clerksync/clerk"
	"clerksync/config"
	"clerksync/functions"
	"clerksync/inbox"
	"clerksync/internal/dev"
	"clerksync/reach"
	"clerksync/webhook"
)

type sendCmd struct {
	Type   string        `arg:"" help:"Type of the event, such as user.created, user.updated or user.deleted."`
	Data   string        `help:"JSON file with the event's data, or with a whole event." type:"existingfile"`
	Sample string        `help:"Sample user: ada, phone-only or several-addresses." default:"ada"`
	User   string        `help:"Id of the sample user." default:"user_2clerksyncSampleAdaLovelace"`
	To     string        `help:"Where to post to; else this folder's 'dev', else port 3000 of this machine."`
	Secret string        `help:"Signing secret; else that of this 'dev' if it is posted there, else of the settings."`
	Within time.Duration `help:"How long to wait for the answer, and then for the row." default:"15s"`
	NoWait bool          `help:"Do not wait for the row."`
}

// sendTo is where 'send' posts to if there is no 'dev' in the folder.
const sendTo = "http://127.0.0.1:3000" + webhook.Path

// Help returns the text of --help besides the flags.
func (sendCmd) Help() string {
	return "Posts to the 'clerksync dev' of this folder, waits until the event is written, and prints the row, or " +
		"why there is none. Elsewhere it only posts."
}

// Run posts the webhook and prints the answer and what becomes of the event. An answer other than 2xx is an error, and
// so is an event that is not written in time.
func (c sendCmd) Run(ctx context.Context, e env) error {
	body, err := c.body()
	if err != nil {
		return err
	}
	t, err := c.target(e.environ)
	if err != nil {
		return err
	}
	svixID := dev.MessageID()
	following, stop := context.WithCancel(ctx)
	defer stop()
	next, err := t.follow(following, svixID)
	if err != nil {
		return err
	}
	posting, cancel := context.WithTimeout(ctx, c.Within)
	defer cancel()
	status, text, err := dev.Post(posting, t.hook.String(), t.secret, svixID, body)
	if err != nil {
		return fmt.Errorf("nothing answers at %s: %w; start 'clerksync dev', or say where with --to",
			t.hook.Redacted(), reach.Explain(err))
	}
	_, err = fmt.Fprintln(e.stdout, strings.TrimSpace(fmt.Sprintf("%d %s %s", status, http.StatusText(status), text)))
	if status >= http.StatusMultipleChoices {
		return fmt.Errorf("the webhook was not accepted")
	}
	event, notEvent := clerk.ParseEnvelope(body)
	if err != nil || notEvent != nil { // the latter cannot be: it was accepted
		return errors.Join(err, notEvent)
	}
	switch {
	case status == http.StatusNoContent:
		e.say("no row: events of the type %s are not forwarded, see CLERK_FORWARD_EVENTS", id(event.Type))
	case !functions.Handles(inbox.EventName(event.Type)):
		e.say("no row: only user.created, user.updated and user.deleted make one; " +
			"a function of your own can have this event")
	case next != nil && !c.NoWait:
		time.AfterFunc(c.Within, stop)
		if err := c.await(ctx, e, next); err != nil {
			return err
		}
	}
	if event.Type == clerk.UserDeleted && c.Data == "" {
		e.say("a deleted user stays deleted: choose another id with --user for the next user.created")
	}
	return nil
}

// await prints what becomes of the event, until it is written or has failed for good.
func (c sendCmd) await(ctx context.Context, e env, next func() (dev.News, error)) error {
	for {
		news, err := next()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, io.EOF):
			return errors.New("'clerksync dev' has ended: the event waits in its inbox until it runs again")
		case err != nil:
			return fmt.Errorf("the row is not written after %s: the event waits in the inbox and is not lost; "+
				"see what 'clerksync dev' prints", c.Within)
		}
		switch e.say("%s", oneLine(news.Words)); {
		case news.Dead:
			return errors.New("the event has failed for good: see 'clerksync deadletters list'")
		case news.Row != "":
			e.say("%s", news.Row)
		case news.Gone && !news.More:
			e.say("no row: a deleted user stays deleted: choose another id with --user")
		}
		if !news.More {
			return nil
		}
	}
}

// target is where a webhook is posted to.
type target struct {
	hook   *url.URL
	secret string
	dev    dev.Running // tells what becomes of the event; its URL is "" if nothing can
}

// target returns where to post to, and signed with what.
func (c sendCmd) target(environ []string) (t target, err error) {
	running, findErr := dev.Find()
	its := sendTo
	if findErr == nil {
		its = running.URL + webhook.Path
	}
	if t.hook, err = url.Parse(cmp.Or(c.To, its)); err != nil || c.To != "" && !config.IsHTTP(c.To) {
		return t, errors.New("--to is no URL: say http://HOST:PORT" + webhook.Path)
	}
	toDev := findErr == nil && t.hook.String() == its
	if t.secret = c.Secret; t.secret == "" && toDev {
		t.secret = running.Secret
	}
	if t.secret == "" {
		cfg, mistakes := readSettings(environ)
		if err := mistakes.Err(); err != nil {
			return t, err
		}
		if secrets := cfg.Secrets(); len(secrets) > 0 {
			t.secret = secrets[0]
		}
	}
	switch {
	case t.secret == "" && errors.Is(findErr, fs.ErrNotExist):
		return t, errors.New("no signing secret: " +
			"start 'clerksync dev' in this folder, or set CLERK_WEBHOOK_SIGNING_SECRET or --secret")
	case t.secret == "" && findErr != nil:
		return t, fmt.Errorf("no signing secret: %w: set CLERK_WEBHOOK_SIGNING_SECRET or --secret", findErr)
	case t.secret == "": // through a tunnel, perhaps
		t.secret = running.Secret
	}
	if err := webhook.CheckSecret(t.secret); err != nil {
		return t, fmt.Errorf("the signing secret %w: copy it again from Clerk's dashboard, Webhooks", err)
	}
	if toDev || t.secret == running.Secret {
		t.dev = running
	}
	return t, nil
}

// follow has the running 'dev' tell what becomes of an event. next is nil if there is none to ask.
func (t target) follow(ctx context.Context, id string) (next func() (dev.News, error), err error) {
	if t.dev.URL == "" {
		return nil, nil
	}
	if next, err = t.dev.Follow(ctx, id); errors.Is(err, dev.ErrKilled) {
		err = fmt.Errorf("%w at %s: it was killed, and has left data/dev.json: start it again, or say where with --to",
			err, t.dev.URL)
	}
	return next, err
}

// body returns the event to post.
func (c sendCmd) body() ([]byte, error) {
	if c.Data == "" {
		return dev.Sample(c.Type, c.Sample, c.User)
	}
	data, err := os.ReadFile(c.Data)
	if err != nil {
		return nil, err
	}
	if !json.Valid(data) {
		return nil, fmt.Errorf("%s is not JSON", c.Data)
	}
	if e, err := clerk.ParseEnvelope(data); err == nil && e.Data != nil {
		return data, nil // unchanged
	}
	return dev.Event(c.Type, data)
}
