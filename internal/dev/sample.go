package dev

import (
	"bytes"
	"context"
	"crypto/rand"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"

	"clerksync/clerk"
	"clerksync/webhook"

	svix "github.com/svix/svix-webhooks/go"
)

//go:embed samples
var samples embed.FS

// Sample returns an event of the given type about one of the sample users, with that id, as Clerk would post it now.
func Sample(typ, sample, userID string) ([]byte, error) {
	b, err := samples.ReadFile(path.Join("samples", sample+"."+typ+".json"))
	if err != nil {
		return nil, fmt.Errorf("there is no sample %.100q for %.100q: the samples are %s; or give the data with --data",
			sample, typ, strings.Join(names(), ", "))
	}
	var data map[string]any
	if err := json.Unmarshal(b, &data); err != nil {
		return nil, err
	}
	now := time.Now().UnixMilli()
	data["id"] = userID
	if typ == clerk.UserCreated {
		data["created_at"] = now // a welcome mail is for new users
	}
	if _, ok := data["updated_at"]; ok {
		data["updated_at"] = now
	}
	if b, err = json.Marshal(data); err != nil {
		return nil, err
	}
	return Event(typ, b)
}

// names returns which samples there are for which type.
func names() []string {
	var all []string
	entries, _ := samples.ReadDir("samples") // it is embedded
	for _, e := range entries {
		all = append(all, strings.Replace(strings.TrimSuffix(e.Name(), ".json"), ".", " for ", 1))
	}
	return all
}

// Event returns an event with this data as Clerk would post it now, but of no instance of Clerk's.
func Event(typ string, data json.RawMessage) ([]byte, error) {
	request := map[string]any{"client_ip": "", "user_agent": "clerksync send"}
	return json.Marshal(map[string]any{
		"data": data, "object": "event", "type": typ, "timestamp": time.Now().UnixMilli(),
		"instance_id": webhook.SampleInstance, "event_attributes": map[string]any{"http_request": request},
	})
}

// Post signs an event as Svix does, with a new message id, posts it and returns the answer.
func Post(ctx context.Context, url, secret string, event []byte) (status int, text string, err error) {
	now, id := time.Now(), "msg_"+rand.Text()
	wh, err := svix.NewWebhook(secret)
	if err != nil {
		return 0, "", fmt.Errorf("signing secret: %w", err)
	}
	signature, err := wh.Sign(id, now, event)
	if err != nil {
		return 0, "", fmt.Errorf("sign: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(event))
	if err != nil {
		return 0, "", err
	}
	for name, value := range map[string]string{
		"Content-Type": "application/json", "svix-id": id, "svix-timestamp": strconv.FormatInt(now.Unix(), 10),
		"svix-signature": signature,
	} {
		req.Header.Set(name, value)
	}
	res, err := (&http.Client{}).Do(req)
	if err != nil {
		return 0, "", err
	}
	answer, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	return res.StatusCode, string(bytes.TrimSpace(answer)), errors.Join(err, res.Body.Close())
}
