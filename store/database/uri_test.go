package database_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"clerksync/internal/testenv"
	"clerksync/store/database"

	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/description"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/topology"
)

// TestCheckURI: of a connection string that cannot be used it is said what is wrong and what to write, and nothing of
// the string is quoted.
func TestCheckURI(t *testing.T) {
	t.Parallel()
	for uri, want := range map[string]string{
		"mongodb://app:hunter2@db.example/app":               "",
		"mongodb://app:hun%40ter2@db.example/app":            "",
		"mongodb://app:hun#ter2@db.example/app":              "", // the driver takes it as it is
		"mongodb://app:hun@ter2@db.example/app":              "has a password in which '@' must be written %40",
		"mongodb://app:hun%zzter2@127.0.0.1/x":               "has a password in which '%' must be written %25",
		"mongodb://me@app.example:hunter2@db.example/app":    "has a user name in which '@' must be written %40",
		"mongodb+srv://u:<password>@c.hunter2/":              "still has a placeholder such as <password>",
		"mongodb+srv://u:hunter2@c.invalid:27017/":           "has a port, which mongodb+srv:// does not take",
		"mongodb+srv://u:hunter2@c.invalid/":                 "n", // names a host…, or: needs the DNS…
		"mongodb://u:hunter2@db.example:port/app":            "has a port that is no number up to 65535",
		"mongodb://u:hunter2@db.example:99999/app":           "has a port that is no number up to 65535",
		"mongodb://u:hunter2@db.example/?authMechanism=ter2": "has an option that cannot be used: check what is after",
		"mongodb://u:hunter2@db.example?w=majority":          "has an option that cannot be used: check what is after",
		"mongodb://u:hunter2@/app":                           "cannot be used: set it to mongodb://HOST/DATABASE",
		"mongodb://":                                         "cannot be used: set it to mongodb://HOST/DATABASE",
		"mongodb://db.example/?w=0":                          "asks for unacknowledged writes (w=0): remove w=0",
	} {
		err := database.CheckURI(uri)
		switch {
		case want == "" && err != nil, want != "" && (err == nil || !strings.HasPrefix(err.Error(), want)):
			t.Errorf("%s: got %v, want %q", uri, err, want)
		case err != nil && strings.Contains(err.Error(), "ter2"):
			t.Errorf("%s: it is quoted: %v", uri, err)
		}
	}
}

// TestUnreached: what stands where the database should be is told apart, and nothing of the connection string is said.
func TestUnreached(t *testing.T) {
	t.Parallel()
	listen := func(says string) string { return "mongodb://" + testenv.Says(t, says) }
	mongo := testenv.NewMemory().Listen(t, func(string) int32 { return 0 })
	const noTLS = "what answers there does not speak TLS"
	for name, tc := range map[string]struct{ uri, want string }{
		"nobody":              {"mongodb://127.0.0.1:1/", "nothing listens on that port of the host"},
		"one of two":          {"mongodb://127.0.0.1:1,127.0.0.1:2/", "nothing listens on that port"},
		"no such host":        {"mongodb://no-such-host.invalid/", "the host name "},
		"silence":             {listen(""), "no answer in time: check the host, the port and the firewall"},
		"a web server":        {listen("HTTP/1.1 400 Bad Request\r\n\r\n"), "what answers there does not speak Mongo"},
		"a mail server":       {listen("220 mail.example ESMTP\r\n"), "what answers there does not speak MongoDB's"},
		"a web server, TLS":   {listen("HTTP/1.1 400 Bad Request\r\n\r\n") + "/?tls=true", noTLS},
		"TLS where none is":   {strings.TrimSuffix(mongo, "/") + "/?tls=true", ""},
		"another replica set": {strings.TrimSuffix(mongo, "/") + "/?replicaSet=other", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var err error
			// The driver looks until the time is over.
			testenv.Within(t, 1500*time.Millisecond, func(ctx context.Context) bool {
				_, err = database.Connect(ctx, tc.uri, "x")
				got := database.Unreached(err)
				return got != "" && strings.HasPrefix(got, tc.want)
			})
			if got := database.Unreached(err); tc.want == "" && got == "" || !strings.HasPrefix(got, tc.want) ||
				!strings.Contains(err.Error(), got) {
				t.Errorf("got %q of %v, want %q", got, err, tc.want)
			}
			if !database.MayPass(err) {
				t.Error("it may not pass")
			}
			if err != nil && (strings.Contains(err.Error(), "127.0.0.1") || strings.Contains(err.Error(), "invalid")) {
				t.Errorf("it quotes the connection string: %v", err)
			}
		})
	}
}

// TestUnreachedReplicaSet: what the driver knows of a replica set tells why nobody can be written to.
func TestUnreachedReplicaSet(t *testing.T) {
	t.Parallel()
	const secondary, atlas = description.ServerKindRSSecondary, "cluster0-shard-00-00.a1b2c.mongodb.net:27017"
	const shutOut = "MongoDB Atlas lets no connection from this machine through: add its address to the IP access list"
	const nobody = "the host name is not known"
	alert := &net.OpError{Op: "remote error", Err: errors.New("tls: internal error")}
	for name, tc := range map[string]struct {
		servers []description.Server
		want    string
	}{
		"no primary":    {[]description.Server{{Kind: secondary}, {Kind: secondary}}, "servers answer, and none of"},
		"of other name": {nil, "the servers are of another replica set"},
		"not yet asked": {[]description.Server{{}}, "no answer in time"},
		"a lost primary": {
			[]description.Server{{Kind: secondary}, {LastError: io.EOF}}, "the connection was broken off",
		},
		"Atlas, silent so far": {[]description.Server{{Addr: atlas}}, shutOut},
		"Atlas, silent":        {[]description.Server{{Addr: atlas, LastError: context.DeadlineExceeded}}, shutOut},
		"Atlas, shared":        {[]description.Server{{Addr: atlas, LastError: alert}}, shutOut},
		"Atlas, broken off":    {[]description.Server{{Addr: atlas, LastError: io.ErrUnexpectedEOF}}, shutOut},
		"Atlas, no primary":    {[]description.Server{{Addr: atlas, Kind: secondary}}, "servers answer, and none of"},
		"Atlas, a typing mistake": {
			[]description.Server{{Addr: atlas, LastError: &net.DNSError{IsNotFound: true}}}, nobody,
		},
		"not Atlas": {[]description.Server{{Addr: "mongodb.net.example:27017"}}, "no answer in time"},
	} {
		err := topology.ServerSelectionError{
			Wrapped: context.DeadlineExceeded, Desc: description.Topology{Servers: tc.servers},
		}
		if got := database.Redact(err).Error(); !strings.HasPrefix(got, "the database cannot be reached: "+tc.want) {
			t.Errorf("%s: got %q, want %q", name, got, tc.want)
		}
	}
	if got := database.Unreached(errors.New("other")); got != "" {
		t.Errorf("another error: got %q", got)
	}
}
