package bench_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"clerksync/internal/testenv"
)

// BenchmarkFunctions runs each of the three functions through /api/inngest, as Inngest's executor does, for clerksync
// and for the usual stack in Node, on the same database, and prints what one run costs: requests, the process's CPU,
// commands to the database. Run it with -benchtime 1x.
func BenchmarkFunctions(b *testing.B) {
	binary := buildClerksync(b)
	u, err := url.Parse(externalDatabase(b, "0s"))
	if err != nil {
		b.Fatal(err)
	}
	apps := []string{"clerksync", "node"}
	if why := prepareNode(); why != "" {
		fmt.Println("the Node stack is left out:", why)
		apps = apps[:1]
	}
	inngest := startProcess(b, child(b, "events", "EVENTS_DELAY=0s"), "/health")
	const users = 1000
	fmt.Print("\n| function | app | requests | CPU µs | database commands |\n|---|---|---|---|---|\n")
	var lines [3][]string
	for _, name := range apps {
		proxy := newCommandCounter(b, u.Host)
		env := []string{
			"CLERK_WEBHOOK_SIGNING_SECRET=" + testenv.Secret, "MONGODB_URI=mongodb://" + proxy.addr +
				"/?directConnection=true", "MONGODB_DATABASE=bench_functions_" + name,
			"INNGEST_DEV=" + inngest.url, "INNGEST_EVENT_KEY=bench", "LOG_LEVEL=warn",
		}
		cmd := exec.Command(binary, "serve")
		if cmd.Env = env; name == "node" {
			cmd = exec.Command("node", "server.js")
			cmd.Dir, cmd.Env = "node", append(env, "NODE_ENV=production", "PATH="+os.Getenv("PATH"))
		}
		p := startProcess(b, cmd, "/healthz")
		to, err := url.Parse(p.url)
		if err != nil {
			b.Fatal(err)
		}
		e := &testenv.Executor{Handler: httputil.NewSingleHostReverseProxy(to), AppID: name}
		for i, fn := range []struct{ id, event string }{
			{"sync-user-from-clerk", "clerk/user.created"},
			{"update-user-from-clerk", "clerk/user.updated"},
			{"delete-user-with-clerk", "clerk/user.deleted"},
		} {
			run := func(n int) testenv.Run {
				return e.Run(b, fn.id, testenv.Event{
					ID: fmt.Sprint("msg_", fn.id, n), Name: fn.event, Data: sampleUser(n, i),
					TS: time.Now().UnixMilli(),
				})
			}
			for n := range 200 { // Node compiles what runs often
				run(users + n)
			}
			requests, commands, cpu := 0, proxy.commands.Load(), p.cpu(b)
			for n := range users {
				r := run(n)
				if r.Failed {
					b.Fatalf("%s of %s: %s", fn.id, name, r.Error)
				}
				requests += r.Attempts
			}
			lines[i] = append(lines[i], fmt.Sprintf("| %s | %s | %.2f | %.0f | %.2f |", fn.id, name,
				float64(requests)/users,
				(p.cpu(b)-cpu).Seconds()*1e6/users, float64(proxy.commands.Load()-commands)/users))
		}
		p.stop()
		drop(b, u.String(), "bench_functions_"+name)
	}
	for _, l := range lines {
		fmt.Println(strings.Join(l, "\n"))
	}
	b.ReportMetric(0, "ns/op")
}

// sampleUser is the nth user at a version.
func sampleUser(n, version int) json.RawMessage {
	at := int64(1_767_603_600_000 + version)
	return testenv.ClerkUser{
		ID: fmt.Sprintf("user_2functions%015d", n), FirstName: fmt.Sprint("Ada ", version), LastName: "Lovelace",
		Email:   fmt.Sprintf("person-%d@mail.example", n),
		Created: 1_767_603_600_000, Updated: at,
	}.JSON()
}

// commandCounter is a proxy in front of a database that counts commands, but for what drivers ask to see whether it
// lives.
type commandCounter struct {
	addr     string
	commands atomic.Int64
}

func newCommandCounter(b *testing.B, to string) *commandCounter {
	b.Helper()
	l, err := (&net.ListenConfig{}).Listen(b.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = l.Close() })
	c := &commandCounter{addr: l.Addr().String()}
	go func() {
		for {
			from, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer from.Close()
				db, err := (&net.Dialer{}).DialContext(b.Context(), "tcp", to)
				if err != nil {
					return
				}
				defer db.Close()
				go func() { _, _ = io.Copy(from, db); _ = from.Close() }()
				c.pass(db, from)
			}()
		}
	}()
	return c
}

// pass hands on the messages of a client: a length, two ids and an opcode, 4 bytes each, and the rest
// (https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/).
func (c *commandCounter) pass(db io.Writer, from io.Reader) {
	const header, opMsg = 16, 2013
	for {
		m := make([]byte, header)
		if _, err := io.ReadFull(from, m); err != nil {
			return
		}
		m = append(m, make([]byte, binary.LittleEndian.Uint32(m)-header)...)
		if _, err := io.ReadFull(from, m[header:]); err != nil {
			return
		}
		if op := binary.LittleEndian.Uint32(m[12:]); op == opMsg && !bytes.Contains(m, []byte("\x10hello\x00")) &&
			!bytes.Contains(m, []byte("endSessions")) {
			c.commands.Add(1)
		}
		if _, err := db.Write(m); err != nil {
			return
		}
	}
}
