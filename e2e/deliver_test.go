package e2e_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"testing"
	"time"

	"clerksync/internal/testenv"

	"golang.org/x/sync/errgroup"
)

// life returns a user with two webhooks and a deletion.
func life(t *testing.T, id string) (created, updated, deleted testenv.Webhook) {
	t.Helper()
	hook := func(typ string, at int64, data map[string]any) testenv.Webhook {
		data["id"], data["object"] = id, "user"
		raw, err := json.Marshal(data)
		if err != nil {
			t.Fatal(err)
		}
		body, err := json.Marshal(map[string]any{
			"type": typ, "object": "event", "timestamp": at + 20, "data": json.RawMessage(raw),
		})
		if err != nil {
			t.Fatal(err)
		}
		return testenv.Webhook{ID: "msg_" + id + typ, Type: typ, Body: body, Data: raw}
	}
	user := func(last string, at int64) map[string]any {
		return map[string]any{
			"first_name": "Ada", "last_name": last, "image_url": "", "created_at": 1767603600000, "updated_at": at,
		}
	}
	return hook("user.created", 1767603600000, user("Byron", 1767603600000)),
		hook("user.updated", 1767603700000, user("King", 1767603700000)),
		hook("user.deleted", 1767603800000, map[string]any{"deleted": true})
}

// signUp is the webhook of a user who has just signed up.
func signUp(t *testing.T, n int) testenv.Webhook {
	t.Helper()
	now := time.Now().UnixMilli()
	id := fmt.Sprintf("user_2mail%020d", n)
	body, err := json.Marshal(map[string]any{
		"type": "user.created", "object": "event", "timestamp": now, "data": map[string]any{
			"id": id, "object": "user", "first_name": "Ada", "last_name": "Lovelace", "created_at": now,
			"updated_at":               now,
			"primary_email_address_id": "idn_1", "email_addresses": []any{map[string]any{
				"id": "idn_1", "email_address": fmt.Sprintf("ada-%d@mail.example", n), "verification": map[string]any{
					"status": "verified",
				},
			}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return testenv.Webhook{ID: "msg_" + id, Type: "user.created", Body: body}
}

// shuffled returns all webhooks in a random order, a fifth of them twice.
func shuffled(rng *rand.Rand, histories []testenv.History) []testenv.Webhook {
	var hooks []testenv.Webhook
	for _, h := range histories {
		for _, hook := range h.Webhooks {
			hooks = append(hooks, hook)
			if rng.IntN(5) == 0 {
				hooks = append(hooks, hook)
			}
		}
	}
	rng.Shuffle(len(hooks), func(i, j int) { hooks[i], hooks[j] = hooks[j], hooks[i] })
	return hooks
}

// deliverAll delivers the webhooks, 16 at a time. If killInngest is set, it kills Inngest halfway, and starts it again
// a second later.
func (w *world) deliverAll(hooks []testenv.Webhook, killInngest bool) {
	w.t.Helper()
	var g errgroup.Group
	g.SetLimit(16)
	for i, hook := range hooks {
		if killInngest && i == len(hooks)/2 {
			if err := w.inngest.Kill(); err != nil {
				w.t.Fatal(err)
			}
			g.Go(func() error {
				<-time.After(time.Second)
				w.startInngest()
				return nil
			})
		}
		g.Go(func() error { w.deliver(hook); return nil })
	}
	_ = g.Wait() // deliver fails the test
}

// integrate sends an event as Inngest's own Clerk integration does: without an id, and with the time of arrival.
func (w *world) integrate(name string, data any) {
	w.t.Helper()
	if err := w.send(name, data); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) send(name string, data any) error {
	b, err := json.Marshal(map[string]any{"name": name, "data": data})
	if err != nil {
		return err
	}
	w.keepPrivate(b)
	url := w.inngestURL() + "/e/" + eventKey
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, url, bytes.NewReader(b))
	if err != nil {
		return err
	}
	res, err := (&http.Client{Timeout: 15 * time.Second}).Do(req)
	if err != nil {
		return err
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return errors.New(res.Status)
	}
	return nil
}

// compare checks that the rows are what they must be.
func (w *world) compare(histories []testenv.History) {
	w.t.Helper()
	wrong := testenv.CheckAll(histories, w.row)
	for _, d := range wrong[:min(3, len(wrong))] {
		w.t.Error(d)
	}
	if len(wrong) > 0 {
		w.t.Errorf("%d faults in %d rows", len(wrong), len(histories))
	}
}
