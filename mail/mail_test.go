package mail_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net"
	netmail "net/mail"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"clerksync/internal/testenv"
	"clerksync/mail"

	"github.com/emersion/go-smtp"
	"github.com/google/go-cmp/cmp"
)

var ada = mail.User{ID: "user_a", Email: "ada@example.com", FullName: "Ada Lovelace"}

func options(s *testenv.SMTP) mail.Options {
	return mail.Options{
		URL: "smtp://" + s.Addr, From: "App <hello@app.example>", ReplyTo: "help@app.example", AppName: "App",
		AppURL: "https://app.example/start?a=1&b=2",
		TLS:    &tls.Config{RootCAs: s.Certs, MinVersion: tls.VersionTLS12},
	}
}

func newMailer(t *testing.T, o mail.Options) *mail.Mailer {
	t.Helper()
	m, mistakes := mail.New(o)
	if mistakes != nil {
		t.Fatal(mistakes)
	}
	return m
}

// send sends one mail and returns what the server took.
func send(t *testing.T, o mail.Options, s *testenv.SMTP, u mail.User) testenv.Mail {
	t.Helper()
	if err := newMailer(t, o).Send(t.Context(), u, nil); err != nil {
		t.Fatal(err)
	}
	all := s.Mails()
	if len(all) != 1 {
		t.Fatalf("got %d mails, want 1", len(all))
	}
	return all[0]
}

// parts returns the bodies of a message by media type, decoded, and the types in their order.
func parts(t *testing.T, msg *netmail.Message) (map[string]string, []string) {
	t.Helper()
	typ, params, err := mime.ParseMediaType(msg.Header.Get("Content-Type"))
	if err != nil || typ != "multipart/alternative" {
		t.Fatalf("got %s, %v, want multipart/alternative", typ, err)
	}
	bodies, order := map[string]string{}, []string(nil)
	for r := multipart.NewReader(msg.Body, params["boundary"]); ; {
		p, err := r.NextPart()
		if errors.Is(err, io.EOF) {
			return bodies, order
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(p) // quoted-printable is decoded by NextPart
		if err != nil {
			t.Fatal(err)
		}
		typ, _, _ := mime.ParseMediaType(p.Header.Get("Content-Type"))
		bodies[typ], order = string(bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n"))), append(order, typ)
	}
}

// TestMessage: the message id is made of the user's id alone, so it is the same if the mail is sent twice.
func TestMessage(t *testing.T) {
	t.Parallel()
	s := testenv.NewSMTP(t, testenv.SMTPOptions{})
	got := send(t, options(s), s, ada)
	if got.From != "hello@app.example" || !cmp.Equal(got.To, []string{"ada@example.com"}) {
		t.Errorf("envelope from %q to %q", got.From, got.To)
	}
	msg := got.Message(t)
	for name, want := range map[string]string{
		"From": `"App" <hello@app.example>`, "To": `"Ada Lovelace" <ada@example.com>`, "Reply-To": "<help@app.example>",
		"Subject":    "Welcome to App",
		"Message-Id": "<welcome.6bed901f408d389fa73dcc5f457d7776@app.example>", "Auto-Submitted": "auto-generated",
		"Mime-Version": "1.0",
	} {
		got := msg.Header.Get(name)
		if got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	if d, err := msg.Header.Date(); err != nil || time.Since(d) > time.Minute {
		t.Errorf("date %v, %v", d, err)
	}
	bodies, order := parts(t, msg)
	if want := []string{"text/plain", "text/html"}; !cmp.Equal(order, want) { // the best last, RFC 2046
		t.Errorf("got parts %v, want %v", order, want)
	}
	for _, want := range []string{"Hello Ada,", "Open App: https://app.example/start?a=1&b=2"} {
		if !strings.Contains(bodies["text/plain"], want) {
			t.Errorf("no %q in the text:\n%s", want, bodies["text/plain"])
		}
	}
	for _, want := range []string{
		"Hello Ada,</h1>", `href="https://app.example/start?a=1&amp;b=2"`,
		"prefers-color-scheme: dark", "width=device-width",
	} {
		if !strings.Contains(bodies["text/html"], want) {
			t.Errorf("no %q in the HTML:\n%s", want, bodies["text/html"])
		}
	}
}

// TestHostileNames: whatever a user calls himself is text, in the header, in the text and in the HTML.
func TestHostileNames(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ full, to, html string }{
		"markup": {
			`<script>alert(1)</script> X`, `<script>alert(1)</script> X`,
			"Hello &lt;script&gt;alert(1)&lt;/script&gt;,",
		},
		"a template": {`{{.AppURL}} X`, `{{.AppURL}} X`, "Hello {{.AppURL}},"},
		"a header":   {"Ada\r\nBcc: eve@evil.example\r\n\r\nbody", "Ada Bcc: eve@evil.example body", "Hello Ada,"},
		"quotes":     {`"Ada" <eve@evil.example>, x`, `"Ada" <eve@evil.example>, x`, "Hello &#34;Ada&#34;,"},
		"not ASCII":  {"Zoë 李", "Zoë 李", "Hello Zoë,"},
		"backwards":  {"Ada \u202egro.live", "Ada gro.live", "Hello Ada,"},
		"an encoded word": {
			"=?utf-8?q?=0D=0ABcc:_eve@evil.example?= X", "", "Hello =?utf-8?q?=0D=0ABcc:_eve@evil.example?=,",
		},
		"a NUL and a bell": {"Ada\x00\x07", "Ada", "Hello Ada,"},
		"none":             {"", "", "Hello,"},
		"very long": {
			strings.Repeat("Ada", 300), strings.Repeat("Ada", 300), "Hello " + strings.Repeat("Ada", 300) + ",",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := testenv.NewSMTP(t, testenv.SMTPOptions{})
			got := send(t, options(s), s, mail.User{ID: "user_a", Email: "ada@example.com", FullName: tc.full})
			if !cmp.Equal(got.To, []string{"ada@example.com"}) {
				t.Errorf("got recipients %q", got.To)
			}
			msg := got.Message(t)
			for _, h := range []string{"Bcc", "Cc"} {
				if v := msg.Header.Get(h); v != "" {
					t.Errorf("a header was injected: %s: %s", h, v)
				}
			}
			to, err := msg.Header.AddressList("To")
			if err != nil || len(to) != 1 || to[0].Address != "ada@example.com" {
				t.Fatalf("got To %v, %v", to, err)
			}
			if tc.to != "" && to[0].Name != tc.to {
				t.Errorf("got name %q, want %q", to[0].Name, tc.to)
			}
			bodies, _ := parts(t, msg)
			if !strings.Contains(bodies["text/html"], tc.html) {
				t.Errorf("no %q in the HTML:\n%s", tc.html, bodies["text/html"])
			}
		})
	}
}

// TestHostileAddresses: an address that is more than one address never reaches the server.
func TestHostileAddresses(t *testing.T) {
	t.Parallel()
	s := testenv.NewSMTP(t, testenv.SMTPOptions{})
	m := newMailer(t, options(s))
	for name, address := range map[string]string{
		"two":              "ada@example.com, eve@evil.example",
		"a header":         "ada@example.com\r\nBcc: eve@evil.example",
		"a command":        "ada@example.com>\r\nRCPT TO:<eve@evil.example",
		"a name":           "Ada <eve@evil.example>",
		"no domain":        "ada",
		"empty":            "",
		"a NUL":            "ada@example.com\x00",
		"quoted new lines": "\"ada\r\n\"@example.com",
	} {
		err := m.Send(t.Context(), mail.User{ID: "user_a", Email: address}, nil)
		if !errors.Is(err, mail.ErrRefused) {
			t.Errorf("%s: got %v, want ErrRefused", name, err)
		}
		if err != nil && address != "" && strings.Contains(err.Error(), address) {
			t.Errorf("%s: the error quotes the address: %v", name, err)
		}
	}
	if n := len(s.Mails()); n > 0 {
		t.Errorf("got %d mails, want none", n)
	}
}

func TestTLSAndLogin(t *testing.T) {
	t.Parallel()
	const secret = "p@ss/word#1"
	const encoded = "p%40ss%2Fword%231"
	for name, tc := range map[string]struct {
		server   testenv.SMTPOptions
		url      string // with ADDR for the address
		distrust bool
		want     string // in the error; "" for a mail
		refused  bool
		plain    bool // the mail went in the clear
	}{
		"plain":                        {url: "smtp://ADDR", plain: true},
		"STARTTLS where it is offered": {server: testenv.SMTPOptions{STARTTLS: true}, url: "smtp://ADDR"},
		"STARTTLS and login": {
			server: testenv.SMTPOptions{STARTTLS: true, User: "u", Password: secret}, url: "smtp://u:" + encoded +
				"@ADDR",
		},
		"TLS from the start and login": {
			server: testenv.SMTPOptions{TLS: true, User: "u", Password: secret}, url: "smtps://u:" + encoded + "@ADDR",
		},
		"TLS switched off": {
			server: testenv.SMTPOptions{STARTTLS: true}, url: "smtp://ADDR?tls=off", plain: true,
		},
		"login in the clear, asked for": {
			server: testenv.SMTPOptions{User: "u", Password: secret}, url: "smtp://u:" + encoded + "@ADDR?tls=off",
			plain: true,
		},
		"no login in the clear unasked": {
			server: testenv.SMTPOptions{User: "u", Password: secret}, url: "smtp://u:" + encoded + "@ADDR",
			want: "no STARTTLS",
		},
		"STARTTLS required and not there": {url: "smtp://ADDR?tls=required", want: "no STARTTLS"},
		"wrong password": {
			server: testenv.SMTPOptions{STARTTLS: true, User: "u", Password: secret}, url: "smtp://u:hunter2@ADDR",
			want: "answered 535", refused: true,
		},
		"no login where one is wanted": {
			server: testenv.SMTPOptions{STARTTLS: true, User: "u", Password: secret}, url: "smtp://ADDR",
			want: "answered 502", refused: true,
		},
		"login where none is taken": {
			server: testenv.SMTPOptions{STARTTLS: true}, url: "smtp://u:hunter2@ADDR", want: "takes no login",
		},
		"a certificate that nobody vouches": {
			server: testenv.SMTPOptions{STARTTLS: true}, url: "smtp://ADDR", distrust: true,
			want: "certificate is not trusted",
		},
		"likewise, with TLS from the start": {
			server: testenv.SMTPOptions{TLS: true}, url: "smtps://ADDR", distrust: true,
			want: "certificate is not trusted",
		},
		"TLS from the start to a plain port": {url: "smtps://ADDR", want: "what answers there does not speak TLS"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := testenv.NewSMTP(t, tc.server)
			o := options(s)
			o.URL = strings.Replace(tc.url, "ADDR", s.Addr, 1)
			if tc.distrust {
				o.TLS = nil
			}
			if tc.want == "" {
				if got := send(t, o, s, ada); got.TLS == tc.plain {
					t.Errorf("got TLS %v, want %v", got.TLS, !tc.plain)
				}
				return
			}
			err := newMailer(t, o).Send(t.Context(), ada, nil)
			if err == nil || !strings.Contains(err.Error(), tc.want) || errors.Is(err, mail.ErrRefused) != tc.refused {
				t.Errorf("got %v, want %q, refused %v", err, tc.want, tc.refused)
			}
			if err != nil && (strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "ada@")) {
				t.Errorf("the error quotes a secret or an address: %v", err)
			}
			if n := len(s.Mails()); n > 0 {
				t.Errorf("got %d mails, want none", n)
			}
		})
	}
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	answer := func(code int) error {
		return &smtp.SMTPError{
			Code: code, EnhancedCode: smtp.EnhancedCode{code / 100, 1, 1},
			Message: "<ada@example.com> of 10.0.0.1 is not welcome",
		}
	}
	for name, tc := range map[string]struct {
		server  testenv.SMTPOptions
		want    string
		refused bool
		taken   int
	}{
		"4xx to the address": {
			testenv.SMTPOptions{Rcpt: func(string) error { return answer(450) }}, "answered 450", false, 0,
		},
		"5xx to the address": {
			testenv.SMTPOptions{Rcpt: func(string) error { return answer(550) }}, "answered 550", true, 0,
		},
		"4xx to the message": {
			testenv.SMTPOptions{Data: func(int) error { return answer(451) }}, "answered 451", false, 0,
		},
		"5xx to the message": {
			testenv.SMTPOptions{Data: func(int) error { return answer(554) }}, "answered 554", true, 0,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := testenv.NewSMTP(t, tc.server)
			err := newMailer(t, options(s)).Send(t.Context(), ada, nil)
			if err == nil || !strings.Contains(err.Error(), tc.want) || errors.Is(err, mail.ErrRefused) != tc.refused {
				t.Errorf("got %v, want %q, refused %v", err, tc.want, tc.refused)
			}
			if err != nil && (strings.Contains(err.Error(), "ada@") || strings.Contains(err.Error(), "10.0.0.1")) {
				t.Errorf("the error quotes the server: %v", err)
			}
			if said := mail.Said(err); !strings.HasSuffix(said, "<ada@example.com> of 10.0.0.1 is not welcome") {
				t.Errorf("the server said %q", said)
			}
			if got := len(s.Mails()); got != tc.taken {
				t.Errorf("the server took %d, want %d", got, tc.taken)
			}
		})
	}
}

// TestUnknownAfterLastDot: once the server has the whole message, a broken connection or silence tells nothing, and
// Send says so; before, the mail is not sent, and Send says that. The server has ten minutes to answer (RFC 5321,
// 4.5.3.2.6): Send gave up after 30 s, as if nothing had been sent.
func TestUnknownAfterLastDot(t *testing.T) {
	t.Parallel()
	errBefore, errEnd := errors.New("any other error"), errors.New("no end")
	cut := func(int) error { return testenv.ErrCut }
	after := func(d time.Duration, err error) func(int) error {
		return func(int) error { <-time.After(d); return err }
	}
	for name, tc := range map[string]struct {
		server    testenv.SMTPOptions
		beforeEnd error
		want      error // nil is a mail that was sent
		taken     int
	}{
		"cut at the recipient": {
			server: testenv.SMTPOptions{Rcpt: func(string) error { return testenv.ErrCut }}, want: errBefore,
		},
		"silence at the recipient": {
			server: testenv.SMTPOptions{Rcpt: func(string) error {
				<-time.After(31 * time.Second)
				return testenv.ErrCut
			}}, want: errBefore,
		},
		"cut in the message":        {server: testenv.SMTPOptions{CutAfter: 5000}, want: errBefore},
		"its end is not wanted":     {beforeEnd: errEnd, want: errEnd},
		"cut after the last dot":    {server: testenv.SMTPOptions{Data: cut}, want: mail.ErrPerhapsSent, taken: 1},
		"an answer after 31 s":      {server: testenv.SMTPOptions{Data: after(31*time.Second, nil)}, taken: 1},
		"an answer after 9 minutes": {server: testenv.SMTPOptions{Data: after(9*time.Minute, nil)}, taken: 1},
		"no answer in 10 minutes": {
			server: testenv.SMTPOptions{Data: after(11*time.Minute, nil)}, want: mail.ErrPerhapsSent, taken: 1,
		},
		"a refusal after 9 minutes": {
			server: testenv.SMTPOptions{Data: after(9*time.Minute, &smtp.SMTPError{Code: 451})}, want: errBefore,
		},
		"an answer that is none": {
			server: testenv.SMTPOptions{Data: after(0, &smtp.SMTPError{Code: 354})}, want: mail.ErrPerhapsSent,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				net := testenv.NewPipes()
				tc.server.Listener = net
				server := testenv.NewSMTP(t, tc.server)
				o := options(server)
				o.Dial = net.Dial
				o.AppURL += strings.Repeat("x", 20_000) // more than any buffer on the way
				err := newMailer(t, o).Send(t.Context(), ada, func(context.Context) error { return tc.beforeEnd })
				<-time.After(20 * time.Minute) // the server is slower
				switch {
				case errors.Is(tc.want, errBefore):
					if err == nil || errors.Is(err, mail.ErrPerhapsSent) || errors.Is(err, mail.ErrRefused) {
						t.Errorf("got %v, want one that may go by itself", err)
					}
				case !errors.Is(err, tc.want):
					t.Errorf("got %v, want %v", err, tc.want)
				}
				if got := len(server.Mails()); got != tc.taken {
					t.Errorf("the server took %d, want %d", got, tc.taken)
				}
			})
		})
	}
}

// TestSilence: a server that says nothing is given up when the context ends, at whatever point.
func TestSilence(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	m := newMailer(t, mail.Options{URL: "smtp://" + l.Addr().String(), From: "hello@app.example"})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	start := time.Now()
	if err := m.Send(ctx, ada, nil); err == nil || errors.Is(err, mail.ErrRefused) {
		t.Errorf("got %v, want one that may go by itself", err)
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("it took %v", d)
	}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	write := func(html string) string {
		dir := t.TempDir()
		for name, text := range map[string]string{"welcome.txt": "Hi {{.Name}}", "welcome.html": html} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	good := mail.Options{URL: "smtp://h", From: "a@b.example"}
	for name, tc := range map[string]struct {
		change func(*mail.Options)
		want   []string // how the lines begin
	}{
		"good":          {func(*mail.Options) {}, nil},
		"own templates": {func(o *mail.Options) { o.TemplateDir = write("<p>{{.FirstName}}") }, nil},
		"everything wrong": {func(o *mail.Options) {
			*o = mail.Options{
				URL: "http://u:hunter2@h", From: "x", ReplyTo: "x", AppURL: "javascript:x", Subject: "{{",
				TemplateDir: "/none",
			}
		}, []string{
			"URL is of no known kind: set it to smtp://", "From is not set to an address: set it to",
			"ReplyTo is no address", "AppURL is no URL: set it to", "TemplateDir is no folder",
		}},
		"a bad escape": {func(o *mail.Options) { o.URL = "smtp://u:hunter2%@h" }, []string{
			"URL has a password in which '%' must be written %25",
		}},
		"a # in it": {
			func(o *mail.Options) { o.URL = "smtp://u:hunter2#3@h" }, []string{
				"URL has a password in which '#' must be written %23",
			},
		},
		"a / in it after digits": {func(o *mail.Options) { o.URL = "smtp://u:25/hunter2@h" }, []string{
			"URL has a password in which '/' must be written %2F",
		}},
		"a ? in it after digits": {func(o *mail.Options) { o.URL = "smtp://u:25?hunter2@h" }, []string{
			"URL has a password in which '?' must be written %3F",
		}},
		"a ^ in it": {func(o *mail.Options) { o.URL = "smtp://u:hunter^2@h" }, []string{"URL cannot be read"}},
		"a placeholder": {
			func(o *mail.Options) { o.URL = "smtp://u:<password>@h" }, []string{"URL still has a placeholder"},
		},
		"a / in it": {func(o *mail.Options) { o.URL = "smtp://h/hunter2" }, []string{"URL has a path"}},
		"no host": {
			func(o *mail.Options) { o.URL = "smtp://u:hunter2@:587" }, []string{"URL names no host"},
		},
		"no port": {func(o *mail.Options) { o.URL = "smtp://h:99999" }, []string{"URL names no port"}},
		"no password": {
			func(o *mail.Options) { o.URL = "smtp://u@h" }, []string{"URL has a user or a password, not both"},
		},
		"an unknown option": {
			func(o *mail.Options) { o.URL = "smtp://h?ssl=1" }, []string{"URL has an option that is not known"},
		},
		"tls=off with smtps": {
			func(o *mail.Options) { o.URL = "smtps://h?tls=off" }, []string{"URL has an option that is not known"},
		},
		"a bad subject": {
			func(o *mail.Options) { o.Subject = "{{.Nobody}}" }, []string{"the welcome mail's template fails"},
		},
		"a bad template": {
			func(o *mail.Options) { o.TemplateDir = write("{{if}}") }, []string{"TemplateDir: template: welcome.html"},
		},
		"a missing file": {
			func(o *mail.Options) { o.TemplateDir = t.TempDir() }, []string{
				"TemplateDir: welcome.txt cannot be read", "TemplateDir: welcome.html cannot be read",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := good
			tc.change(&o)
			_, mistakes := mail.New(o)
			var got []string
			for i, m := range mistakes {
				if strings.Contains(m.Text, "hunter2") {
					t.Errorf("a secret is quoted: %v", m)
				}
				if i < len(tc.want) && strings.HasPrefix(m.Text, tc.want[i]) {
					m.Text = tc.want[i]
				}
				got = append(got, m.Text)
			}
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Errorf("errors (-want +got):\n%s", d)
			}
		})
	}
}
