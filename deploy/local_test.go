package deploy_test

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"clerksync/internal/child"
	"clerksync/internal/dev"
	"clerksync/internal/testenv"
	"clerksync/internal/testenv/inngesttest"
	"clerksync/internal/testenv/program"
	"clerksync/store/database"

	"github.com/google/go-cmp/cmp"
)

// TestMain makes the test binary, under the names of MongoDB's programs, a stand-in for them.
func TestMain(m *testing.M) {
	switch filepath.Base(os.Args[0]) {
	case "mongod":
		os.Exit(testenv.Mongod(os.Args[1:], os.Stdout))
	case "mongosh":
		os.Exit(mongosh(os.Args[1:]))
	}
	os.Exit(m.Run())
}

// mongosh does what local.sh's script for MongoDB's shell is to do: it makes the replica set, which has the server
// under the address that clients get, and returns 0 if there is a primary.
func mongosh(args []string) int {
	m := regexp.MustCompile(`(?s)^--quiet --port (\d+) --eval .*_id: '(\w+)'.*host: '(127\.0\.0\.1:(\d+))'`).
		FindStringSubmatch(strings.Join(args, " "))
	if m == nil || m[1] != m[4] {
		return 2
	}
	if err := database.MakePrimary(context.Background(), m[3], m[2]); err != nil {
		return 1
	}
	return 0
}

// TestLocal: local.sh starts all that the production file does, with secrets in files and real keys, and the mongod
// that is on PATH. A webhook that comes through Caddy becomes a row; when a replica and Inngest are killed, webhooks
// are taken and become rows all the same, and both are started again. It ends all of it, and starts once more on the
// data that it left, with the database that MONGODB_URI names.
func TestLocal(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it runs PostgreSQL, Redis, Inngest, two replicas and Caddy")
	}
	for _, p := range []program.Program{program.Postgres(), program.Redis(), program.Caddy()} {
		program.Find(t, p)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	for _, name := range []string{"mongod", "mongosh"} {
		if err := os.Symlink(self, filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	l := newLocal(t)
	script := l.start("MONGODB_URI=", "PATH="+bin+string(filepath.ListSeparator)+os.Getenv("PATH"))
	uri := strings.TrimSpace(read(t, filepath.Join(l.dir, "secrets", "mongodb_uri")))
	l.until("a webhook is taken", func() bool { return l.post("user_first") == http.StatusAccepted })
	l.untilRow(uri, "user_first")
	if status := send(t, l.addr(0), "GET", "/status"); status != http.StatusNotFound {
		t.Errorf("/status from outside: got %d, want 404", status)
	}
	if status := send(t, l.addr(2), "GET", "/status"); status == http.StatusNotFound {
		t.Error("/status from inside: got 404; the token's file was not read")
	}

	killed := map[string]string{}
	for _, name := range []string{"clerksync-1", "inngest"} {
		killed[name] = l.pid(name)
		pid, err := strconv.Atoi(killed[name])
		if err != nil {
			t.Fatal(err)
		}
		process, err := os.FindProcess(pid)
		if err != nil {
			t.Fatal(err)
		}
		if err := process.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	l.until("a webhook is taken", func() bool { return l.post("user_second") == http.StatusAccepted })
	l.untilRow(uri, "user_second")
	for name, pid := range killed {
		l.until(name+" runs again", func() bool { return l.pid(name) != pid })
	}
	l.stop(script)

	uri = testenv.NewMemory().Listen(t, func(string) int32 { return 0 }) + "/clerksync"
	script = l.start("MONGODB_URI=" + uri)
	l.until("a webhook is taken", func() bool { return l.post("user_third") == http.StatusAccepted })
	l.untilRow(uri, "user_third")
	l.stop(script)
}

// TestLocalSettings: local.sh gives clerksync the settings that the production file does, and where to listen.
func TestLocalSettings(t *testing.T) {
	t.Parallel()
	script := read(t, "local.sh")
	run := regexp.MustCompile(`(?ms)^run_clerksync\(\).*?^}`).FindString(script)
	run += regexp.MustCompile(`(?m)^ *clerk=\(\w.+$`).FindString(script)
	var got []string
	for _, m := range regexp.MustCompile(`\b([A-Z][A-Z_]+)=`).FindAllStringSubmatch(run, -1) {
		got = append(got, m[1])
	}
	want := slices.Collect(maps.Keys(readProduction(t).Services["clerksync-1"].Environment))
	want = append(want, "HOST", "PORT", "PATH")
	slices.Sort(got)
	slices.Sort(want)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("the settings (-in the production file +in local.sh):\n%s", d)
	}
}

// TestLocalRefuses: what local.sh can't do it says in a line, before it starts anything.
func TestLocalRefuses(t *testing.T) {
	t.Parallel()
	for _, p := range []program.Program{program.Postgres(), program.Redis(), program.Caddy()} {
		program.Find(t, p)
	}
	without := func(missing string) string {
		dir := t.TempDir()
		for _, tool := range []string{"bash", "dirname", "ls", "mkdir", "flock"} {
			path, err := exec.LookPath(tool)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(path, filepath.Join(dir, tool)); err != nil {
				t.Fatal(err)
			}
		}
		for _, name := range []string{"initdb", "postgres", "psql", "redis-server", "redis-cli", "caddy", "mongod"} {
			if name == missing {
				continue
			}
			if err := os.WriteFile(filepath.Join(dir, name), nil, 0o700); err != nil { // none is run
				t.Fatal(err)
			}
		}
		return dir
	}
	tests := map[string]struct{ path, uri, has, want string }{
		"no MongoDB": {
			path: without("mongod"), want: "set MONGODB_URI to a MongoDB, or put mongod and mongosh on PATH",
		},
		"mongod without its shell": {
			path: without(""),
			want: "mongosh is not on PATH: it makes mongod a replica set",
		},
		"no Caddy": {
			path: without("caddy"), uri: "mongodb://x",
			want: "caddy is missing; on Debian: apt-get install postgresql redis-server caddy",
		},
		"no Redis": {
			path: without("redis-server"), uri: "mongodb://x",
			want: "redis-server is missing; on Debian: apt-get install postgresql redis-server caddy",
		},
		"an app's folder": {
			path: without(""), uri: "mongodb://x", has: "data/postgres/18",
			want: "% has something else in it: give a FOLDER that is empty, or not there yet",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			folder := filepath.Join(t.TempDir(), "x")
			if tt.has != "" {
				if err := os.MkdirAll(filepath.Join(folder, tt.has), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			cmd := exec.CommandContext(t.Context(), "bash", "local.sh", folder)
			cmd.Env = []string{"PATH=" + tt.path, "MONGODB_URI=" + tt.uri}
			out, err := cmd.CombinedOutput()
			got := strings.ReplaceAll(string(out), folder, "%")
			if want := "local.sh: " + tt.want + "\n"; err == nil || got != want {
				t.Errorf("got %v and %q, want exit status 1 and %q", err, got, want)
			}
		})
	}
}

// local is a folder and ports in which local.sh runs.
type local struct {
	t    *testing.T
	dir  string
	port int
	env  []string
	sent int
}

func newLocal(t *testing.T) *local {
	t.Helper()
	inngest, err := inngesttest.Find(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	// Not t.TempDir: PostgreSQL, which does not run as root, could not reach it.
	dir, err := os.MkdirTemp("", "clerksync-local-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			logs(t, dir)
		}
		_ = os.RemoveAll(dir)
	})
	if err := os.Chmod(dir, 0o711); err != nil { // see above
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "clerksync")
	build := exec.CommandContext(t.Context(), "go", "build", "-tags", "noembedded", "-o", binary, "../cmd/clerksync")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	l := &local{t: t, dir: filepath.Join(dir, "data", "a local"), port: testenv.FreePorts(t, 11)}
	l.env = append(os.Environ(), "CLERKSYNC="+binary, "INNGEST_CLI="+inngest.Path, "PORT="+strconv.Itoa(l.port),
		"CLERK_WEBHOOK_SIGNING_SECRET="+testenv.Secret, "CLERK_SECRET_KEY=")
	return l
}

// addr returns the address of one of the ports that local.sh uses.
func (l *local) addr(i int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(l.port+i)) }

// start starts local.sh, with these variables besides, and returns when it is ready.
func (l *local) start(env ...string) *child.Process {
	l.t.Helper()
	out := &testenv.Output{}
	cmd := exec.Command("bash", "local.sh", l.dir)
	cmd.Env, cmd.Stdout, cmd.Stderr = slices.Concat(l.env, env), out, out
	p, err := child.Start(cmd)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() {
		_ = p.Terminate()
		select {
		case <-p.Done():
		case <-time.After(time.Minute):
			_ = p.Kill()
		}
	})
	l.until("local.sh is ready", func() bool {
		if p.Ended() {
			l.t.Fatalf("local.sh ended: %s\n%s", p.State(), out)
		}
		return strings.Contains(out.String(), "ready\n")
	})
	return p
}

// stop ends local.sh as Ctrl-C does, and checks that nothing is left of what it started.
func (l *local) stop(p *child.Process) {
	l.t.Helper()
	if err := p.Terminate(); err != nil {
		l.t.Fatal(err)
	}
	l.until("local.sh has ended", p.Ended)
	if code := p.State().ExitCode(); code != 0 {
		l.t.Errorf("local.sh ended with %d, want 0", code)
	}
	for i := range 11 {
		if conn, err := (&net.Dialer{}).DialContext(l.t.Context(), "tcp", l.addr(i)); err == nil {
			_ = conn.Close()
			l.t.Errorf("something still listens on %s", l.addr(i))
		}
	}
}

// post posts a signed webhook of a new user to Caddy and returns the answer's status, or 0 if there was none.
func (l *local) post(userID string) int {
	l.t.Helper()
	l.sent++
	body, err := dev.Sample("user.created", "ada", userID)
	if err != nil {
		l.t.Fatal(err)
	}
	req := testenv.Signed(l.t, "http://"+l.addr(0)+"/webhooks/clerk", testenv.Secret,
		fmt.Sprintf("msg_%s_%d", userID, l.sent), time.Now(), body)
	res, err := (&http.Client{Timeout: 30 * time.Second}).Do(req)
	if err != nil {
		return 0
	}
	defer res.Body.Close()
	return res.StatusCode
}

// untilRow waits until a user has a row in the database.
func (l *local) untilRow(uri, userID string) {
	l.t.Helper()
	db, err := database.Connect(l.t.Context(), uri, "clerksync")
	if err != nil {
		l.t.Fatal(err)
	}
	defer func() { _ = db.Close(context.Background()) }()
	l.until("the row of "+userID+" is there", func() bool {
		doc, err := testenv.DefaultApp().Find(l.t.Context(), db, userID)
		return err == nil && doc != nil
	})
}

// pid returns the id of a process that local.sh started.
func (l *local) pid(name string) string {
	l.t.Helper()
	return strings.TrimSpace(read(l.t, filepath.Join(l.dir, "run", name+".pid")))
}

// until waits for something that takes seconds on an idle machine.
func (l *local) until(what string, done func() bool) {
	l.t.Helper()
	for start := time.Now(); !done(); {
		if time.Since(start) > 10*time.Minute {
			l.t.Fatalf("waited 10 minutes until %s", what)
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-l.t.Context().Done():
			l.t.Fatal("the test was ended")
		}
	}
}

// logs shows the ends of the logs.
func logs(t *testing.T, dir string) {
	t.Helper()
	files, _ := filepath.Glob(filepath.Join(dir, "data", "a local", "log", "*.log")) // the pattern is ours
	for _, file := range files {
		if b, err := os.ReadFile(file); err == nil {
			t.Logf("%s:\n%s", filepath.Base(file), b[max(0, len(b)-2000):])
		}
	}
}
