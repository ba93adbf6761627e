package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"clerksync/app"
	"clerksync/config"

	"clerksync/clerk"
	"clerksync/webhook"

	svix "github.com/svix/svix-webhooks/go"
)

//go:embed samples
var samples embed.FS

type sendCmd struct {
	Type   string        `arg:"" help:"Type of the event, such as user.created, user.updated or user.deleted."`
	Data   string        `help:"JSON file with the event's data, or with a whole event." type:"existingfile"`
	Sample string        `help:"Sample user: ada, phone-only or several-addresses." default:"ada"`
	User   string        `help:"Id of the sample user."                              default:"user_2clerksyncSampleAdaLovelace"`
	To     string        `help:"Where to post to."                                   default:"http://127.0.0.1:3000/webhooks/clerk"`
	Secret string        `help:"Signing secret (whsec_…); else CLERK_WEBHOOK_SIGNING_SECRET, else that of 'clerksync dev' in ./data."`
	Within time.Duration `help:"How long to wait for the answer."                    default:"15s"`
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
	if !config.IsHTTP(c.To) {
		return errors.New("--to is no URL: say http://HOST:PORT" + webhook.Path)
	}
	body, err := c.body()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, c.Within)
	defer cancel()
	status, text, err := post(ctx, c.To, secret, body)
	if err != nil {
		return fmt.Errorf("nothing answers at %s: start 'clerksync dev', or say where with --to: %w", c.To, withoutURL(err))
	}
	_, err = fmt.Fprintln(e.stdout, strings.TrimSpace(fmt.Sprintf("%d %s %s", status, http.StatusText(status), text)))
	if status >= http.StatusMultipleChoices {
		return fmt.Errorf("the webhook was not accepted")
	}
	if c.Type == clerk.UserDeleted && c.Data == "" {
		_, err = fmt.Fprintln(e.stdout, "a deleted user stays deleted: choose another id with --user for the next user.created")
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
	secret, err := devSecret()
	if errors.Is(err, fs.ErrNotExist) {
		err = errors.New("no signing secret: " +
			"start 'clerksync dev' in this folder, or set CLERK_WEBHOOK_SIGNING_SECRET or --secret")
	}
	return secret, err
}

// body returns the whole event.
func (c sendCmd) body() ([]byte, error) {
	if c.Data == "" {
		return sampleEvent(c.Type, c.Sample, c.User, time.Now())
	}
	data, err := os.ReadFile(c.Data)
	if err != nil {
		return nil, err
	}
	if !json.Valid(data) {
		return nil, fmt.Errorf("%s is not JSON", c.Data)
	}
	if e, err := clerk.ParseEnvelope(data); err == nil && e.Data != nil {
		return data, nil // byte for byte
	}
	return envelope(c.Type, data, time.Now())
}

// sampleEvent returns an event of the given type about one of the sample users, as Clerk would post it now.
func sampleEvent(typ, sample, userID string, now time.Time) ([]byte, error) {
	name := path.Join("samples", sample+"."+typ+".json")
	b, err := samples.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("there is no sample %s for %s: the samples are %s; or give the data with --data", sample, typ, strings.Join(sampleNames(), ", "))
	}
	var data map[string]any
	if err := json.Unmarshal(b, &data); err != nil {
		return nil, fmt.Errorf("sample %s: %w", name, err)
	}
	data["id"] = userID
	if typ == clerk.UserCreated {
		data["created_at"] = now.UnixMilli() // a welcome mail is for new users
	}
	if _, ok := data["updated_at"]; ok {
		data["updated_at"] = now.UnixMilli()
	}
	return envelope(typ, data, now)
}

func sampleNames() []string {
	var names []string
	entries, _ := samples.ReadDir("samples") // it is embedded
	for _, e := range entries {
		names = append(names, strings.Replace(strings.TrimSuffix(e.Name(), ".json"), ".", " for ", 1))
	}
	return names
}

func envelope(typ string, data any, now time.Time) ([]byte, error) {
	if raw, ok := data.([]byte); ok {
		data = json.RawMessage(raw)
	}
	return json.Marshal(map[string]any{
		"data": data, "object": "event", "type": typ, "timestamp": now.UnixMilli(), "instance_id": app.SampleInstance,
		"event_attributes": map[string]any{"http_request": map[string]any{"client_ip": "", "user_agent": "clerksync send"}},
	})
}

// post signs body as Svix does, with a new message id, posts it and returns the answer.
func post(ctx context.Context, url, secret string, body []byte) (status int, text string, err error) {
	wh, err := svix.NewWebhook(secret)
	if err != nil {
		return 0, "", fmt.Errorf("signing secret: %w", err)
	}
	now := time.Now()
	id := "msg_" + rand.Text()
	sig, err := wh.Sign(id, now, body)
	if err != nil {
		return 0, "", fmt.Errorf("sign: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("svix-id", id)
	req.Header.Set("svix-timestamp", strconv.FormatInt(now.Unix(), 10))
	req.Header.Set("svix-signature", sig)
	res, err := (&http.Client{}).Do(req)
	if err != nil {
		return 0, "", err
	}
	answer, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	return res.StatusCode, string(bytes.TrimSpace(answer)), errors.Join(err, res.Body.Close())
}
