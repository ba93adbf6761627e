// Package mail sends the welcome mail through SMTP.
package mail

import (
	"cmp"
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

	"clerksync/reach"

	gomail "github.com/wneessen/go-mail"
	"github.com/wneessen/go-mail/smtp"
)

// Options is what New needs.
type Options struct {
	URL         string // smtp://user:pass@host:587 (STARTTLS), or smtps://user:pass@host (TLS from the start)
	From        string // "App <hello@app.example>"
	ReplyTo     string // likewise, or ""
	Subject     string // a text template; "" means "Welcome to {{.AppName}}"
	TemplateDir string // the folder with welcome.html and welcome.txt; "" means the embedded templates
	AppName     string // "" means the name in From, or else its domain
	AppURL      string // what the button opens; "" means no button
	// Names are the names of these options in error messages, such as {"URL": "SMTP_URL"}. Options that are not in
	// Names have the names above.
	Names map[string]string
	TLS   *tls.Config // for servers whose certificate the system does not trust; nil means the system's
	// Dial makes the connections; nil means a net.Dialer's DialContext.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

func (o Options) name(option string) string { return cmp.Or(o.Names[option], option) }

// Two times limit one sending: handInTimeout, from dialling to the last byte of the message, and answerTimeout, the
// wait for the server's answer. answerTimeout is long because servers check for viruses and spam before they answer;
// RFC 5321, 4.5.3.2.6, asks for ten minutes.
const (
	handInTimeout = 30 * time.Second
	answerTimeout = 10 * time.Minute
	// quitTimeout limits QUIT, which changes nothing about the mail any more.
	quitTimeout = 2 * time.Second
)

var (
	// ErrRefused is wrapped by errors of Send after which a retry cannot help: the server answered 5xx (RFC 5321,
	// 4.2.1), or the user's address is not an address.
	ErrRefused = errors.New("the mail is refused for good")
	// ErrPerhapsSent is wrapped by errors of Send after which nobody can know whether the mail was sent: the server got
	// the whole message, but its answer did not arrive.
	ErrPerhapsSent = errors.New("the mail was perhaps sent")
)

// User is the recipient of a mail.
type User struct {
	ID       string // Clerk's
	Email    string
	FullName string // or ""
}

// Mailer sends the welcome mail. It is safe for concurrent use.
type Mailer struct {
	o Options
	templates
	server  server
	from    *mail.Address
	replyTo *mail.Address // or nil
}

// Mistake is a mistake in an option. Name is what the option is called. Text names it too, and quotes no secret.
type Mistake struct{ Name, Text string }

// New returns a Mailer, or the mistakes in the options and the templates. It does not dial.
func New(o Options) (*Mailer, []Mistake) {
	var mistakes []Mistake
	wrong := func(option, format string, args ...any) {
		name := o.name(option)
		mistakes = append(mistakes, Mistake{name, name + fmt.Sprintf(format, args...)})
	}
	o.Subject = cmp.Or(o.Subject, "Welcome to {{.AppName}}")
	srv, text := parseURL(o.URL)
	m := &Mailer{server: srv}
	if text != "" {
		wrong("URL", " %s", text)
	}
	o.TLS = cmp.Or(o.TLS, &tls.Config{MinVersion: tls.VersionTLS12})
	if o.Dial == nil {
		o.Dial = (&net.Dialer{}).DialContext
	}
	var err error
	if m.from, err = mail.ParseAddress(o.From); err != nil {
		wrong("From", ` is not set to an address: set it to one such as "App <hello@app.example>"`)
	} else {
		_, domain, _ := strings.Cut(m.from.Address, "@")
		o.AppName = cmp.Or(o.AppName, m.from.Name, domain)
	}
	if o.ReplyTo != "" {
		if m.replyTo, err = mail.ParseAddress(o.ReplyTo); err != nil {
			wrong("ReplyTo", " is no address: set it to one such as help@app.example, or leave it unset")
		}
	}
	u, err := url.Parse(o.AppURL)
	if o.AppURL != "" && (err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http") {
		wrong("AppURL", " is no URL: set it to https://HOST, or leave it unset")
	}
	m.o, m.templates = o, loadTemplates(o, wrong)
	if len(mistakes) == 0 { // some mistakes in a template only show when it is used
		if _, _, _, err := m.Render(User{Email: "ada@example.com", FullName: "Ada Lovelace"}); err != nil {
			mistakes = append(mistakes, Mistake{o.name("TemplateDir"), err.Error()})
		}
	}
	if len(mistakes) > 0 {
		return nil, mistakes
	}
	return m, nil
}

// Send sends the user's welcome mail. Before the last byte of the message is sent, it calls beforeEnd, which may be
// nil. If beforeEnd fails, the mail is not sent and Send returns that error. After an error that wraps neither
// ErrRefused nor ErrPerhapsSent, the mail is not sent and a retry may help. No error of Send's own quotes an address or
// the server's words, which Said returns.
func (m *Mailer) Send(ctx context.Context, u User, beforeEnd func(context.Context) error) error {
	msg, err := m.message(u)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx) // closes the connection, see client
	defer cancel(nil)
	timer := time.AfterFunc(handInTimeout, func() { cancel(context.DeadlineExceeded) })
	defer timer.Stop()
	client, err := m.client(ctx)
	if err != nil {
		return err
	}
	conn, err := client.DialToSMTPClientWithContext(ctx)
	if err != nil {
		return m.explain(ctx, "connecting", err)
	}
	quit := func() {
		timer.Reset(quitTimeout)
		_ = conn.Quit() // the outcome is known already
	}
	if doing, err := begin(conn, mail.Address{Address: m.from.Address}, mail.Address{Address: u.Email}); err != nil {
		quit()
		return m.explain(ctx, doing, err)
	}
	// Until the message is complete no command may be sent, not even QUIT: textproto would first complete the message.
	w := conn.Text.DotWriter()
	if _, err := msg.WriteTo(w); err != nil {
		return m.explain(ctx, "sending the message", err)
	}
	if beforeEnd != nil {
		if err := beforeEnd(ctx); err != nil {
			return err
		}
	}
	if !timer.Reset(answerTimeout) {
		return m.explain(ctx, "sending the message", context.DeadlineExceeded)
	}
	if err := w.Close(); err != nil { // the end of the message was not sent
		return m.explain(ctx, "sending the message", err)
	}
	_, _, err = conn.Text.ReadResponse(2) // 2xx
	te, answered := errors.AsType[*textproto.Error](err)
	switch {
	case err == nil:
		quit()
		return nil
	case answered && te.Code >= 400:
		quit()
		return m.explain(ctx, "sending the message", err)
	case ctx.Err() != nil:
		return fmt.Errorf("%w: the SMTP server had all of it and did not answer in time", ErrPerhapsSent)
	}
	return fmt.Errorf("%w: the SMTP server had all of it and broke the connection, "+
		"or gave no answer that can be read", ErrPerhapsSent)
}

// begin sends the commands that come before the message. If one fails, doing says which.
func begin(conn *smtp.Client, from, to mail.Address) (doing string, err error) {
	if err := conn.Mail(from.String()); err != nil {
		return "sending MAIL FROM", err
	}
	if err := conn.Rcpt(to.String()); err != nil {
		return "sending RCPT TO", err
	}
	// conn.Data cannot be used, because its writer does not tell whether the end of the message could be written.
	if err := conn.Text.PrintfLine("DATA"); err != nil {
		return "sending DATA", err
	}
	_, _, err = conn.Text.ReadResponse(354)
	return "sending DATA", err
}

func (m *Mailer) message(u User) (*gomail.Msg, error) {
	subject, text, html, err := m.Render(u)
	if err != nil {
		return nil, err
	}
	// Parsing must give the same address back: "a@b, c@d" must not become two addresses.
	p, err := mail.ParseAddress("<" + u.Email + ">")
	if err != nil || p.Address != u.Email || strings.ContainsFunc(u.Email, unicode.IsControl) {
		return nil, fmt.Errorf("%w: the user's address is no single address such as name@example.com", ErrRefused)
	}
	// A user's mail always has the same Message-ID, so that servers and mail readers can recognize a second copy.
	sum := sha256.Sum256([]byte(u.ID))
	_, domain, _ := strings.Cut(m.from.Address, "@")
	msg := gomail.NewMsg(gomail.WithNoDefaultUserAgent())
	msg.FromMailAddress(m.from)
	msg.ToMailAddress(&mail.Address{Name: oneLine(u.FullName), Address: u.Email})
	if m.replyTo != nil {
		msg.ReplyToMailAddress(m.replyTo)
	}
	msg.Subject(subject)
	msg.SetDate()
	msg.SetMessageIDWithValue("welcome." + hex.EncodeToString(sum[:16]) + "@" + domain)
	msg.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834: no out-of-office replies
	msg.SetBodyString(gomail.TypeTextPlain, text)
	msg.AddAlternativeString(gomail.TypeTextHTML, html)
	return msg, nil
}

// Said returns what the server said when it refused the mail, such as "550 5.1.1 <ada@example.com>: no such user", or
// "" if err, from Send, is not because of its answer. It may quote addresses, so it is for the eyes of whoever sends
// the mail by hand, and never for a log.
func Said(err error) string {
	a, _ := errors.AsType[answer](err)
	return a.said
}

// answer is an error because of a server's answer. Its text does not have the server's words.
type answer struct {
	error
	said string
}

func (a answer) Unwrap() error { return a.error }

// explain says what failed, without the server's words, which may quote addresses.
func (m *Mailer) explain(ctx context.Context, doing string, err error) error {
	te, ok := errors.AsType[*textproto.Error](err)
	err = m.explainSilently(ctx, doing, err)
	if ok {
		return answer{err, fmt.Sprintf("%d %s", te.Code, oneLine(te.Msg))}
	}
	return err
}

func (m *Mailer) explainSilently(ctx context.Context, doing string, err error) error {
	code := 0
	if te, ok := errors.AsType[*textproto.Error](err); ok {
		code = te.Code
		if doing == "connecting" {
			doing = "greeting or logging in"
		}
		status := regexp.MustCompile(`^[45]\.\d{1,3}\.\d{1,3}\b`).FindString(te.Msg) // RFC 3463
		if status != "" {
			doing += " (" + status + meaning(status) + ")"
		}
	}
	var cert *tls.CertificateVerificationError
	switch {
	case code == 535: // RFC 4954, section 6
		return fmt.Errorf("%w: the SMTP server answered %d: %s: it does not accept the user or the password in %s: "+
			"check both; characters other than letters and digits are written %%XX, such as %%40 for @",
			ErrRefused, code, doing, m.o.name("URL"))
	case code >= 500:
		return fmt.Errorf("%w: the SMTP server answered %d: %s", ErrRefused, code, doing)
	case code >= 400:
		return fmt.Errorf("the SMTP server answered %d: %s", code, doing)
	case errors.As(err, &cert):
		return fmt.Errorf("the SMTP server's certificate is not trusted: "+
			"use the host name that it is made out to in %s", m.o.name("URL"))
	case strings.Contains(err.Error(), "STARTTLS"): // go-mail has no error type for it
		return fmt.Errorf("the SMTP server offers no STARTTLS: the password is not sent in the clear; "+
			"use smtps://, or ?tls=off in %s if the network is yours", m.o.name("URL"))
	case strings.Contains(err.Error(), "AUTH"), errors.Is(err, gomail.ErrNoSupportedAuthDiscovered):
		return fmt.Errorf("the SMTP server takes no login, or none that is safe on this connection: "+
			"remove user and password from %s, or use TLS", m.o.name("URL"))
	case ctx.Err() != nil:
		err = context.Cause(ctx) // the connection was closed because of it
	}
	if why := reach.Why(err); why != "" {
		return fmt.Errorf("the SMTP server cannot be reached while %s: %s (%s)", doing, why, m.o.name("URL"))
	}
	return fmt.Errorf("the SMTP server cannot be reached, or broke the connection while %s: check %s", doing,
		m.o.name("URL"))
}

// meaning says what the commonest of the codes in RFC 3463 and RFC 4954 mean.
func meaning(status string) string {
	switch status[1:] {
	case ".1.1", ".1.10", ".2.1":
		return ", no such mailbox"
	case ".1.2":
		return ", no such domain"
	case ".2.2":
		return ", the mailbox is full"
	case ".1.8", ".7.1", ".7.25", ".7.26", ".7.27":
		return ", not allowed: check that the server may send for the sender's domain"
	}
	return ""
}

// server says where and how mails are handed in.
type server struct {
	host       string
	port       int
	implicit   bool // TLS from the start
	policy     gomail.TLSPolicy
	user, pass string
}

// parseURL reads the URL of a server, or says what is wrong with it, without quoting it: it contains a password.
func parseURL(s string) (srv server, wrong string) {
	const want = "set it to smtp://USER:PASSWORD@HOST:587 or smtps://USER:PASSWORD@HOST" //nolint:gosec // an example
	u, err := url.Parse(s)
	if reach.Placeholder(s) {
		return srv, "still has a placeholder such as <password>: write the user and the password there"
	}
	if !strings.HasPrefix(s, "smtp://") && !strings.HasPrefix(s, "smtps://") {
		return srv, "is of no known kind: " + want
	}
	if err != nil {
		return srv, cmp.Or(reach.Unescaped(s), "cannot be read: "+want+
			", with other than letters and digits in the password as %XX")
	}
	srv = server{host: u.Hostname(), implicit: u.Scheme == "smtps", user: u.User.Username()}
	srv.pass, _ = u.User.Password()
	usual := "587"
	if srv.implicit {
		usual = "465"
	}
	port, err := strconv.ParseUint(cmp.Or(u.Port(), usual), 10, 16)
	srv.port = int(port)
	q := u.Query()
	option := strings.Join(q["tls"], " ")
	known := len(q) == 0 || len(q) == 1 && !srv.implicit && (option == "off" || option == "required")
	switch {
	case srv.host == "":
		wrong = "names no host: " + want
	case err != nil || port == 0:
		wrong = "names no port: " + want
	case (srv.user == "") != (srv.pass == ""):
		wrong = "has a user or a password, not both: " + want
	case (strings.Trim(u.Path, "/") != "" || u.Fragment != "" || !known) && reach.Unescaped(s) != "":
		wrong = reach.Unescaped(s)
	case u.Path != "" && u.Path != "/":
		wrong = "has a path: remove it; a / in the password is written %2F"
	case u.Fragment != "":
		wrong = "has a #: write it %23"
	case !known:
		wrong = "has an option that is not known: smtp:// takes ?tls=off and ?tls=required"
	case option == "off":
		srv.policy = gomail.NoTLS
	case option == "required" || srv.user != "":
		srv.policy = gomail.TLSMandatory
	default:
		srv.policy = gomail.TLSOpportunistic
	}
	return srv, wrong
}

// client returns a client whose connection is closed when ctx ends. go-mail itself obeys the context only while it
// dials, and its own time limit is set so that it is never reached.
func (m *Mailer) client(ctx context.Context) (*gomail.Client, error) {
	s, cfg := m.server, m.o.TLS.Clone()
	cfg.ServerName = s.host
	opts := []gomail.Option{
		gomail.WithPort(s.port), gomail.WithTLSPolicy(s.policy), gomail.WithTLSConfig(cfg),
		gomail.WithTimeout(handInTimeout + answerTimeout),
		gomail.WithDialContextFunc(func(dialCtx context.Context, network, address string) (net.Conn, error) {
			conn, err := m.o.Dial(dialCtx, network, address)
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
		// The best method comes first. PLAIN and LOGIN refuse to work on a connection without TLS.
		auth := gomail.WithOpportunisticSMTPAuth(
			gomail.SMTPAuthSCRAMSHA256, gomail.SMTPAuthSCRAMSHA1, gomail.SMTPAuthPlain, gomail.SMTPAuthLogin)
		if s.policy == gomail.NoTLS && !s.implicit { // ?tls=off asks for that
			auth = gomail.WithOpportunisticSMTPAuth(gomail.SMTPAuthPlainNoEnc, gomail.SMTPAuthLoginNoEnc)
		}
		opts = append(opts, auth, gomail.WithUsername(s.user), gomail.WithPassword(s.pass))
	}
	return gomail.NewClient(s.host, opts...)
}

// oneLine makes a name safe for a header: control characters, such as line breaks, become spaces.
func oneLine(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)
	}), " ")
}
