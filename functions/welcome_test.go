package functions_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"clerksync/functions"
	"clerksync/internal/testenv"
	"clerksync/mail"
	"clerksync/store"

	"github.com/emersion/go-smtp"
	"github.com/google/go-cmp/cmp"
)

// post is a rig with the welcome mail and an SMTP server.
type post struct {
	rig
	claims *store.Welcomes
	smtp   *testenv.SMTP
	mail   *functions.Welcome
}

func newPost(t *testing.T, o testenv.SMTPOptions, unverified bool, checkpoint func(n int) int) post {
	t.Helper()
	p := post{smtp: testenv.NewSMTP(t, o)}
	m, mistakes := mail.New(mail.Options{URL: "smtp://" + p.smtp.Addr, From: "App <hello@app.example>"})
	if mistakes != nil {
		t.Fatal(mistakes)
	}
	w := &functions.Welcome{Mailer: m, Unverified: unverified}
	p.rig = setupWith(t, functions.Functions{Welcome: w}, checkpoint)
	p.claims, p.mail = store.NewWelcomes(p.db), w
	w.Claims = p.claims
	return p
}

// signUp is the event of a user who signed up the given time ago.
func signUp(id string, ago time.Duration, change ...string) testenv.Event {
	at := time.Now().Add(-ago).UnixMilli()
	data := strings.NewReplacer("1767603600000", fmt.Sprint(at), "1767603600018", fmt.Sprint(at)).Replace(user)
	return testenv.Event{
		ID: id, Name: "clerk/user.created", TS: at, Data: json.RawMessage(strings.NewReplacer(change...).Replace(data)),
	}
}

func (p post) welcome(t *testing.T, e testenv.Event, want string) {
	t.Helper()
	r := p.Run(t, sendWelcome, e)
	if !strings.Contains(string(r.Output), want) || r.Failed {
		t.Errorf("%s: got %s, %s, want %q", e.ID, r.Output, r.Error, want)
	}
}

// TestWelcome: who gets a mail.
func TestWelcome(t *testing.T) {
	t.Parallel()
	verified := `"verification":{"status":"verified"}`
	address := `"email_addresses":[{"id":"idn_1","email_address":"ada@example.com",` + verified + `}]`
	replay := signUp("msg_1:send-welcome-email:replay1", 100*24*time.Hour)
	replay.Name = "clerksync/replay.send-welcome-email"
	for name, tc := range map[string]struct {
		event      testenv.Event
		unverified bool
		deleted    bool
		since      time.Duration // so long ago
		want       string
		mails      int
	}{
		"a new user":                       {event: signUp("msg_1", 0), want: `"sent"`, mails: 1},
		"an event that was sent again":     {event: signUp("msg_1:r1", time.Hour), want: `"sent"`, mails: 1},
		"no id":                            {event: signUp("", 0), want: `"sent"`, mails: 1},
		"a replay of the row's event":      {event: signUp("msg_1:replay1", 0), want: "skipped: the event is replayed"},
		"a replay of the mail, days later": {event: replay, want: `"sent"`, mails: 1},
		"no address": {
			event: signUp("msg_1", 0, address, `"email_addresses":[]`), want: "skipped: no address",
		},
		"not verified": {
			event: signUp("msg_1", 0, verified, `"verification":null`), want: "skipped: the address is not verified",
		},
		"not verified, but wanted": {
			event: signUp("msg_1", 0, verified, `"verification":null`), unverified: true, want: `"sent"`, mails: 1,
		},
		"Clerk's last try":                 {event: signUp("msg_1", 52*time.Hour), want: `"sent"`, mails: 1},
		"Clerk's replay of an old message": {event: signUp("msg_1", 30*24*time.Hour), want: "skipped: not a new user"},
		"deleted":                          {event: signUp("msg_1", 0), deleted: true, want: "skipped: deleted"},
		"signed up before mails are sent": {
			event: signUp("msg_1", time.Hour), since: time.Minute, want: "skipped: signed up before the time",
		},
		"signed up since": {
			event: signUp("msg_1", time.Minute), since: time.Hour, want: `"sent"`, mails: 1,
		},
		"a replay, of who signed up before": {
			event: replay, since: time.Hour, want: "skipped: signed up before the time",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPost(t, testenv.SMTPOptions{}, tc.unverified, nil)
			if tc.since != 0 {
				p.mail.Since = time.Now().Add(-tc.since)
			}
			if tc.deleted {
				testenv.Delete(t, p.users, "user_a")
			}
			p.pending("msg_1", "msg_1:send-welcome-email")
			p.welcome(t, tc.event, tc.want)
			if got := len(p.smtp.Mails()); got != tc.mails {
				t.Errorf("got %d mails, want %d", got, tc.mails)
			}
			// Only a replay of its own is this function's to clear.
			want := []string{"msg_1", "msg_1:send-welcome-email"}
			if tc.event.Name == replay.Name {
				want = want[:1]
			}
			if d := cmp.Diff(want, p.left(t)); d != "" {
				t.Errorf("left in the inbox (-want +got):\n%s", d)
			}
		})
	}
}

// TestWelcomeOnce: redeliveries of a sign-up, under whatever id, send nothing more.
func TestWelcomeOnce(t *testing.T) {
	t.Parallel()
	p := newPost(t, testenv.SMTPOptions{}, false, nil)
	p.welcome(t, signUp("msg_1", 0), `"sent"`)
	for _, id := range []string{"msg_1", "msg_1:r1", "01JULID", ""} {
		p.welcome(t, signUp(id, 0), "sent before")
	}
	if got := len(p.smtp.Mails()); got != 1 {
		t.Errorf("got %d mails, want 1", got)
	}
}

func TestWelcomeTrouble(t *testing.T) {
	t.Parallel()
	answer := func(codes ...int) func(int) error {
		return func(n int) error {
			if n >= len(codes) {
				return nil
			}
			if codes[n] == 0 {
				return testenv.ErrCut
			}
			return &smtp.SMTPError{
				Code: codes[n], EnhancedCode: smtp.EnhancedCodeNotSet, Message: "no, ada@example.com",
			}
		}
	}
	for name, tc := range map[string]struct {
		data   func(int) error
		failed bool
		tries  int
		mails  int
	}{
		"4xx twice and then taken": {answer(451, 421), false, 3, 1},
		"5xx is not tried again":   {answer(554), true, 1, 0},
		"4xx and then 5xx":         {answer(450, 550), true, 2, 0},
		"for ever 4xx":             {func(int) error { return answer(451)(0) }, true, 21, 0},
		"cut after the last dot":   {answer(0), false, 1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for server, checkpoint := range servers {
				p := newPost(t, testenv.SMTPOptions{Data: tc.data}, false, checkpoint)
				r := p.Run(t, sendWelcome, signUp("msg_1", 0))
				if r.Failed != tc.failed || p.smtp.Tries() != tc.tries || strings.Contains(r.Error, "ada@") {
					t.Errorf("%s: got %+v after %d tries, want failed %v after %d", server, r, p.smtp.Tries(),
						tc.failed, tc.tries)
				}
				mails := p.smtp.Mails()
				if len(mails) != tc.mails {
					t.Fatalf("%s: got %d mails, want %d", server, len(mails), tc.mails)
				}
				for _, m := range mails {
					got, want := m.Message(t).Header.Get("Message-Id"), mails[0].Message(t).Header.Get("Message-Id")
					if got != want {
						t.Errorf("%s: got Message-ID %s, want %s", server, got, want)
					}
				}
			}
		})
	}
}

// TestSlowAnswerMailsAgain: while the server thinks about the whole message, a mail goes out once. Each attempt once
// gave up after 30 s and the next one sent the mail again; an attempt of the same run, which Inngest makes when a call
// breaks, did so at once.
func TestSlowAnswerMailsAgain(t *testing.T) {
	t.Parallel()
	got, answer := make(chan struct{}), make(chan struct{})
	p := newPost(t, testenv.SMTPOptions{Data: func(n int) error {
		if n == 0 {
			close(got)
			<-answer
		}
		return nil
	}}, false, nil)
	ctx, hangUp := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() { first <- p.Attempt(ctx, t, sendWelcome, signUp("msg_1", 0)) }()
	<-got
	if err := p.Attempt(t.Context(), t, sendWelcome, signUp("msg_1", 0)); err == nil ||
		!strings.Contains(err.Error(), "another attempt is sending") {
		t.Errorf("the same run meets its own fresh claim: got %v", err)
	}
	hangUp() // what called the function does not wait for so long
	close(answer)
	if err := <-first; err != nil {
		t.Error(err)
	}
	p.welcome(t, signUp("msg_1", 0), "sent before")
	if got := len(p.smtp.Mails()); got != 1 {
		t.Errorf("got %d mails, want 1", got)
	}
}

// TestPerhapsSentIsNotSentAgain: after the last dot nobody knows, so neither another event nor a new run sends the mail
// again, also where the process died there; a replay does, if the person who asked for it was told so ('clerksync
// deadletters replay').
func TestPerhapsSentIsNotSentAgain(t *testing.T) {
	t.Parallel()
	replay := signUp("msg_1:send-welcome-email:replay1", 0)
	replay.Name = "clerksync/replay.send-welcome-email"
	for name, tc := range map[string]struct {
		before func(t *testing.T, p post)
		mails  int
	}{
		"the connection broke": {func(t *testing.T, p post) {
			t.Helper()
			p.welcome(t, signUp("msg_1", 0),
				`"perhaps sent: the mail server had all of it and did not say that it took it; it is not sent again"`)
		}, 1},
		"the process died": {func(t *testing.T, p post) {
			t.Helper()
			c, err := p.claims.Claim(t.Context(), "user_a", "01JTESTRUN")
			if err := errors.Join(err, p.claims.Sending(t.Context(), c)); err != nil {
				t.Fatal(err)
			}
		}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPost(t, testenv.SMTPOptions{Data: func(n int) error {
				if n == 0 && tc.mails == 1 {
					return testenv.ErrCut
				}
				return nil
			}}, false, nil)
			tc.before(t, p)
			over := map[string]any{"$set": map[string]any{"claimed_at": time.Now().Add(-store.ClaimLease)}}
			if _, err := p.db.Collection("clerksync_welcome_mails").UpdateByID(t.Context(), "user_a",
				over); err != nil {
				t.Fatal(err)
			}
			for _, e := range []testenv.Event{signUp("msg_1", 0), signUp("msg_1:r1", 0), replay} {
				p.welcome(t, e, `"perhaps sent before: it is not sent again"`)
			}
			if got := len(p.smtp.Mails()); got != tc.mails {
				t.Errorf("got %d mails, want %d", got, tc.mails)
			}
			if again, err := p.claims.SendAgain(t.Context(), "user_a"); !again || err != nil {
				t.Fatalf("got %v, %v, want it to be sent again", again, err)
			}
			p.welcome(t, replay, `"sent"`)
			if got := len(p.smtp.Mails()); got != tc.mails+1 {
				t.Errorf("got %d mails, want %d", got, tc.mails+1)
			}
		})
	}
}

// TestWaitForMailServer: a run waits for what the server says to the whole message, a minute at the most, and then
// leaves its claim as it is.
func TestWaitForMailServer(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		answer time.Duration
		says   error
		want   string
		after  store.ClaimState
	}{
		"it takes the mail after 50 s": {50 * time.Second, nil, `"sent"`, store.Sent},
		"it refuses after 50 s":        {50 * time.Second, &smtp.SMTPError{Code: 451}, "answered 451", store.Won},
		"it says nothing for a minute": {70 * time.Second, nil, "perhaps sent", store.PerhapsSent},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				network := testenv.NewPipes()
				testenv.NewSMTP(t, testenv.SMTPOptions{
					Listener: network, Data: func(int) error { <-time.After(tc.answer); return tc.says },
				})
				m, mistakes := mail.New(mail.Options{
					URL: "smtp://127.0.0.1", From: "App <hello@app.example>", Dial: network.Dial,
				})
				if mistakes != nil {
					t.Fatal(mistakes)
				}
				w := &functions.Welcome{Mailer: m}
				f := setup(t, functions.Functions{Welcome: w})
				w.Claims = store.NewWelcomes(f.db)
				start := time.Now()
				_, _, body := f.Call(t.Context(), t, sendWelcome, signUp("msg_1", 0), nil, 0, 21)
				if !strings.Contains(string(body), tc.want) || time.Since(start) > functions.RunTimeout {
					t.Errorf("got %s after %v, want %q within %v", body, time.Since(start), tc.want,
						functions.RunTimeout)
				}
				<-time.After(store.ClaimLease) // and the server is slower
				if c, err := w.Claims.Claim(t.Context(), "user_a", "01JOTHER"); err != nil || c.State != tc.after {
					t.Errorf("the mail is %s, %v, for another run, want %s", c.State, err, tc.after)
				}
			})
		})
	}
}

// TestWelcomeDeadLetter: a failed mail is a dead letter of its own, under which a replay finds this function alone; one
// that fails again is the same dead letter.
func TestWelcomeDeadLetter(t *testing.T) {
	t.Parallel()
	p := newPost(t, testenv.SMTPOptions{}, false, nil)
	for _, e := range []struct{ id, name string }{
		{"msg_1", "clerk/user.created"},
		{"msg_1:r2", "clerk/user.created"},
		{"msg_1:send-welcome-email:replay1", "clerksync/replay.send-welcome-email"},
	} {
		data, err := json.Marshal(map[string]any{
			"function_id": "app-send-welcome-email", "run_id": "01J", "error": map[string]any{
				"message": "the mail is refused for good",
			},
			"event": map[string]any{"id": e.id, "name": e.name, "ts": 1, "data": map[string]any{"id": "user_a"}},
		})
		if err != nil {
			t.Fatal(err)
		}
		p.Run(t, markFailed, testenv.Event{Name: "inngest/function.failed", Data: data})
		got := p.deadLetters(t)
		if len(got) != 1 || got[0].ID != "msg_1:send-welcome-email" ||
			got[0].Name != "clerksync/replay.send-welcome-email" {
			t.Errorf("%s: got dead letters %+v", e.id, got)
		}
		if !functions.Handles(got[0].Name) {
			t.Errorf("nobody clears %s", got[0].Name)
		}
	}
}
