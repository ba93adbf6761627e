package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"clerksync/internal/inngestserver"
	"clerksync/internal/testenv"
	"clerksync/store"
	"clerksync/store/embedded"
)

// programs are what the tests run.
var programs struct {
	clerksync string
	inngest   inngestserver.Command
}

// databaseEnv makes the test binary serve the embedded database of a folder at an address, "ADDR DIR", so that it can be killed.
const databaseEnv = "CLERKSYNC_E2E_DATABASE"

func TestMain(m *testing.M) {
	if s := os.Getenv(databaseEnv); s != "" {
		if err := serveDatabase(s); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "clerksync-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if err := build(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// build builds the program, and the Inngest server that tools/inngest pins if no test run or 'clerksync dev' has yet.
func build(dir string) error {
	if flag.Parse(); testing.Short() {
		return nil
	}
	wd, err := os.Getwd()
	if err != nil {
		return err
	}
	programs.clerksync = filepath.Join(dir, "clerksync")
	if out, err := exec.Command("go", "build", "-o", programs.clerksync, "../cmd/clerksync").CombinedOutput(); err != nil {
		return fmt.Errorf("build clerksync: %w\n%s", err, out)
	}
	programs.inngest, err = inngestserver.Find(context.Background(), inngestserver.FindOptions{
		Environ: os.Environ(), Dir: wd, PinnedOnly: true, Progress: func(l string) { fmt.Fprintln(os.Stderr, l) },
	})
	return err
}

func serveDatabase(s string) error {
	addr, dir, _ := strings.Cut(s, " ")
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	srv, err := embedded.Start(ctx, dir, addr, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	<-ctx.Done()
	return srv.Close()
}

// world is a database, an Inngest server and the service, each a process of its own.
type world struct {
	t       *testing.T
	uri     string // of the database
	dbAddr  string // of the database if it is ours, else ""
	dbDir   string
	db      *exec.Cmd
	port    int // of Inngest
	inngest *inngestserver.Server
	service *exec.Cmd
	env     []string
	url     string   // of the service
	log     *logFile // what the service and the commands beside it wrote, and what they answered
	private sync.Map // addresses and numbers of users, which nothing may write
	store   *store.DB
	users   *store.Users
	// patience is how long until waits.
	patience time.Duration

	dbProxy, inngestProxy *testenv.Proxy // see options
}

// logFile is what the service wrote.
type logFile struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logFile) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logFile) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), s)
}

func (l *logFile) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// The keys that the service has. The dev server takes any.
const (
	eventKey   = "e2e-event-key"
	signingKey = "signkey-test-0e2e0e2e0e2e"
)

// options is what a test needs of its world.
type options struct {
	ownDatabase bool // the database is a process of ours, to be killed, whatever MONGODB_TEST_URI names
	proxies     bool // the service reaches the database and Inngest through proxies
	env         []string
}

// newWorld starts everything. The database is what MONGODB_TEST_URI names, or a process of ours if that is not set.
func newWorld(t *testing.T, o options) *world {
	t.Helper()
	if testing.Short() {
		t.Skip("e2e is left out by -short")
	}
	w := &world{t: t, patience: 3 * time.Minute, port: freePort(t), log: &logFile{}, dbDir: t.TempDir()}
	name := fmt.Sprintf("e2e_%d", time.Now().UnixNano())
	if uri := os.Getenv(testenv.MongoURI); uri != "" && !o.ownDatabase {
		w.uri = uri
	} else {
		w.dbAddr = fmt.Sprintf("127.0.0.1:%d", freePort(t))
		w.uri = "mongodb://" + w.dbAddr
		w.startDatabase()
		t.Cleanup(func() { kill(w.db) })
	}
	w.startInngest()
	t.Cleanup(func() {
		if err := w.inngest.Kill(); err != nil {
			t.Error(err)
		}
	})
	serviceURI, inngestAddr := w.uri, fmt.Sprintf("127.0.0.1:%d", w.port)
	if o.proxies {
		w.dbProxy, w.inngestProxy = testenv.NewProxy(t, hostPort(t, w.uri)), testenv.NewProxy(t, inngestAddr)
		serviceURI, inngestAddr = "mongodb://"+w.dbProxy.Addr+"/?directConnection=true", w.inngestProxy.Addr
	}
	port := freePort(t)
	w.url = fmt.Sprintf("http://127.0.0.1:%d", port)
	w.env = []string{
		"HOST=127.0.0.1", fmt.Sprint("PORT=", port), "CLERK_WEBHOOK_SIGNING_SECRET=" + testenv.Secret,
		"MONGODB_URI=" + serviceURI, "MONGODB_DATABASE=" + name, "INNGEST_DEV=http://" + inngestAddr,
		"INBOX_RESEND_AFTER=5s", "LOG_LEVEL=debug", "INNGEST_EVENT_KEY=" + eventKey,
	}
	w.env = append(w.env, o.env...)
	w.startService()
	t.Cleanup(func() {
		kill(w.service)
		w.checkPrivate()
	})
	w.store = testenv.Connect(t, w.uri, name)
	w.users = store.NewUsers(w.store)
	return w
}

func (w *world) startDatabase() {
	w.t.Helper()
	self, err := os.Executable()
	if err != nil {
		w.t.Fatal(err)
	}
	w.db = exec.Command(self)
	w.db.Env = append(os.Environ(), databaseEnv+"="+w.dbAddr+" "+w.dbDir)
	w.db.Stderr = os.Stderr
	if err := w.db.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.until("the database listens", func() bool {
		c, err := net.Dial("tcp", w.dbAddr)
		return err == nil && c.Close() == nil
	})
}

func (w *world) startInngest() {
	w.t.Helper()
	var err error
	w.inngest, err = inngestserver.Start(w.t.Context(), programs.inngest, inngestserver.Config{
		Port: w.port, Tick: 20 * time.Millisecond, RetryInterval: time.Second,
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// startService starts the service and waits until Inngest knows its functions.
func (w *world) startService() {
	w.t.Helper()
	const known = "registered the functions"
	before := w.log.count(known)
	w.service = w.newService()
	if err := w.service.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.until("the functions are registered", func() bool { return w.log.count(known) > before })
}

// newService returns a service that is not started yet.
func (w *world) newService() *exec.Cmd {
	cmd := exec.Command(programs.clerksync, "serve")
	cmd.Env, cmd.Stdout, cmd.Stderr = w.env, w.log, w.log
	return cmd
}

func kill(c *exec.Cmd) {
	if c != nil && c.ProcessState == nil {
		_ = c.Process.Kill() // it may have ended
		_ = c.Wait()         // killed
	}
}

// checkPrivate looks for what nothing may write: secrets, and every address and number of a user that went through.
func (w *world) checkPrivate() {
	wrote := w.log.String()
	check := func(what, s string) {
		if i := strings.Index(wrote, s); i >= 0 {
			w.t.Errorf("something wrote the %s %q: …%s…", what, s, wrote[max(0, i-300):min(len(wrote), i+100)])
		}
	}
	for _, s := range []string{testenv.Secret, eventKey, signingKey} {
		check("secret", strings.TrimPrefix(strings.TrimPrefix(s, "whsec_"), "signkey-test-"))
	}
	w.private.Range(func(s, what any) bool { check(what.(string), s.(string)); return true })
	for _, s := range []string{"Lovelace", "panic"} {
		check("word", s)
	}
	if w.t.Failed() {
		w.t.Logf("what was written ends with:\n%s", wrote[max(0, len(wrote)-6000):])
	}
}

// privateData finds the addresses and numbers in the JSON of a user, and the codes that a phone number may have.
var privateData = regexp.MustCompile(`"(email_address|phone_number|backup_codes)": ?\[?("[^"]{5,}")`)

// keepPrivate remembers what is private in what is sent.
func (w *world) keepPrivate(body []byte) {
	for _, m := range privateData.FindAllSubmatch(body, -1) {
		var s string
		if err := json.Unmarshal(m[2], &s); err == nil {
			w.private.Store(s, string(m[1]))
		}
	}
}

// until waits for cond, for as long as the world has patience.
func (w *world) until(what string, cond func() bool) {
	w.t.Helper()
	until(w.t, what, w.patience, cond)
}

func until(t *testing.T, what string, patience time.Duration, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !cond(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("timed out: %s", what)
		}
	}
}

// post delivers a webhook once, signed now, and returns the status; 0 if nobody answers.
func (w *world) post(hook testenv.Webhook) (int, http.Header) {
	w.keepPrivate(hook.Body)
	req := testenv.Signed(w.t, w.url+"/webhooks/clerk", testenv.Secret, hook.ID, time.Now(), hook.Body)
	res, err := (&http.Client{Timeout: 15 * time.Second}).Do(req) // Clerk's patience
	if err != nil {
		return 0, nil
	}
	_, _ = io.Copy(w.log, res.Body)
	_ = res.Body.Close()
	return res.StatusCode, res.Header
}

// deliver posts a webhook until it is accepted, as Svix does.
func (w *world) deliver(hook testenv.Webhook) {
	w.t.Helper()
	w.until("webhook "+hook.ID+" is accepted", func() bool {
		code, _ := w.post(hook)
		return code == http.StatusAccepted
	})
}

// invoke makes Inngest run one of the functions now.
func (w *world) invoke(fnID string) {
	w.t.Helper()
	res, err := http.Post(fmt.Sprintf("http://127.0.0.1:%d/invoke/clerksync-%s", w.port, fnID), "application/json", strings.NewReader(`{"data":{}}`))
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		w.t.Fatalf("invoke %s: %s", fnID, res.Status)
	}
}

// drained waits until the inbox is empty: every event has been written.
func (w *world) drained() {
	w.t.Helper()
	w.until("the inbox is empty", func() bool {
		n, err := w.store.Collection("clerksync_inbox").CountDocuments(w.t.Context(), struct{}{})
		return err == nil && n == 0
	})
}

// row returns the row, or nil.
func (w *world) row(id string) *store.Row {
	w.t.Helper()
	r, err := w.users.Get(w.t.Context(), id)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return &r
}

// hostPort returns the address in the URI of a database.
func hostPort(t *testing.T, uri string) string {
	t.Helper()
	u, err := url.Parse(uri)
	if err != nil || u.Port() == "" {
		t.Fatalf("%s: want mongodb://HOST:PORT", testenv.MongoURI)
	}
	return u.Host
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
