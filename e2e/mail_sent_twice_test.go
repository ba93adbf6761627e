package e2e_test

import (
	"fmt"
	"strings"
	"testing"

	"clerksync/internal/testenv"
)

// mailWorld starts a world with a mail server.
func mailWorld(t *testing.T, o testenv.SMTPOptions) (*world, *testenv.SMTP) {
	t.Helper()
	srv := testenv.NewSMTP(t, o)
	return newWorld(t, options{env: []string{
		"SMTP_URL=smtp://" + srv.Addr, "MAIL_FROM=App <hello@app.example>", "APP_URL=https://app.example",
	}}), srv
}

// TestWelcomeMail: each sign-up makes a row and exactly one mail, although webhooks come twice and the service is
// killed in between.
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
				sent := map[string]any{"sent_at": map[string]any{"$exists": true}}
				return w.count("clerksync_welcome_mails", sent) == int64(i+1)
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
