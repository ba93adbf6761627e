package main

import (
	"bytes"
	"strings"
	"testing"

	"clerksync/internal/testenv"

	"github.com/emersion/go-smtp"
)

// TestMailTestQuotesTheServer: who sends a mail by hand is told what the mail server says, also where it has an
// address.
func TestMailTestQuotesTheServer(t *testing.T) {
	t.Parallel()
	srv := testenv.NewSMTP(t, testenv.SMTPOptions{Rcpt: func(string) error {
		return &smtp.SMTPError{
			Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "<ada@example.com>: no such user\x1b[2J here",
		}
	}})
	settings := map[string]string{"SMTP_URL": "smtp://" + srv.Addr, "MAIL_FROM": "App <hello@app.example>"}
	var out, log bytes.Buffer
	err := run(t.Context(), []string{"mail", "test", "ada@example.com"}, environ(settings), &out, &log)
	want := "the mail was not sent: the mail is refused for good: the SMTP server answered 550: sending RCPT TO " +
		`(5.1.1, no such mailbox); the server said: 550 5.1.1 <ada@example.com>: no such user [2J here`
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if out.Len()+log.Len() > 0 {
		t.Errorf("printed %s, logged %s", &out, &log)
	}
}

// TestMailTest: the mail can be sent by hand; what is wrong is said in a line. The rest is in
// testdata/script/mail.txtar.
func TestMailTest(t *testing.T) {
	t.Parallel()
	srv := testenv.NewSMTP(t, testenv.SMTPOptions{})
	set := []string{"SMTP_URL=smtp://" + srv.Addr, "MAIL_FROM=App <hello@app.example>"}
	for name, tc := range map[string]struct {
		args, environ []string
		out, err      string
	}{
		"test": {
			[]string{"mail", "test", "you@example.com"},
			set, "the SMTP server has taken the mail to you@example.com\n",
			"",
		},
		"to no address": {[]string{"mail", "test", "you"}, set, "", "the mail was not sent: "},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			err := run(t.Context(), tc.args, tc.environ, &out, &out)
			if (err != nil) != (tc.err != "") || err != nil && (!strings.Contains(err.Error(), tc.err) ||
				strings.ContainsAny(err.Error(), "\n") || strings.Contains(err.Error(), "hunter2")) {
				t.Errorf("got %v, want %q", err, tc.err)
			}
			if !strings.HasPrefix(out.String(), tc.out) {
				t.Errorf("printed %q, want %q", &out, tc.out)
			}
		})
	}
	if n := len(srv.Mails()); n != 1 {
		t.Errorf("got %d mails, want 1", n)
	}
}
