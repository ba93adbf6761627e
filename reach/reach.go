// Package reach says in words why a server cannot be reached: what the network did, or what is wrong with its URL. No
// text of this package quotes a URL, a name or an address. It imports nothing of ours.
package reach

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
)

// Why says what the network did, and what to look at. The text continues a sentence such as "nothing answers: ". It is
// "" if err is not an error of the network, or of an unknown kind.
func Why(err error) string {
	var host x509.HostnameError
	var authority x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	dns, isDNS := errors.AsType[*net.DNSError](err)
	timeout, isNet := errors.AsType[net.Error](err)
	op, isOp := errors.AsType[*net.OpError](err)
	switch {
	case err == nil || errors.Is(err, context.Canceled):
		return ""
	case isDNS && dns.IsNotFound:
		return "the host name is not known (no such host): check its spelling, and that it is in the DNS"
	case isDNS:
		return "the host name cannot be looked up: the DNS of this machine does not answer"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nothing listens on that port of the host (connection refused): check the port, and that the server runs"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "no way leads to the host: check the host and the network"
	case errors.As(err, &host):
		return "its certificate is made out to other host names: use one of these"
	case errors.As(err, &authority):
		return "its certificate is not trusted: it needs one that everybody trusts, with its chain"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "its certificate has expired, or the clock is wrong"
	case errors.As(err, new(*tls.CertificateVerificationError)):
		return "its certificate is not valid"
	case errors.As(err, new(tls.RecordHeaderError)), errors.Is(err, http.ErrSchemeMismatch):
		return "what answers there does not speak TLS: check the port, or connect without TLS"
	case isOp && op.Op == "remote error": // so crypto/tls calls an alert, which has no type
		return "the server refuses the TLS connection (" + op.Err.Error() + ")"
	case errors.Is(err, context.DeadlineExceeded), isNet && timeout.Timeout():
		return "no answer in time: check the host, the port and the firewall"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET),
		errors.Is(err, syscall.EPIPE):
		return "the connection was broken off: check the port, and that both ends use TLS, or neither"
	case strings.Contains(err.Error(), "malformed HTTP"): // net/http has no type for it
		return "what answers there does not speak HTTP: check the port"
	}
	return ""
}

// Explain returns an error with the text of Why. If there is no such text, the text stays, but without the URL of an
// HTTP request, which may hold a key or a password. errors.Is and errors.As still find what failed. Explain(nil) is
// nil.
func Explain(err error) error {
	if why := Why(err); why != "" {
		return explained{why, err}
	}
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

type explained struct {
	why string
	err error
}

func (e explained) Error() string { return e.why }
func (e explained) Unwrap() error { return e.err }
