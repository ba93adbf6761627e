package e2e_test

import (
	"bytes"
	"strings"
	"sync/atomic"
	"testing"

	"clerksync/internal/testenv"

	"github.com/emersion/go-smtp"
)

// TestMailTrouble: rows are written although the mail server refuses everything. The mail is a dead letter of its own,
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
	w.until("it is the only row in the inbox", func() bool { return w.count("clerksync_inbox", struct{}{}) == 1 })
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
