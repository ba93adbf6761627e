// Package e2e_test runs the built binary, a real Inngest server and a database, each in a process of its own. The files
// are named after the fault that their tests provoke.
package e2e_test

import (
	"cmp"
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
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"clerksync/internal/child"
	"clerksync/internal/inngestserver"
	"clerksync/internal/testenv"
	"clerksync/internal/testenv/inngesttest"
	"clerksync/store"
	"clerksync/store/database"
	"clerksync/store/embedded"
)

// programs are what the tests run.
var programs struct {
	clerksync string
	inngest   inngestserver.Command
}

// databaseEnv makes the test binary serve the embedded database of a folder at an address, "ADDR NAME DIR", so that it
// can be killed.
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
	if err := os.Setenv("TMPDIR", dir); err != nil { // all that tests and their processes write is in there
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-interrupted
		_ = os.RemoveAll(dir)
		os.Exit(1) // which ends the processes, see child
	}()
	if err := build(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	// Most of what the tests do is to wait for Inngest, so more of them fit beside each other than there are cores.
	parallel := true
	flag.Visit(func(f *flag.Flag) { parallel = parallel && f.Name != "test.parallel" })
	if parallel {
		if err := flag.Set("test.parallel", "4"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return m.Run()
}

// build builds the program, and finds the Inngest server.
func build(dir string) error {
	if flag.Parse(); testing.Short() {
		return nil
	}
	var err error
	if programs.inngest, err = inngesttest.Find(context.Background(), ""); err != nil {
		return err
	}
	programs.clerksync = filepath.Join(dir, "clerksync")
	args := []string{"build", "-o", programs.clerksync, "../cmd/clerksync"}
	if testenv.Race { // which writes what it finds to the log
		args = slices.Insert(args, 1, "-race")
	}
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("build clerksync: %w\n%s", err, out)
	}
	return nil
}

func serveDatabase(s string) error {
	addr, s, _ := strings.Cut(s, " ")
	name, dir, _ := strings.Cut(s, " ")
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	srv, err := embedded.Start(ctx, dir, addr, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	db, err := database.Connect(ctx, srv.URI(), name)
	if err != nil {
		return err
	}
	// As the service's own embedded database has it: without the indexes every lookup of an event would read all of
	// them.
	if err := errors.Join(testenv.MakeCollections(ctx, db), srv.IndexIDs(ctx, name), db.Close(ctx)); err != nil {
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
	name    string // of the database
	db      *child.Process
	port    int // of Inngest
	inngest *inngestserver.Server
	service *child.Process
	env     []string
	dir     string   // where the service and the commands run
	url     string   // of the service
	log     *logFile // what the service and the commands beside it wrote, and what they answered
	private sync.Map // addresses and numbers of users, which nothing may write
	store   *database.DB
	users   *store.Users
	app     testenv.App
	outages atomic.Int64 // begun and ended: odd while no webhook can be taken, see stack.outage

	dbProxy, inngestProxy *testenv.Proxy // see options
}

// logFile is what the service wrote.
type logFile struct{ testenv.Output }

func (l *logFile) count(s string) int { return strings.Count(l.String(), s) }

// The keys that the service has. The dev server takes any.
const (
	eventKey   = "e2e-event-key"
	signingKey = "signkey-test-0e2e0e2e0e2e"
)

// options is what a test needs of its world.
type options struct {
	uri         string // of the database, whatever MONGODB_TEST_URI names
	ownDatabase bool   // the database is a process of ours, to be killed, whatever MONGODB_TEST_URI names
	proxies     bool   // the service reaches the database and Inngest through proxies
	env         []string
	app         testenv.App // if not set, the one with the map that is used without a file
	dir         string      // where the service and the commands run; "" is this folder
	later       bool        // the test starts the service
}

// endToEnd leaves the test out by -short, and lets the go command know what it depends on besides what this package
// imports: the sources of the binary, and which Inngest server it is. Otherwise an old result would be taken for a new
// one.
func endToEnd(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("e2e is left out by -short")
	}
	for _, dir := range []string{"../cmd/clerksync", "../inngest", "../webhook"} {
		if _, err := os.ReadDir(dir); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{inngesttest.Env, "INNGEST_CLI"} {
		os.Getenv(name)
	}
}

// manyEvents is for a test that sends more than Inngest can run in the usual time: what only waits its turn is not sent
// again.
const manyEvents = "INBOX_RESEND_AFTER=5s"

// newWorld starts everything. The database is what MONGODB_TEST_URI names, or a process of ours if that is not set.
func newWorld(t *testing.T, o options) *world {
	w := bareWorld(t, o)
	if uri := cmp.Or(o.uri, os.Getenv(testenv.MongoURI)); uri != "" && !o.ownDatabase {
		w.uri = uri
	} else {
		w.dbAddr = fmt.Sprintf("127.0.0.1:%d", testenv.FreePort(t))
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
	port := testenv.FreePort(t)
	w.url = fmt.Sprintf("http://127.0.0.1:%d", port)
	w.setEnv(serviceURI, append([]string{fmt.Sprint("PORT=", port), "INNGEST_DEV=http://" + inngestAddr}, o.env...))
	w.openDatabase()
	if !o.later {
		w.startService()
	}
	t.Cleanup(func() {
		kill(w.service)
		w.checkPrivate()
	})
	return w
}

// bareWorld returns a world in which nothing runs yet.
func bareWorld(t *testing.T, o options) *world {
	endToEnd(t)
	if o.app.Map == nil {
		o.app = testenv.DefaultApp()
	}
	w := &world{t: t, port: testenv.FreePort(t), log: &logFile{}, dbDir: t.TempDir(), app: o.app, dir: o.dir}
	w.name = fmt.Sprintf("e2e_%d", time.Now().UnixNano())
	return w
}

// setEnv sets the environment of the service, with the URI at which it reaches the database.
func (w *world) setEnv(uri string, more []string) {
	w.env = append([]string{
		"HOST=127.0.0.1", "CLERK_WEBHOOK_SIGNING_SECRET=" + testenv.Secret, "MONGODB_URI=" + uri,
		"MONGODB_DATABASE=" + w.name, "INBOX_RESEND_AFTER=2s", "LOG_LEVEL=debug", "INNGEST_EVENT_KEY=" + eventKey,
	}, more...)
}

// openDatabase connects the test with the database, and makes what the app has in it.
func (w *world) openDatabase() {
	w.t.Helper()
	w.store = testenv.Connect(w.t, w.uri, w.name)
	w.prepareApp()
	w.users = store.NewUsers(w.store, w.app.Map)
}

// prepareApp gives the service the map of the app, and the app its collection.
func (w *world) prepareApp() {
	w.t.Helper()
	if w.app.File == "" {
		return
	}
	file := filepath.Join(w.t.TempDir(), "clerksync.yaml")
	if err := os.WriteFile(file, []byte(w.app.File), 0o600); err != nil {
		w.t.Fatal(err)
	}
	w.env = append(w.env, "CLERKSYNC_MAP="+file)
	w.app.Prepare(w.t, w.store)
}

func (w *world) startDatabase() {
	w.t.Helper()
	self, err := os.Executable()
	if err != nil {
		w.t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), databaseEnv+"="+w.dbAddr+" "+w.name+" "+w.dbDir)
	cmd.Stderr = os.Stderr
	if w.db, err = child.Start(cmd); err != nil {
		w.t.Fatal(err)
	}
	w.until("the database listens", func() bool {
		c, err := net.Dial("tcp", w.dbAddr)
		return err == nil && c.Close() == nil
	})
}

func (w *world) startInngest() {
	w.t.Helper()
	c := inngestserver.Config{Port: w.port, Tick: 20 * time.Millisecond, RetryInterval: time.Second}
	if w.app.UniqueEmail {
		// A row may have to wait until another user gives an address up. If Inngest loses that user's event twice, it
		// takes 35 seconds until the inbox sends it again, and 20 retries must not be over before that. In production
		// they take a day.
		c.RetryInterval = 5 * time.Second
	}
	for tries := 1; ; tries++ { // its other ports are any free ones, and may be taken before it listens on them
		var err error
		if w.inngest, err = inngestserver.Start(w.t.Context(), programs.inngest, c); err == nil {
			return
		}
		if tries == 3 {
			w.t.Fatal(err)
		}
	}
}

func (w *world) inngestURL() string { return fmt.Sprintf("http://127.0.0.1:%d", w.port) }

// startService starts the service and waits until Inngest knows its functions.
func (w *world) startService() {
	w.t.Helper()
	const known = "registered the functions"
	before := w.log.count(known)
	var err error
	if w.service, err = child.Start(w.newService()); err != nil {
		w.t.Fatal(err)
	}
	w.until("the functions are registered", func() bool { return w.log.count(known) > before })
}

// newService returns a service that is not started yet.
func (w *world) newService() *exec.Cmd {
	cmd := exec.Command(programs.clerksync, "serve")
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = w.dir, w.env, w.log, w.log
	return cmd
}

func kill(p *child.Process) {
	if p != nil {
		_ = p.Kill() // it may have ended
	}
}

// checkPrivate looks for what nothing may write: panics and races, secrets, and every address and number of a user that
// went through.
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
	for _, s := range []string{"Lovelace", "panic", "DATA RACE"} {
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

// patience is how long a test waits for what takes seconds on a machine that has nothing else to do.
const patience = 10 * time.Minute

// until waits for cond.
func (w *world) until(what string, cond func() bool) {
	w.t.Helper()
	until(w.t, what, patience, cond)
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
	res, err := http.Post(w.inngestURL()+"/invoke/clerksync-"+fnID, "application/json",
		strings.NewReader(`{"data":{}}`))
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
	w.until("the inbox is empty", func() bool { return w.count("clerksync_inbox", struct{}{}) == 0 })
}

// count returns how many documents of a collection match a filter; -1 if the database does not answer.
func (w *world) count(collection string, filter any) int64 {
	n, err := w.store.Collection(collection).CountDocuments(w.t.Context(), filter)
	if err != nil {
		return -1
	}
	return n
}

// row returns the row, or nil.
func (w *world) row(id string) testenv.Doc {
	w.t.Helper()
	d, err := w.app.Find(w.t.Context(), w.store, id)
	if err != nil {
		w.t.Fatal(err)
	}
	return d
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

func (w *world) get(path string) (int, string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.url+path, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	_, _ = w.log.Write(b) // never fails
	return res.StatusCode, string(b)
}

// command runs clerksync beside the service and returns what it prints.
func (w *world) command(args ...string) string {
	w.t.Helper()
	cmd := exec.CommandContext(w.t.Context(), programs.clerksync, args...)
	cmd.Dir, cmd.Env = w.dir, w.env
	out, err := cmd.CombinedOutput()
	if err != nil {
		w.t.Fatalf("clerksync %v: %v\n%s", args, err, out)
	}
	_, _ = w.log.Write(out) // never fails
	return string(out)
}
