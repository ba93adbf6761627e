package e2e_test

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"clerksync/internal/child"
	"clerksync/internal/inngestserver"
	"clerksync/internal/testenv"
	"clerksync/internal/testenv/program"
)

// stack is a world as it is in production: several replicas of the service behind a proxy, and a self-hosted Inngest
// with PostgreSQL, Redis and real keys. Each is a process that is started again whenever it ends.
type stack struct {
	*world
	postgres, redis, server, caddy *supervisor
	replicas                       []replica
	psql                           func(sql string) // as the owner of Inngest's database
	redisDir                       string
	postgresURI, redisURI          string

	others logFile // what all but the service wrote

	mu   sync.Mutex
	keys stackKeys
}

// run keeps a program other than the service running.
func (s *stack) run(command func() *exec.Cmd) *supervisor {
	return supervise(s.t, func() *exec.Cmd {
		cmd := command()
		cmd.Stdout, cmd.Stderr = &s.others, &s.others
		return cmd
	})
}

// replica is a process of the service.
type replica struct {
	*supervisor
	url string
}

// stackKeys are the keys that Inngest is started with, and the environment that tells the replicas of theirs.
type stackKeys struct {
	signing  string
	event    []string
	replicas []string
}

// stackOptions is what a test needs of its stack.
type stackOptions struct {
	replicas    int
	checkpoints bool
	calls       func(service string) string // returns the URL of a proxy for Inngest's calls; may be nil
	env         []string                    // of the replicas
}

// newStack starts everything.
func newStack(t *testing.T, o stackOptions) *stack {
	t.Helper()
	s := &stack{world: bareWorld(t, options{})}
	s.keys = stackKeys{signing: signingKey, event: []string{eventKey}, replicas: []string{
		"INNGEST_EVENT_KEY=" + eventKey, "INNGEST_SIGNING_KEY=" + signingKey,
	}}
	t.Cleanup(func() {
		if wrote := s.others.String(); t.Failed() {
			t.Logf("what the others wrote ends with:\n%s", wrote[max(0, len(wrote)-6000):])
		}
	})
	s.uri = os.Getenv(testenv.MongoURI)
	if s.uri == "" { // not the embedded database, which is for one process
		s.uri = testenv.NewMemory().Listen(t, func(string) int32 { return 0 })
	}
	s.startPostgres()
	s.startRedis()
	s.server = s.run(s.inngestCommand)
	s.awaitInngest()

	ports := make([]string, o.replicas)
	for i := range ports {
		ports[i] = fmt.Sprint(testenv.FreePort(t))
	}
	webhooks, proxy := s.startProxy(ports)
	calls := proxy
	if s.url = webhooks; o.calls != nil {
		calls = o.calls(proxy)
	}
	base := s.inngestURL()
	if !o.checkpoints { // to the service this is no loopback address, so it asks for none
		base = strings.Replace(base, "127.0.0.1", "0.0.0.0", 1)
	}
	s.setEnv(s.uri, slices.Concat([]string{"INNGEST_BASE_URL=" + base, "INNGEST_SERVE_ORIGIN=" + calls}, o.env))
	s.openDatabase()
	t.Cleanup(s.checkPrivate)
	for _, port := range ports {
		s.replicas = append(s.replicas, replica{supervise(t, func() *exec.Cmd {
			cmd := s.newService()
			s.mu.Lock()
			defer s.mu.Unlock()
			cmd.Env = slices.Concat(cmd.Env, s.keys.replicas, []string{"PORT=" + port})
			return cmd
		}), "http://127.0.0.1:" + port})
	}
	s.until("the functions are registered", func() bool {
		return s.log.count("registered the functions") >= o.replicas
	})
	s.until("the proxy has seen the replicas", func() bool {
		res, err := http.Get(proxy + "/api/inngest") // without a signature: the replica refuses it
		return err == nil && res.Body.Close() == nil && res.StatusCode == http.StatusUnauthorized
	})
	users := func() int { return s.log.count(`takes checkpoints","checkpoints":true`) }
	if o.checkpoints { // an Inngest that is slow to answer is asked again after half a minute
		s.until("the replicas use checkpoints", func() bool { return users() >= o.replicas })
	} else if n := users(); n > 0 {
		t.Fatalf("%d replicas use checkpoints", n)
	}
	return s
}

func (s *stack) awaitInngest() {
	s.t.Helper()
	s.until("Inngest answers", func() bool { return answers(s.inngestURL() + "/health") })
}

// answers tells whether a GET of the URL is answered with 200.
func answers(url string) bool {
	res, err := (&http.Client{Timeout: 5 * time.Second}).Get(url)
	return err == nil && res.Body.Close() == nil && res.StatusCode == http.StatusOK
}

// startPostgres starts PostgreSQL with an empty database for Inngest. PostgreSQL does not run as root.
func (s *stack) startPostgres() {
	t := s.t
	t.Helper()
	postgres, err := filepath.EvalSymlinks(program.Find(t, program.Postgres())) // its other programs are beside it
	if err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(s.dbDir, "postgres")
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	as := program.Unprivileged(t, data)
	command := func(name string, args ...string) *exec.Cmd {
		cmd := exec.Command(filepath.Join(filepath.Dir(postgres), name), args...)
		cmd.Dir, cmd.Env = "/", []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C"}
		if as != nil {
			copied := *as
			cmd.SysProcAttr = &copied
		}
		return cmd
	}
	run := func(name string, args ...string) {
		t.Helper()
		if out, err := command(name, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
	}
	port := fmt.Sprint(testenv.FreePort(t))
	run("initdb", "-D", data, "-U", "inngest", "--auth=trust", "--no-sync", "--encoding=UTF8")
	s.postgres = s.run(func() *exec.Cmd {
		return command("postgres", "-D", data, "-p", port, "-c", "listen_addresses=127.0.0.1",
			"-c", "unix_socket_directories=", "-c", "fsync=off") // a crash of the machine is not among the faults
	})
	t.Cleanup(func() { s.postgres.hold((*child.Process).Stop) }) // which leaves no shared memory behind
	s.psql = func(sql string) {
		s.until("PostgreSQL answers", func() bool {
			return command("pg_isready", "-q", "-h", "127.0.0.1", "-p", port).Run() == nil
		})
		run("psql", "-q", "-h", "127.0.0.1", "-p", port, "-U", "inngest", "-d", "postgres", "-c", sql)
	}
	s.psql("CREATE DATABASE inngest")
	s.postgresURI = "postgres://inngest@127.0.0.1:" + port + "/inngest?sslmode=disable"
}

// startRedis starts Redis, which appends each change to a file.
func (s *stack) startRedis() {
	t := s.t
	t.Helper()
	redis, port := program.Find(t, program.Redis()), fmt.Sprint(testenv.FreePort(t))
	s.redisDir = filepath.Join(s.dbDir, "redis")
	s.redis = s.run(func() *exec.Cmd {
		if err := os.MkdirAll(s.redisDir, 0o700); err != nil {
			t.Error(err)
		}
		return exec.Command(redis, "--bind", "127.0.0.1", "--port", port, "--dir", s.redisDir, "--appendonly", "yes",
			"--save", "", "--maxmemory-policy", "noeviction", "--loglevel", "warning")
	})
	s.redisURI = "redis://127.0.0.1:" + port + "/0"
}

// inngestCommand starts Inngest with what it takes without being told in production: how often it looks at its queue,
// and when it tries again.
func (s *stack) inngestCommand() *exec.Cmd {
	s.mu.Lock()
	defer s.mu.Unlock()
	return selfHostedCommand(s.t, s.port, s.keys.signing, s.keys.event,
		"--postgres-uri", s.postgresURI, "--redis-uri", s.redisURI)
}

// selfHostedCommand starts an Inngest of one's own.
func selfHostedCommand(t *testing.T, port int, signingKey string, eventKeys []string, args ...string) *exec.Cmd {
	t.Helper()
	dir, free := t.TempDir(), func() string { return fmt.Sprint(testenv.FreePort(t)) }
	args = append([]string{
		"start", "--host", "127.0.0.1", "--port", fmt.Sprint(port), "--connect-gateway-port", free(),
		"--signing-key", strings.TrimPrefix(signingKey, "signkey-test-"), "-l", "error",
	}, args...)
	for _, key := range eventKeys {
		args = append(args, "--event-key", key)
	}
	cmd := exec.Command(programs.inngest.Path, args...)
	cmd.Dir = dir
	cmd.Env = append(inngestserver.GRPCPorts(free(), free()), "DO_NOT_TRACK=1", "HOME="+dir)
	return cmd
}

// startProxy starts Caddy as it is in production, before replicas on these ports, and returns the URLs for webhooks and
// for Inngest's calls.
func (s *stack) startProxy(ports []string) (webhooks, calls string) {
	t := s.t
	t.Helper()
	caddy := program.Find(t, program.Caddy())
	outside, inside := fmt.Sprint(testenv.FreePort(t)), fmt.Sprint(testenv.FreePort(t))
	webhooks, calls = "http://127.0.0.1:"+outside, "http://127.0.0.1:"+inside
	s.caddy = s.run(func() *exec.Cmd {
		cmd := exec.Command(caddy, "run", "--adapter", "caddyfile", "--config", "../deploy/Caddyfile")
		cmd.Env = []string{
			"SITE_ADDRESS=http://:" + outside, "CALLS_ADDRESS=http://:" + inside, // whatever Inngest calls it
			"CADDY_GLOBAL_OPTIONS=default_bind 127.0.0.1",
			"CLERKSYNC_REPLICAS=127.0.0.1:" + strings.Join(ports, " 127.0.0.1:"),
			"HOME=" + s.dbDir, "XDG_DATA_HOME=" + s.dbDir, "XDG_CONFIG_HOME=" + s.dbDir,
		}
		return cmd
	})
	s.until("the proxy answers", func() bool { return answers(calls + "/health") })
	return webhooks, calls
}
