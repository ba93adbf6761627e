// Package mail sends the welcome mail through SMTP.
package mail

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/mail"
	"net/textproto"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"

	gomail "github.com/wneessen/go-mail"
	"github.com/wneessen/go-mail/smtp"
)

// Options is what New needs.
type Options struct {
	URL         string // smtp://user:pass@host:587 (STARTTLS), smtps://user:pass@host (TLS from the start)
	From        string // "App <hello@app.example>"
	ReplyTo     string // likewise, or ""
	Subject     string // a text template; "" is the default
	TemplateDir string // see LoadTemplates
	AppName     string
	AppURL      string      // of the button; "" leaves it out
	TLS         *tls.Config // for servers whose certificate the system does not know; nil is the system's
	// Dial makes the connections; nil is a net.Dialer's DialContext.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Two times bound one sending: HandInTimeout, from the dialling to the last byte of the message, and AnswerTimeout, the
// wait for what the server says to it, which is that of RFC 5321, 4.5.3.2.6: servers look for viruses and spam then.
const (
	HandInTimeout = 30 * time.Second
	AnswerTimeout = 10 * time.Minute
)

// quitTimeout is for how long a server may keep us with a goodbye.
const quitTimeout = 2 * time.Second

var (
	// ErrRefused is in the errors of Send that no repetition mends: the server answered 5xx (RFC 5321, 4.2.1), or the
	// address is none.
	ErrRefused = errors.New("the mail is refused for good")
	// ErrPerhapsSent is in the errors of Send after which nobody knows whether the mail is sent: the server got the
	// whole message, and its answer did not come.
	ErrPerhapsSent = errors.New("the mail was perhaps sent")
)

// User is whom a mail is for.
type User struct {
	ID       string // Clerk's
	Email    string
	FullName string // or ""
}

// Mailer sends the welcome mail. It is safe for concurrent use.
type Mailer struct {
	server    server
	from      *mail.Address
	replyTo   *mail.Address // or nil
	templates *Templates
	app       app
}

type app struct{ Name, URL string }

// OptionError says what is wrong with the option of that name, in one line that quotes no secret.
type OptionError struct{ Option, Reason string }

func (e *OptionError) Error() string { return e.Option + " " + e.Reason }

func optionError(option, reason string) error { return &OptionError{option, reason} }

// New checks the options and reads the templates; it does not dial. The error joins all mistakes, most of them of the
// type OptionError; the others say what is wrong with a template.
func New(o Options) (*Mailer, error) {
	m := &Mailer{app: app{Name: o.AppName, URL: o.AppURL}}
	var errs []error
	var err error
	if m.server, err = parseURL(o.URL); err != nil {
		errs = append(errs, err)
	}
	m.server.tls, m.server.dial = o.TLS, o.Dial
	if m.server.dial == nil {
		m.server.dial = (&net.Dialer{}).DialContext
	}
	if m.from, err = mail.ParseAddress(o.From); err != nil {
		errs = append(errs, optionError("From", `is not set to an address: set it to one such as "App <hello@app.example>"`))
	}
	if o.ReplyTo != "" {
		if m.replyTo, err = mail.ParseAddress(o.ReplyTo); err != nil {
			errs = append(errs, optionError("ReplyTo", "is no address: set it to one such as help@app.example, or leave it unset"))
		}
	}
	if u, err := url.Parse(o.AppURL); o.AppURL != "" && (err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http") {
		errs = append(errs, optionError("AppURL", "is no URL: set it to https://HOST, or leave it unset"))
	}
	if m.templates, err = LoadTemplates(o.TemplateDir, o.Subject); err != nil {
		errs = append(errs, err)
	}
	if m.from != nil && m.app.Name == "" {
		m.app.Name = m.from.Name
	}
	if m.app.Name == "" && m.from != nil {
		_, m.app.Name, _ = strings.Cut(m.from.Address, "@")
	}
	if len(errs) == 0 { // a template that only fails when it is used should fail at start
		_, err = m.Render(User{ID: "user_sample", Email: "ada@example.com", FullName: "Ada Lovelace"})
		errs = append(errs, err)
	}
	return m, errors.Join(errs...)
}

// Rendered is a welcome mail before it is made a message.
type Rendered struct{ Subject, Text, HTML string }

// Render fills in the templates for a user.
func (m *Mailer) Render(u User) (Rendered, error) {
	return m.templates.render(Data{
		Name: oneLine(u.FullName), FirstName: firstName(oneLine(u.FullName)), Email: u.Email, AppName: m.app.Name, AppURL: m.app.URL,
	})
}

// MessageID is the same for a user whenever the mail is sent: a server or reader that gets it twice can tell.
func (m *Mailer) MessageID(userID string) string {
	sum := sha256.Sum256([]byte(userID))
	_, domain, _ := strings.Cut(m.from.Address, "@")
	return "welcome." + hex.EncodeToString(sum[:16]) + "@" + domain
}

// Send sends the user's welcome mail. It calls beforeEnd before the last byte of the message goes out, which does not
// happen if that fails; it may be nil. An error that is neither ErrRefused nor ErrPerhapsSent may go by itself, and the
// mail is not sent. No error of Send's own quotes an address or what the server said.
func (m *Mailer) Send(ctx context.Context, u User, beforeEnd func(context.Context) error) error {
	msg, err := m.message(u)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx) // ends the connection
	defer cancel(nil)
	timer := time.AfterFunc(HandInTimeout, func() { cancel(context.DeadlineExceeded) })
	defer timer.Stop()
	client, err := m.server.client(ctx)
	if err != nil {
		return err
	}
	conn, err := client.DialToSMTPClientWithContext(ctx)
	if err != nil {
		return explain(ctx, "connecting", err)
	}
	quit := func() {
		timer.Reset(quitTimeout)
		_ = conn.Quit() // the mail's fate is known
	}
	if doing, err := begin(conn, msg); err != nil {
		quit()
		return explain(ctx, doing, err)
	}
	// From here to the end of the message no command may be sent, QUIT neither: textproto would end the message first.
	w := conn.Text.DotWriter()
	if _, err := msg.WriteTo(w); err != nil {
		return explain(ctx, "sending the message", err)
	}
	if beforeEnd != nil {
		if err := beforeEnd(ctx); err != nil {
			return err
		}
	}
	if !timer.Reset(AnswerTimeout) {
		return explain(ctx, "sending the message", context.DeadlineExceeded)
	}
	if err := w.Close(); err != nil { // what has not left us whole, its end has not
		return explain(ctx, "sending the message", err)
	}
	_, _, err = conn.Text.ReadResponse(2) // 2xx
	if te, ok := errors.AsType[*textproto.Error](err); err == nil || ok && te.Code >= 400 {
		quit()
		if err == nil {
			return nil
		}
		return explain(ctx, "sending the message", err)
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%w: the SMTP server had all of it and did not answer in time", ErrPerhapsSent)
	}
	return fmt.Errorf("%w: the SMTP server had all of it and broke the connection, or gave no answer that can be read", ErrPerhapsSent)
}

// begin hands in all but the message itself. If it fails, it says in what.
func begin(conn *smtp.Client, msg *gomail.Msg) (doing string, err error) {
	from, err := msg.GetSender(false)
	if err != nil {
		return "reading the sender", err
	}
	to, err := msg.GetRecipients()
	if err != nil {
		return "reading the recipient", err
	}
	if err := conn.Mail(from); err != nil {
		return "sending MAIL FROM", err
	}
	for _, rcpt := range to {
		if err := conn.Rcpt(rcpt); err != nil {
			return "sending RCPT TO", err
		}
	}
	// Not by conn.Data: the writer that it returns does not tell whether the end of the message could be written.
	if err := conn.Text.PrintfLine("DATA"); err != nil {
		return "sending DATA", err
	}
	_, _, err = conn.Text.ReadResponse(354)
	return "sending DATA", err
}

func (m *Mailer) message(u User) (*gomail.Msg, error) {
	r, err := m.Render(u)
	if err != nil {
		return nil, err
	}
	// The address as it is, and not parsed: "a@b, c@d" must not become two.
	to := &mail.Address{Name: oneLine(u.FullName), Address: u.Email}
	if p, err := mail.ParseAddress("<" + u.Email + ">"); err != nil || p.Address != u.Email || strings.ContainsFunc(u.Email, unicode.IsControl) {
		return nil, fmt.Errorf("%w: the user's address is none", ErrRefused)
	}
	msg := gomail.NewMsg(gomail.WithNoDefaultUserAgent())
	msg.FromMailAddress(m.from)
	msg.ToMailAddress(to)
	if m.replyTo != nil {
		msg.ReplyToMailAddress(m.replyTo)
	}
	msg.Subject(r.Subject)
	msg.SetDate()
	msg.SetMessageIDWithValue(m.MessageID(u.ID))
	msg.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834: no out-of-office replies
	msg.SetBodyString(gomail.TypeTextPlain, r.Text)
	msg.AddAlternativeString(gomail.TypeTextHTML, r.HTML)
	return msg, nil
}

// explain says what failed without the server's words, which quote addresses.
func explain(ctx context.Context, doing string, err error) error {
	code := 0
	if te, ok := errors.AsType[*textproto.Error](err); ok {
		code = te.Code
		if doing == "connecting" {
			doing = "greeting or logging in"
		}
		if s := regexp.MustCompile(`^[45]\.\d{1,3}\.\d{1,3}\b`).FindString(te.Msg); s != "" { // RFC 3463
			doing += " (" + s + ")"
		}
	}
	var cert *tls.CertificateVerificationError
	var dns *net.DNSError
	switch {
	case code >= 500:
		return fmt.Errorf("%w: the SMTP server answered %d: %s", ErrRefused, code, doing)
	case code >= 400:
		return fmt.Errorf("the SMTP server answered %d: %s", code, doing)
	case errors.As(err, &cert):
		return errors.New("the SMTP server's certificate is not trusted: use the host name that it is made out to in SMTP_URL")
	case errors.As(err, &dns):
		return errors.New("the SMTP server's host is not found: check SMTP_URL")
	case strings.Contains(err.Error(), "STARTTLS"): // go-mail has no error type for it
		return errors.New("the SMTP server offers no STARTTLS: the password is not sent in the clear; use smtps://, or ?tls=off in SMTP_URL if the network is yours")
	case strings.Contains(err.Error(), "AUTH"), errors.Is(err, gomail.ErrNoSupportedAuthDiscovered):
		return errors.New("the SMTP server takes no login, or none that is safe on this connection: remove user and password from SMTP_URL, or use TLS")
	case ctx.Err() != nil:
		return fmt.Errorf("the SMTP server did not answer in time: %w", context.Cause(ctx))
	}
	return fmt.Errorf("the SMTP server cannot be reached, or broke the connection while %s", doing)
}

// server is where and how mails are handed in.
type server struct {
	host       string
	port       int
	implicit   bool // TLS from the start
	policy     gomail.TLSPolicy
	user, pass string
	tls        *tls.Config
	dial       func(ctx context.Context, network, address string) (net.Conn, error)
}

// parseURL reads the URL. No error quotes it, since it holds a password.
func parseURL(s string) (server, error) {
	const want = "set it to smtp://USER:PASSWORD@HOST:587 or smtps://USER:PASSWORD@HOST" //nolint:gosec // shows the form
	u, err := url.Parse(s)
	if err != nil {
		return server{}, optionError("URL", "cannot be read: "+want+", with other than letters and digits in the password as %XX")
	}
	var srv server
	switch u.Scheme {
	case "smtp":
		srv.port, srv.policy = 587, gomail.TLSOpportunistic
	case "smtps":
		srv.port, srv.implicit = 465, true
	default:
		return server{}, optionError("URL", "is of no known kind: "+want)
	}
	srv.host, srv.user = u.Hostname(), u.User.Username()
	srv.pass, _ = u.User.Password()
	if srv.host == "" {
		return server{}, optionError("URL", "names no host: "+want)
	}
	if p := u.Port(); p != "" {
		if srv.port, err = strconv.Atoi(p); err != nil || srv.port < 1 || srv.port > 65535 {
			return server{}, optionError("URL", "names no port: "+want)
		}
	}
	if (srv.user == "") != (srv.pass == "") {
		return server{}, optionError("URL", "has a user or a password, not both: "+want)
	}
	if u.Path != "" && u.Path != "/" {
		return server{}, optionError("URL", "has a path: remove it; a / in the password is written %2F")
	}
	if u.Fragment != "" {
		return server{}, optionError("URL", "has a #: write it %23")
	}
	if srv.user != "" && !srv.implicit {
		srv.policy = gomail.TLSMandatory
	}
	q := u.Query()
	for k, v := range q {
		if k != "tls" || len(v) != 1 || v[0] != "off" && v[0] != "required" || srv.implicit {
			return server{}, optionError("URL", "has an option that is not known: smtp:// takes ?tls=off and ?tls=required")
		}
	}
	switch q.Get("tls") {
	case "off":
		srv.policy = gomail.NoTLS
	case "required":
		srv.policy = gomail.TLSMandatory
	}
	return srv, nil
}

// client returns a client whose connection ends with ctx: go-mail heeds it while it dials only, and its own limit is
// never reached.
func (s server) client(ctx context.Context) (*gomail.Client, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if s.tls != nil {
		cfg = s.tls.Clone()
	}
	cfg.ServerName = s.host
	opts := []gomail.Option{
		gomail.WithPort(s.port), gomail.WithTLSPolicy(s.policy), gomail.WithTLSConfig(cfg), gomail.WithTimeout(HandInTimeout + AnswerTimeout),
		gomail.WithDialContextFunc(func(dialCtx context.Context, network, address string) (net.Conn, error) {
			conn, err := s.dial(dialCtx, network, address)
			if err != nil {
				return nil, err
			}
			context.AfterFunc(ctx, func() { _ = conn.Close() }) // it may be closed already
			if s.implicit {
				return tls.Client(conn, cfg), nil
			}
			return conn, nil
		}),
	}
	if s.implicit {
		opts = append(opts, gomail.WithSSL())
	}
	if s.user != "" {
		// In this order; PLAIN and LOGIN fail by themselves on a connection without TLS, but for the last two.
		auth := gomail.WithOpportunisticSMTPAuth(gomail.SMTPAuthSCRAMSHA256, gomail.SMTPAuthSCRAMSHA1, gomail.SMTPAuthPlain, gomail.SMTPAuthLogin)
		if s.policy == gomail.NoTLS && !s.implicit { // asked for by ?tls=off
			auth = gomail.WithOpportunisticSMTPAuth(gomail.SMTPAuthPlainNoEnc, gomail.SMTPAuthLoginNoEnc)
		}
		opts = append(opts, auth, gomail.WithUsername(s.user), gomail.WithPassword(s.pass))
	}
	c, err := gomail.NewClient(s.host, opts...)
	if err != nil {
		return nil, fmt.Errorf("prepare to send mail: %w", err)
	}
	return c, nil
}

// oneLine makes a name safe for a header: control characters, which line breaks are, become spaces.
func oneLine(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)
	}), " ")
}

// firstName is what a friendly mail begins with.
func firstName(full string) string {
	first, _, _ := strings.Cut(full, " ")
	return first
}
