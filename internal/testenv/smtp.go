package testenv

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"net/mail"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// SMTP is a real SMTP server that keeps the mails it accepts. It ends with the test.
type SMTP struct {
	SMTPOptions
	Addr  string
	Certs *x509.CertPool // the certificates to trust, for the host 127.0.0.1
	mu    sync.Mutex
	mails []Mail
	tries int
}

// SMTPOptions is how an SMTP server behaves.
type SMTPOptions struct {
	STARTTLS, TLS  bool
	User, Password string // the login that it wants; "" means none
	// Rcpt decides about a RCPT TO, and Data about the nth message (from 0), after its end. A *smtp.SMTPError is sent
	// as the answer. nil accepts all.
	Rcpt     func(to string) error
	Data     func(n int) error
	CutAfter int64        // bytes of a message after which the server breaks the connection; 0 is never
	Listener net.Listener // nil is one on a loopback port
}

// ErrCut is for Rcpt and Data in SMTPOptions: the server closes the connection instead of answering. With Data, it has
// accepted the message then.
var ErrCut = errors.New("cut")

// Mail is a message that the server accepted.
type Mail struct {
	From string
	To   []string
	TLS  bool
	Raw  []byte
}

// Message parses the mail.
func (m Mail) Message(t testing.TB) *mail.Message {
	t.Helper()
	msg, err := mail.ReadMessage(bytes.NewReader(m.Raw))
	if err != nil {
		t.Fatal(err)
	}
	return msg
}

// NewSMTP starts a server.
func NewSMTP(t testing.TB, o SMTPOptions) *SMTP {
	t.Helper()
	l := o.Listener
	if l == nil {
		var err error
		if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
	}
	s := &SMTP{SMTPOptions: o, Addr: l.Addr().String()}
	srv := smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) {
		return &session{s: s, conn: c}, nil
	}))
	srv.Domain, srv.AllowInsecureAuth, srv.ErrorLog = "localhost", true, quiet{}
	srv.ReadTimeout, srv.WriteTimeout = 10*time.Second, 10*time.Second
	if o.STARTTLS || o.TLS {
		srv.TLSConfig = s.certificate(t)
	}
	if o.TLS {
		l = tls.NewListener(l, srv.TLSConfig)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(l) // until it is closed
	}()
	t.Cleanup(func() {
		_ = srv.Close()
		_ = l.Close() // if it ends before Serve has begun, Close does not know of it
		<-done
	})
	return s
}

// Mails returns what the server has accepted so far.
func (s *SMTP) Mails() []Mail {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.mails)
}

// Tries returns how many messages have been handed in, refused ones too.
func (s *SMTP) Tries() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tries
}

func (s *SMTP) certificate(t testing.TB) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true,
		BasicConstraintsValid: true,
		NotBefore:             time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	s.Certs = x509.NewCertPool()
	s.Certs.AddCert(cert)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

type session struct {
	s      *SMTP
	conn   *smtp.Conn
	mail   Mail
	authed bool
}

func (c *session) AuthMechanisms() []string {
	if c.s.User == "" {
		return nil
	}
	return []string{sasl.Plain}
}

func (c *session) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if user != c.s.User || password != c.s.Password {
			return smtp.ErrAuthFailed
		}
		c.authed = true
		return nil
	}), nil
}

func (c *session) Mail(from string, _ *smtp.MailOptions) error {
	if c.s.User != "" && !c.authed {
		return smtp.ErrAuthRequired
	}
	_, secure := c.conn.TLSConnectionState()
	c.mail = Mail{From: from, TLS: secure}
	return nil
}

func (c *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	c.mail.To = append(c.mail.To, to)
	if c.s.Rcpt == nil {
		return nil
	}
	err := c.s.Rcpt(to)
	if errors.Is(err, ErrCut) {
		_ = c.conn.Conn().Close()
	}
	return err
}

func (c *session) Data(r io.Reader) error {
	var err error
	if c.s.CutAfter > 0 {
		_, _ = io.CopyN(io.Discard, r, c.s.CutAfter) // a shorter message is cut off too
		_ = c.conn.Conn().Close()
		return ErrCut
	}
	if c.mail.Raw, err = io.ReadAll(r); err != nil {
		return err
	}
	c.s.mu.Lock()
	n := c.s.tries
	c.s.tries++
	c.s.mu.Unlock()
	if c.s.Data != nil {
		err = c.s.Data(n) // which may take its time
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if err == nil || errors.Is(err, ErrCut) {
		c.s.mails = append(c.s.mails, c.mail)
	}
	if errors.Is(err, ErrCut) {
		_ = c.conn.Conn().Close()
	}
	return err
}

func (c *session) Reset()        {}
func (c *session) Logout() error { return nil }

type quiet struct{}

func (quiet) Printf(string, ...any) {}
func (quiet) Println(...any)        {}
