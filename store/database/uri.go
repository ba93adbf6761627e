package database

import (
	"errors"
	"net"
	"slices"
	"strings"

	"clerksync/reach"

	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// CheckURI returns an error that says what is wrong with a connection string, without quoting it. The error's text
// continues a sentence whose subject is the connection string or the setting that holds it. For mongodb+srv, CheckURI
// looks up the host in the DNS.
func CheckURI(uri string) error {
	opts := options.Client().ApplyURI(uri)
	switch wc := opts.WriteConcern; {
	case strings.Contains(uri, "%00"): // CVE-2026-129934 of the driver up to v2.10.0: a NUL in credentials
		return errors.New("holds %00: remove it")
	case reach.Placeholder(uri):
		return errors.New("still has a placeholder such as <password>: write the user name and the password there")
	case opts.Validate() != nil:
		return errors.New(whyUnusable(uri, opts.Validate()))
	case wc != nil && !wc.Acknowledged():
		return errors.New("asks for unacknowledged writes (w=0): remove w=0, a lost write would go unseen")
	}
	return nil
}

// whyUnusable says what is wrong with a connection string that the driver does not take. The driver's own words may
// quote parts of it.
func whyUnusable(uri string, err error) string {
	dns, isDNS := errors.AsType[*net.DNSError](err)
	bare, _, hasOptions := strings.Cut(uri, "?")
	switch text := reach.Unescaped(uri); {
	case text != "":
		return text
	case isDNS && dns.IsNotFound:
		return "names a host that has no SRV record in the DNS: check its spelling, " +
			"or write mongodb://HOST:PORT/DATABASE for the name of a server"
	case isDNS:
		return "needs the DNS for mongodb+srv://, and the DNS of this machine does not answer"
	case strings.Contains(err.Error(), "port number"):
		return "has a port, which mongodb+srv:// does not take: remove it, or write mongodb:// for the name of a server"
	case strings.Contains(err.Error(), "port must be"):
		return "has a port that is no number up to 65535: set it to mongodb://HOST:PORT/DATABASE"
	case hasOptions && options.Client().ApplyURI(bare).Validate() == nil:
		return "has an option that cannot be used: check what is after the ?, before which there must be a /"
	}
	return "cannot be used: set it to mongodb://HOST/DATABASE, or to mongodb+srv://HOST/DATABASE " +
		"with a HOST that has an SRV record"
}

// IsLocal tells whether all hosts in a connection string that CheckURI accepts are this machine. It looks nothing up:
// of names it knows localhost.
func IsLocal(uri string) bool {
	if strings.HasPrefix(uri, "mongodb+srv:") {
		return false
	}
	hosts := options.Client().ApplyURI(uri).Hosts
	return len(hosts) > 0 && !slices.ContainsFunc(hosts, func(host string) bool {
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
		ip := net.ParseIP(strings.Trim(host, "[]"))
		socket := strings.HasSuffix(host, ".sock") // in the file system
		return !socket && !strings.EqualFold(host, "localhost") && !ip.IsLoopback()
	})
}
