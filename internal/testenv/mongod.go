package testenv

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/gofrs/flock"
	"go.mongodb.org/mongo-driver/v2/bson"
)

// Mongod is the main function of a program that behaves as MongoDB's server does towards whoever starts it: its command
// line, its exit statuses and its log, that a member of a replica set takes no writes before it is told which members
// there are, nor under an address that the set does not know, and that on a signal a primary waits for 15 seconds for
// another member to take over. Its rows are in memory, and gone when it ends. It returns the exit status.
func Mongod(args []string, stdout io.Writer) int {
	flags := flag.NewFlagSet("mongod", flag.ContinueOnError)
	flags.SetOutput(stdout)
	dir := flags.String("dbpath", "/data/db", "")
	host := flags.String("bind_ip", "localhost", "")
	port := flags.String("port", "27017", "")
	set := flags.String("replSet", "", "")
	_ = flags.Float64("wiredTigerCacheSizeGB", 0, "")
	version := flags.Bool("version", false, "")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if *version {
		fmt.Fprintf(stdout, "db version v8.0.4\nBuild Info: {\n    \"version\": \"8.0.4\"\n}\n")
		return 0
	}
	say := func(severity, msg, err string) {
		line, _ := json.Marshal(map[string]any{"s": severity, "msg": msg, "attr": map[string]string{"error": err}})
		fmt.Fprintf(stdout, "%s\n", line)
	}
	say("I", "MongoDB starting", "")
	lockFile := filepath.Join(*dir, "mongod.lock")
	if _, err := os.Stat(*dir); err != nil {
		say("E", "DBException in initAndListen, terminating", "NonExistentPath: Data directory "+*dir+" not found.")
		return 100
	}
	lock := flock.New(lockFile)
	if locked, err := lock.TryLock(); !locked || err != nil {
		say("E", "DBException in initAndListen, terminating",
			"DBPathInUse: Unable to lock the lock file: "+lockFile+" (Resource temporarily unavailable).\n"+
				"Another mongod instance is already running on the "+*dir+" directory")
		return 100
	}
	l, err := net.Listen("tcp", net.JoinHostPort(*host, *port))
	if err != nil {
		say("E", "Failed to set up listener", "SocketException: Address already in use")
		return 48
	}
	_ = os.WriteFile(filepath.Join(*dir, "storage.bson"), nil, 0o600)
	_ = os.WriteFile(lockFile, fmt.Appendln(nil, os.Getpid()), 0o600) // it is empty after a clean end
	m := &member{memory: NewMemory(), set: *set, address: l.Addr().String(), file: filepath.Join(*dir, "local.json")}
	if err := m.load(); err != nil {
		say("F", "Cannot read the configuration", err.Error())
		return 14
	}
	ending := make(chan struct{})
	m.shutDown = sync.OnceFunc(func() { close(ending) })
	go serveAll(l, m.answer)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
	select {
	case <-ending:
	case <-signals:
		if m.primary() {
			<-time.After(15 * time.Second)
		}
	}
	_ = os.Truncate(lockFile, 0)
	return 0
}

// member is a server that is alone in its replica set.
type member struct {
	memory       *Memory
	set, address string
	file         string // keeps config
	shutDown     func()

	mu     sync.Mutex
	config bson.M // nil before the set is initiated
}

func (m *member) load() error {
	b, err := os.ReadFile(m.file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return errors.Join(err, bson.UnmarshalExtJSON(b, true, &m.config))
}

// configure takes a configuration of the set. It must have this server, as MongoDB wants.
func (m *member) configure(config any) error {
	raw, err := bson.Marshal(config)
	if err != nil {
		return err
	}
	var c bson.M
	if err := bson.Unmarshal(raw, &c); err != nil {
		return err
	}
	if c["_id"] != m.set || hostOf(c) != m.address {
		return failure{code: 93, text: "No host described in new configuration maps to this node"}
	}
	m.config = c
	text, err := bson.MarshalExtJSON(c, true, false)
	return errors.Join(err, os.WriteFile(m.file, text, 0o600))
}

// hostOf returns the address of the only member in a configuration.
func hostOf(config bson.M) string {
	members, _ := config["members"].(bson.A)
	if len(members) != 1 {
		return ""
	}
	only, _ := members[0].(bson.D)
	host, _ := get(only, "host").(string)
	return host
}

func (m *member) primary() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.isPrimary()
}

func (m *member) isPrimary() bool {
	return m.set == "" || m.config != nil && hostOf(m.config) == m.address
}

func (m *member) answer(cmd bson.D) bson.D {
	m.mu.Lock()
	defer m.mu.Unlock()
	done := bson.D{{Key: "ok", Value: 1.0}}
	answered := func(err error) bson.D {
		if f := (failure{}); errors.As(err, &f) {
			return f.reply()
		}
		return done
	}
	config, _ := cmd[0].Value.(bson.D)
	switch name := cmd[0].Key; name {
	case "hello", "isMaster", "ismaster":
		reply := m.memory.answer(cmd, nil)
		switch {
		case m.set == "":
			return reply
		case m.isPrimary():
			return append(reply, bson.E{Key: "setName", Value: m.set}, bson.E{Key: "hosts", Value: bson.A{m.address}},
				bson.E{Key: "me", Value: m.address}, bson.E{Key: "setVersion", Value: m.config["version"]})
		}
		for i := range reply {
			if reply[i].Key == "isWritablePrimary" || reply[i].Key == "ismaster" {
				reply[i].Value = false
			}
		}
		return append(reply, bson.E{Key: "secondary", Value: false}, bson.E{Key: "isreplicaset", Value: true})
	case "ping", "buildInfo", "endSessions":
		return m.memory.answer(cmd, nil)
	case "replSetGetConfig":
		if m.config == nil {
			return failure{code: 94, text: "no replset config has been received"}.reply()
		}
		return append(bson.D{{Key: "config", Value: m.config}}, done...)
	case "replSetInitiate":
		if m.config != nil {
			return failure{code: 23, text: "already initialized"}.reply()
		}
		return answered(m.configure(append(config, bson.E{Key: "version", Value: int32(1)})))
	case "replSetReconfig":
		version, _ := get(config, "version").(int32)
		if before, _ := m.config["version"].(int32); version <= before || get(cmd, "force") != true && !m.isPrimary() {
			return failure{code: 103, text: "New replica set configuration version must be greater than old"}.reply()
		}
		return answered(m.configure(config))
	case "shutdown":
		m.shutDown()
		return done
	default:
		if !m.isPrimary() {
			return failure{code: 10107, text: "not primary"}.reply()
		}
		return m.memory.answer(cmd, nil)
	}
}
