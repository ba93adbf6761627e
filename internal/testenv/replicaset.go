package testenv

import (
	"encoding/binary"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// ReplicaSet is a replica set of three servers on loopback ports, for what the driver and this project make of a
// failover. The servers share the rows of one Memory: what one primary has done the next one has, as if a majority had
// it. What a client sees as never done is not done at all. Writes that are repeated with the same number in a session
// are done once, as MongoDB does them.
type ReplicaSet struct {
	memory    *Memory
	addresses []string

	mu       sync.Mutex
	primary  int
	term     uint32
	conns    map[net.Conn]int // to which server
	done     map[string]bson.D
	fault    func(cmd bson.D) Failover
	commands []bson.D
}

// Failover is what a command may meet.
type Failover int

// The failovers. After each of them another server is the primary, and the one before is there again.
const (
	NoFailover     Failover = iota
	SteppedDown             // the primary steps down and refuses the command
	DiedBefore              // the primary is killed before a majority has the write: it is as if it was never done
	DiedAfter               // the primary is killed when a majority has the write, and before it answers
	Unacknowledged          // the write is done, but no majority acknowledges it before the primary steps down
)

// NewReplicaSet starts a replica set that ends with the test.
func NewReplicaSet(t testing.TB) *ReplicaSet {
	t.Helper()
	r := &ReplicaSet{memory: NewMemory(), term: 1, conns: map[net.Conn]int{}, done: map[string]bson.D{}}
	var listeners []net.Listener
	for range 3 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		listeners, r.addresses = append(listeners, l), append(r.addresses, l.Addr().String())
	}
	for i, l := range listeners {
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				r.mu.Lock()
				r.conns[conn] = i
				r.mu.Unlock()
				go serveConn(conn, func(cmd bson.D) bson.D { return r.answer(i, cmd) })
			}
		}()
	}
	return r
}

// URI returns the connection string of the set.
func (r *ReplicaSet) URI() string {
	return "mongodb://" + strings.Join(r.addresses, ",") + "/?replicaSet=rs0"
}

// OnCommand has f say of each command that the primary gets what it meets.
func (r *ReplicaSet) OnCommand(f func(cmd bson.D) Failover) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fault = f
}

// Commands returns the commands that a primary has got, but for those that the driver sends by itself.
func (r *ReplicaSet) Commands() []bson.D {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.commands)
}

// Docs returns the rows of a collection, as Memory.Docs does.
func (r *ReplicaSet) Docs(database, collection string) []bson.D {
	return r.memory.Docs(database, collection)
}

// elect makes the next server the primary.
func (r *ReplicaSet) elect() { r.primary, r.term = (r.primary+1)%len(r.addresses), r.term+1 }

// kill ends the connections of the primary. Its clients get no answer.
func (r *ReplicaSet) kill() {
	for conn, i := range r.conns {
		if i == r.primary {
			_ = conn.Close()
			delete(r.conns, conn)
		}
	}
	r.elect()
}

func (r *ReplicaSet) answer(server int, cmd bson.D) bson.D {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch cmd[0].Key {
	case "hello", "isMaster", "ismaster":
		return r.hello(server, cmd)
	case "endSessions", "ping", "buildInfo":
		return r.memory.answer(cmd, nil)
	}
	// https://github.com/mongodb/mongo/blob/r7.0.0/src/mongo/base/error_codes.yml and error_labels.cpp
	repeatable := bson.E{Key: "errorLabels", Value: bson.A{"RetryableWriteError"}}
	notPrimary := append(failure{code: 10107, text: "not primary"}.reply(), repeatable)
	if server != r.primary {
		return notPrimary
	}
	r.commands = append(r.commands, cmd)
	meets := NoFailover
	if r.fault != nil {
		meets = r.fault(cmd)
	}
	switch meets {
	case SteppedDown:
		r.elect()
		return notPrimary
	case DiedBefore:
		r.kill()
		return nil
	}
	reply := r.once(cmd)
	switch meets {
	case DiedAfter:
		r.kill()
	case Unacknowledged:
		r.elect()
		return append(reply, bson.E{Key: "writeConcernError", Value: bson.D{
			{Key: "code", Value: int32(11602)},
			{Key: "codeName", Value: "InterruptedDueToReplStateChange"},
			{Key: "errmsg", Value: "operation was interrupted"},
		}}, repeatable)
	}
	return reply
}

// once does a command, or returns what it did when it came before.
func (r *ReplicaSet) once(cmd bson.D) bson.D {
	number := get(cmd, "txnNumber")
	if number == nil {
		return r.memory.answer(cmd, nil)
	}
	key := fmt.Sprint(get(cmd, "lsid"), number)
	if r.done[key] == nil {
		r.done[key] = r.memory.answer(cmd, nil)
	}
	return slices.Clone(r.done[key])
}

func (r *ReplicaSet) hello(server int, cmd bson.D) bson.D {
	hosts := make(bson.A, len(r.addresses))
	for i, a := range r.addresses {
		hosts[i] = a
	}
	isPrimary := server == r.primary
	reply := slices.DeleteFunc(r.memory.answer(cmd, nil), func(e bson.E) bool {
		return e.Key == "isWritablePrimary" || e.Key == "ismaster"
	})
	reply = append(reply,
		bson.E{Key: "isWritablePrimary", Value: isPrimary}, bson.E{Key: "ismaster", Value: isPrimary},
		bson.E{Key: "secondary", Value: !isPrimary}, bson.E{Key: "setName", Value: "rs0"},
		bson.E{Key: "setVersion", Value: int32(1)}, bson.E{Key: "hosts", Value: hosts},
		bson.E{Key: "me", Value: r.addresses[server]}, bson.E{Key: "primary", Value: r.addresses[r.primary]},
		bson.E{Key: "logicalSessionTimeoutMinutes", Value: int32(30)})
	if isPrimary { // the greater one is that of the newer primary
		var id bson.ObjectID
		binary.BigEndian.PutUint32(id[:], r.term)
		reply = append(reply, bson.E{Key: "electionId", Value: id})
	}
	return reply
}
