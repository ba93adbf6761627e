package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"clerksync/clerk"
	"clerksync/config"
	"clerksync/internal/dev"
	"clerksync/reach"
	"clerksync/webhook"
)

type sendCmd struct {
	Type   string        `arg:"" help:"Type of the event, such as user.created, user.updated or user.deleted."`
	Data   string        `help:"JSON file with the event's data, or with a whole event." type:"existingfile"`
	Sample string        `help:"Sample user: ada, phone-only or several-addresses." default:"ada"`
	User   string        `help:"Id of the sample user." default:"user_2clerksyncSampleAdaLovelace"`
	To     string        `help:"Where to post to." default:"http://127.0.0.1:3000/webhooks/clerk"`
	Secret string        `help:"Signing secret; else CLERK_WEBHOOK_SIGNING_SECRET, else that of 'dev' in ./data."`
	Within time.Duration `help:"How long to wait for the answer." default:"15s"`
}

// Run posts the webhook and prints the answer; an answer other than 2xx is an error.
func (c sendCmd) Run(ctx context.Context, e env) error {
	secret, err := c.secret(e.environ)
	if err != nil {
		return err
	}
	if err := webhook.CheckSecret(secret); err != nil {
		return fmt.Errorf("the signing secret %w: copy it again from Clerk's dashboard, Webhooks", err)
	}
	to, err := url.Parse(c.To)
	if err != nil || !config.IsHTTP(c.To) {
		return errors.New("--to is no URL: say http://HOST:PORT" + webhook.Path)
	}
	body, err := c.body()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, c.Within)
	defer cancel()
	status, text, err := dev.Post(ctx, c.To, secret, dev.MessageID(), body)
	if err != nil {
		return fmt.Errorf("nothing answers at %s: %w; start 'clerksync dev', or say where with --to",
			to.Redacted(), reach.Explain(err))
	}
	_, err = fmt.Fprintln(e.stdout, strings.TrimSpace(fmt.Sprintf("%d %s %s", status, http.StatusText(status), text)))
	if status >= http.StatusMultipleChoices {
		return fmt.Errorf("the webhook was not accepted")
	}
	if c.Type == clerk.UserDeleted && c.Data == "" {
		e.say("a deleted user stays deleted: choose another id with --user for the next user.created")
	}
	return err
}

func (c sendCmd) secret(environ []string) (string, error) {
	if c.Secret != "" {
		return c.Secret, nil
	}
	cfg, mistakes := config.Read(environ)
	if err := mistakes.Err(); err != nil {
		return "", err
	}
	if s := cfg.Secrets(); len(s) > 0 {
		return s[0], nil
	}
	secret, err := dev.Secret()
	if errors.Is(err, fs.ErrNotExist) {
		err = errors.New("no signing secret: " +
			"start 'clerksync dev' in this folder, or set CLERK_WEBHOOK_SIGNING_SECRET or --secret")
	} else if err != nil {
		err = fmt.Errorf("the signing secret of 'clerksync dev': %w: set CLERK_WEBHOOK_SIGNING_SECRET or --secret", err)
	}
	return secret, err
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
