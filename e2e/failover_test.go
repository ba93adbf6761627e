package e2e_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"clerksync/internal/child"
	"clerksync/internal/testenv"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	mongooptions "go.mongodb.org/mongo-driver/v2/mongo/options"
)

// mongodEnv names a mongod, of which TestFailoverEndToEnd starts three. Without it the test takes servers of our own.
const mongodEnv = "CLERKSYNC_TEST_MONGOD"

// TestFailoverEndToEnd: while webhooks come, the primary of a replica set of three steps down and is killed, again and
// again. In the end all rows are equal to Clerk, and no event is left or has failed.
func TestFailoverEndToEnd(t *testing.T) {
	t.Parallel()
	endToEnd(t)
	users, rounds := 40, 1
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("reproduce with: go test ./e2e -run TestFailoverEndToEnd -seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	var uri string
	var faults []fault
	if mongod := os.Getenv(mongodEnv); mongod != "" {
		users, rounds = 300, 4
		set := startMongods(t, mongod)
		uri, faults = set.uri, set.faults()
	} else {
		uri, faults = ourFailovers(t)
	}
	w := newWorld(t, options{uri: uri, env: []string{manyEvents}})
	histories := testenv.Histories(t, rng, users)
	c := &clerkSide{world: w, codes: map[int]int{}, pause: 50 * time.Millisecond}
	each := 1500 * time.Millisecond // for a fault
	for _, hook := range shuffled(rng, histories) {
		c.deliver(hook, time.Duration(rng.Int64N(int64(each)*int64(rounds*len(faults)))))
	}
	for range rounds {
		rng.Shuffle(len(faults), func(i, j int) { faults[i], faults[j] = faults[j], faults[i] })
		for _, f := range faults {
			heal := f.begin()
			<-time.After(each)
			heal()
		}
	}
	c.wait()
	w.drained()
	w.compare(histories)
	if got, want := w.command("deadletters", "list"), "no dead letters\n"; got != want {
		t.Errorf("dead letters: %s", got)
	}
	t.Logf("%d users, %d failovers; answers to webhooks: %v", users, rounds*len(faults), c.answers())
}

// ourFailovers returns the connection string of a replica set of our own, and what happens to its next write.
func ourFailovers(t *testing.T) (uri string, faults []fault) {
	t.Helper()
	set := testenv.NewReplicaSet(t)
	var mu sync.Mutex
	next := testenv.NoFailover
	set.OnCommand(func(cmd bson.D) testenv.Failover {
		mu.Lock()
		defer mu.Unlock()
		switch cmd[0].Key {
		case "insert", "update", "delete", "findAndModify":
			met := next
			next = testenv.NoFailover
			return met
		}
		return testenv.NoFailover
	})
	for name, meets := range map[string]testenv.Failover{
		"stepped down": testenv.SteppedDown, "killed before a write": testenv.DiedBefore,
		"killed after a write": testenv.DiedAfter, "a write unacknowledged": testenv.Unacknowledged,
	} {
		faults = append(faults, fault{name: name, begin: func() (heal func()) {
			mu.Lock()
			defer mu.Unlock()
			next = meets
			return func() {
				t.Helper()
				until(t, name+": there is a write", patience, func() bool {
					mu.Lock()
					defer mu.Unlock()
					return next == testenv.NoFailover
				})
			}
		}})
	}
	return set.URI(), faults
}

// mongods are three real servers, which are one replica set.
type mongods struct {
	t         *testing.T
	uri       string
	admin     *mongo.Database
	addresses []string
	start     []func()
	processes []*child.Process
}

func startMongods(t *testing.T, mongod string) *mongods {
	t.Helper()
	m := &mongods{t: t, processes: make([]*child.Process, 3)}
	members := bson.A{}
	for i := range m.processes {
		port, dir := fmt.Sprint(testenv.FreePort(t)), t.TempDir()
		m.addresses = append(m.addresses, "127.0.0.1:"+port)
		members = append(members, bson.D{{Key: "_id", Value: i}, {Key: "host", Value: m.addresses[i]}})
		m.start = append(m.start, func() {
			cmd := exec.Command(mongod, "--dbpath", dir, "--port", port, "--bind_ip", "127.0.0.1", "--replSet", "rs0",
				"--wiredTigerCacheSizeGB", "0.25")
			var err error
			if m.processes[i], err = child.Start(cmd); err != nil {
				t.Error(err)
			}
		})
		m.start[i]()
		t.Cleanup(func() { kill(m.processes[i]) })
	}
	first := connectMongod(t, "mongodb://"+m.addresses[0]+"/?directConnection=true")
	config := bson.D{
		{Key: "_id", Value: "rs0"},
		{Key: "members", Value: members},
		{Key: "settings", Value: bson.D{{Key: "electionTimeoutMillis", Value: 2000}}}, // 10 s take long
	}
	until(t, "the servers take the configuration", patience, func() bool {
		err := first.RunCommand(t.Context(), bson.D{{Key: "replSetInitiate", Value: config}}).Err()
		se, isServer := err.(mongo.ServerError)              //nolint:errorlint // it is the driver's own
		return err == nil || isServer && se.HasErrorCode(23) // AlreadyInitialized
	})
	m.uri = "mongodb://" + strings.Join(m.addresses, ",") + "/?replicaSet=rs0"
	m.admin = connectMongod(t, m.uri)
	until(t, "there is a primary", patience, func() bool { return m.primary() >= 0 })
	return m
}

func connectMongod(t *testing.T, uri string) *mongo.Database {
	t.Helper()
	client, err := mongo.Connect(mongooptions.Client().ApplyURI(uri).SetTimeout(5 * time.Second))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Disconnect(context.Background()) })
	return client.Database("admin")
}

// primary returns which server is the primary, or -1.
func (m *mongods) primary() int {
	var hello struct {
		Primary bool   `bson:"isWritablePrimary"`
		Me      string `bson:"me"`
	}
	err := m.admin.RunCommand(m.t.Context(), bson.D{{Key: "hello", Value: 1}}).Decode(&hello)
	for i, a := range m.addresses {
		if err == nil && hello.Primary && a == hello.Me {
			return i
		}
	}
	return -1
}

// awaitPrimary returns which server is the primary, when there is one.
func (m *mongods) awaitPrimary() (primary int) {
	m.t.Helper()
	until(m.t, "there is a primary", patience, func() bool {
		primary = m.primary()
		return primary >= 0
	})
	return primary
}

// faults returns what happens to the primary: each also ends when there is one again.
func (m *mongods) faults() []fault {
	stepDown := func() (heal func()) {
		before := m.awaitPrimary()
		until(m.t, "the primary steps down", patience, func() bool { // it refuses while the others are behind
			command := bson.D{{Key: "replSetStepDown", Value: 30}, {Key: "secondaryCatchUpPeriodSecs", Value: 5}}
			err := m.admin.RunCommand(m.t.Context(), command).Err()
			return err == nil || m.primary() != before
		})
		return func() { m.awaitPrimary() }
	}
	killed := func() (heal func()) {
		primary := m.awaitPrimary()
		kill(m.processes[primary])
		return func() {
			m.awaitPrimary()
			m.start[primary]()
		}
	}
	return []fault{{name: "stepped down", begin: stepDown}, {name: "killed", begin: killed}}
}
