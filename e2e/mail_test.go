package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"clerksync/internal/testenv"

	"github.com/emersion/go-smtp"
)

// signUp is the webhook of a user who has just signed up.
func signUp(t *testing.T, n int) testenv.Webhook {
	t.Helper()
	now := time.Now().UnixMilli()
	id := fmt.Sprintf("user_2mail%020d", n)
	body, err := json.Marshal(map[string]any{
		"type": "user.created", "object": "event", "timestamp": now, "data": map[string]any{
			"id": id, "object": "user", "first_name": "Ada", "last_name": "Lovelace", "created_at": now, "updated_at": now,
			"primary_email_address_id": "idn_1", "email_addresses": []any{map[string]any{
				"id": "idn_1", "email_address": fmt.Sprintf("ada-%d@mail.example", n), "verification": map[string]any{"status": "verified"},
			}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return testenv.Webhook{ID: "msg_" + id, Type: "user.created", Body: body}
}

// mailWorld starts a world with a mail server.
func mailWorld(t *testing.T, o testenv.SMTPOptions) (*world, *testenv.SMTP) {
	t.Helper()
	srv := testenv.NewSMTP(t, o)
	w := newWorld(t, options{})
	kill(w.service)
	w.env = append(w.env, "SMTP_URL=smtp://"+srv.Addr, "MAIL_FROM=App <hello@app.example>", "APP_URL=https://app.example")
	w.startService()
	return w, srv
}

// TestWelcomeMail: each sign-up makes a row and exactly one mail, though webhooks come twice and the service is killed
// in between.
func TestWelcomeMail(t *testing.T) {
	t.Parallel()
	w, srv := mailWorld(t, testenv.SMTPOptions{})
	const n = 20
	for i := range n {
		hook := signUp(t, i)
		w.deliver(hook)
		w.deliver(hook)
		if i == n/2 {
			w.drained()
			w.until("half of the mails are noted as sent", func() bool { // so that none is in the window
				c, err := w.store.Collection("clerksync_welcome_mails").CountDocuments(t.Context(), map[string]any{"sent_at": map[string]any{"$exists": true}})
				return err == nil && c == int64(i+1)
			})
			kill(w.service)
			w.startService()
		}
	}
	w.drained()
	w.until("the mails are there", func() bool { return len(srv.Mails()) >= n })
	for i := range n {
		w.deliver(signUp(t, i)) // as Clerk's replay does
	}
	w.drained()
	got := map[string]int{}
	for _, m := range srv.Mails() {
		got[strings.Join(m.To, " ")]++
	}
	for i := range n {
		if to := fmt.Sprintf("ada-%d@mail.example", i); got[to] != 1 {
			t.Errorf("got %d mails to %s, want 1", got[to], to)
		}
		if w.row(fmt.Sprintf("user_2mail%020d", i)) == nil {
			t.Errorf("no row of user %d", i)
		}
	}
}

// TestMailTrouble: the rows are written while the mail server refuses everything; the mail is a dead letter of its own,
// and a replay sends it.
func TestMailTrouble(t *testing.T) {
	t.Parallel()
	var refuse atomic.Int32
	refuse.Store(550)
	w, srv := mailWorld(t, testenv.SMTPOptions{Data: func(int) error {
		if code := int(refuse.Load()); code != 0 {
			return &smtp.SMTPError{Code: code, EnhancedCode: smtp.EnhancedCodeNotSet, Message: "no"}
		}
		return nil
	}})
	w.deliver(signUp(t, 1))
	w.until("the row is there", func() bool { return w.row("user_2mail00000000000000000001") != nil })
	id := signUp(t, 1).ID + ":send-welcome-email"
	w.until("the mail is a dead letter", func() bool { return strings.Contains(w.command("deadletters", "list"), id) })
	w.until("it is the only row in the inbox", func() bool {
		n, err := w.store.Collection("clerksync_inbox").CountDocuments(t.Context(), struct{}{})
		return err == nil && n == 1
	})
	refuse.Store(451)
	w.deliver(signUp(t, 2))
	w.until("the row is there, and the mail is tried", func() bool {
		return w.row("user_2mail00000000000000000002") != nil && srv.Tries() >= 3
	})
	refuse.Store(0)
	w.until("the mail is sent at a retry", func() bool { return len(srv.Mails()) == 1 })
	w.command("deadletters", "replay", id)
	w.until("the replayed mail is sent", func() bool { return len(srv.Mails()) == 2 })
	w.drained()
	if raw := srv.Mails()[1].Raw; !bytes.Contains(raw, []byte("ada-1@mail.example")) {
		t.Errorf("the replay sent %s", raw)
	}
}
