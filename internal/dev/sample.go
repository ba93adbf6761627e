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
	"maps"
	"net/http"
	"path"
	"strings"
	"time"

	"clerksync/clerk"
	"clerksync/store"
	"clerksync/webhook"
)

//go:embed samples
var samples embed.FS

// Sample returns an event of the given type about one of the sample users, who gets the given id, as Clerk would post
// it now.
func Sample(typ, sample, userID string) ([]byte, error) {
	return sampleAt(time.Now(), typ, sample, map[string]any{"id": userID})
}

// sampleAt returns an event that happens at a time, with these values in its data instead of the sample's.
func sampleAt(at time.Time, typ, sample string, values map[string]any) ([]byte, error) {
	b, err := samples.ReadFile(path.Join("samples", sample+"."+typ+".json"))
	if err != nil {
		return nil, fmt.Errorf("there is no sample %.100q for %.100q: the samples are %s; or give the data with --data",
			sample, typ, strings.Join(names(), ", "))
	}
	var data map[string]any
	if err := json.Unmarshal(b, &data); err != nil {
		return nil, err
	}
	if typ == clerk.UserCreated {
		data["created_at"] = at.UnixMilli() // only new users get the welcome mail
	}
	if _, ok := data["updated_at"]; ok {
		data["updated_at"] = at.UnixMilli()
	}
	maps.Copy(data, values)
	if b, err = json.Marshal(data); err != nil {
		return nil, err
	}
	return eventAt(at, typ, b)
}

// names returns the samples as "SAMPLE for TYPE".
func names() []string {
	var all []string
	entries, _ := samples.ReadDir("samples") // it cannot fail
	for _, e := range entries {
		all = append(all, strings.Replace(strings.TrimSuffix(e.Name(), ".json"), ".", " for ", 1))
	}
	return all
}

// Event returns an event with this data as Clerk would post it now, but with the instance webhook.SampleInstance.
func Event(typ string, data json.RawMessage) ([]byte, error) { return eventAt(time.Now(), typ, data) }

func eventAt(at time.Time, typ string, data json.RawMessage) ([]byte, error) {
	request := map[string]any{"client_ip": "", "user_agent": "clerksync send"}
	return json.Marshal(map[string]any{
		"data": data, "object": "event", "type": typ, "timestamp": at.UnixMilli(),
		"instance_id": webhook.SampleInstance, "event_attributes": map[string]any{"http_request": request},
	})
}

// MessageID returns a new svix-id.
func MessageID() string { return "msg_" + rand.Text() }

// Post signs an event as Svix does, under the svix-id, posts it and returns the answer.
func Post(ctx context.Context, url, secret, id string, event []byte) (status int, text string, err error) {
	req, err := webhook.Signed(ctx, url, secret, id, event)
	if err != nil {
		return 0, "", err
	}
	res, err := webhook.Post(req)
	if err != nil {
		return 0, "", err
	}
	answer, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	return res.StatusCode, string(bytes.TrimSpace(answer)), errors.Join(err, res.Body.Close())
}

// demoWait bounds the wait for a row after its webhook. Usually it takes a quarter of a second.
const demoWait = 30 * time.Second

// Demo posts three webhooks about one user to the URL hook, and prints the user's row after each, formatted by text. It
// fails if a row does not get the values of its webhook within demoWait.
func Demo(
	ctx context.Context, w io.Writer, users *store.Users, hook, secret string, text func(store.Row) (string, error),
) error {
	id := "user_2demo" + rand.Text()[:22]
	for _, step := range []struct{ typ, title string }{
		{clerk.UserCreated, "Ada signs up"},
		{clerk.UserUpdated, "Ada marries and changes her picture"},
		{clerk.UserDeleted, "Ada deletes her account"},
	} {
		event, err := Sample(step.typ, "ada", id)
		if err != nil {
			return err
		}
		want, err := asWrite(event)
		if err != nil {
			return err
		}
		status, answer, err := Post(ctx, hook, secret, MessageID(), event)
		if err != nil {
			return fmt.Errorf("demo: %w", err)
		}
		if _, err := fmt.Fprintf(w, "\n%s: %s → %d\n", step.title, step.typ, status); err != nil {
			return err
		}
		if status != http.StatusAccepted {
			return fmt.Errorf("demo: the webhook was answered %d %s", status, answer)
		}
		row, found, err := waitFor(ctx, users, want)
		line := "(no row)"
		if found {
			line, err = text(row)
		}
		if err != nil {
			return fmt.Errorf("demo: after %s: %w", step.typ, err)
		}
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintln(w, "\nAll three rows are as Clerk has the user.")
	return err
}

// asWrite returns the write that an event about a user asks for.
func asWrite(event []byte) (w store.Write, err error) {
	e, err := clerk.ParseEnvelope(event)
	if err != nil {
		return w, err
	}
	w.EventTime.Clerk, w.Deleted = e.Timestamp, e.Type == clerk.UserDeleted
	if w.Deleted {
		w.User.ID, err = clerk.ParseDeleted(e.Data)
	} else {
		w.User, err = clerk.ParseUser(e.Data)
	}
	return w, err
}

// waitFor waits until the row is as the write makes it, and returns it; there is none if the write is a deletion. It
// fails after demoWait.
func waitFor(ctx context.Context, users *store.Users, want store.Write) (r store.Row, found bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, demoWait)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		r, err = users.Get(ctx, want.User.ID)
		gone := errors.Is(err, store.ErrNotFound)
		switch {
		case err != nil && !gone:
			return r, false, err
		case gone && want.Deleted:
			return r, false, nil
		case !gone && !want.Deleted:
			now := users.Write(ctx, []store.Write{want}, store.DryRun)[0]
			if now.Err != nil {
				return r, false, now.Err
			}
			if now.Outcome == store.Unchanged {
				r, err = users.Get(ctx, want.User.ID) // it may have been written after it was read above
				return r, true, err
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return r, false, errors.New("the row did not become right in time")
		}
	}
}
