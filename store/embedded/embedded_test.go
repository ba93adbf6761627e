//go:build !noembedded

package embedded

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

const anyPort = "127.0.0.1:0"

func TestStartRefuses(t *testing.T) {
	taken, err := net.Listen("tcp", anyPort)
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	tests := map[string]struct {
		ctx      context.Context
		dir      string
		files    map[string]string
		addr     string
		want     string
		wantGone bool // nothing was made
	}{
		"all addresses of the machine": {addr: ":0", want: `cannot listen on ":0": use 127.0.0.1:PORT`, wantGone: true},
		"an address of the network":    {addr: "0.0.0.0:0", want: "no authentication", wantGone: true},
		"a host name":                  {addr: "example.com:27017", want: "no authentication", wantGone: true},
		"an address without a port":    {addr: "127.0.0.1", want: "use 127.0.0.1:PORT", wantGone: true},
		"a port that is taken": {
			addr: taken.Addr().String(), want: "it cannot listen: listen tcp " + taken.Addr().String(),
		},
		"no folder": {dir: "-", addr: anyPort, want: "needs a folder: embedded:DIR", wantGone: true},
		"a file instead of a folder": {
			dir: "data/file", files: map[string]string{"file": ""}, addr: anyPort, want: "make the data folder",
		},
		"somebody else's SQLite file": {
			files: map[string]string{"other.sqlite": ""}, addr: anyPort, want: "open the database in the folder ",
		},
		"a file that cannot be written": { // this one not even by root
			files: map[string]string{"clerksync.sqlite/file": ""}, addr: anyPort, want: "open the database: open /",
		},
		"a broken SQLite file": {
			files: map[string]string{"other.sqlite": strings.Repeat("x", 9999)}, addr: anyPort,
			want: "file is not a database",
		},
		"a canceled start": {ctx: canceled, addr: anyPort, want: "canceled"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			data := filepath.Join(t.TempDir(), "data")
			for file, content := range tt.files {
				write(t, filepath.Join(data, file), content)
			}
			ctx, dir := t.Context(), data
			if tt.ctx != nil {
				ctx = tt.ctx
			}
			if tt.dir != "" {
				dir = strings.Replace(tt.dir, "data", data, 1)
			}
			s, err := Start(ctx, strings.TrimPrefix(dir, "-"), tt.addr, slog.New(slog.DiscardHandler))
			if err == nil {
				t.Fatal("Start succeeded", s.Close())
			}
			if got := err.Error(); !strings.Contains(got, tt.want) || strings.Contains(got, "\n") {
				t.Errorf("got error %q, want one line with %q", got, tt.want)
			}
			if _, err := os.Stat(data); tt.wantGone && !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the folder was made: %v", err)
			}
			for range 3 {
				runtime.GC() // runs the finalizers with which FerretDB panics if anything of it was left
			}
			if tt.wantGone || tt.files != nil {
				return
			}
			start(t, data) // the folder is free
		})
	}
}

func TestFolderHasOneServer(t *testing.T) {
	t.Chdir(t.TempDir())
	s := start(t, "data")
	_, err := Start(t.Context(), "./data", anyPort, slog.New(slog.DiscardHandler))
	if !errors.Is(err, ErrLocked) {
		t.Fatalf("got %v, want ErrLocked", err)
	}
	want := "the folder ./data is in use by another clerksync: stop it, or give this one another folder"
	if got := err.Error(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	start(t, "data")
}

func TestAnyFolderName(t *testing.T) {
	names := map[string]string{
		"plain":                "plain",
		"missing parents":      "a/b/c",
		"a space":              "a space",
		"umlauts":              "Öffentliche Säle",
		"a question mark":      "what?mode=memory",
		"a percent sign":       "100%",
		"an escape":            "a%20b%3F",
		"a number sign":        "#1",
		"brackets":             "data[1]",
		"a star":               "a*b",
		"a backslash":          `a\b`,
		"a plus and ampersand": "a+b&c=d",
		"quotes":               `it's "data"`,
		"a colon":              "a:b",
	}
	for name, dir := range names {
		t.Run(name, func(t *testing.T) {
			if runtime.GOOS != "linux" && strings.ContainsAny(dir, `*?[\%#`) {
				t.Skip("Linux only")
			}
			t.Chdir(t.TempDir())
			write(t, "axb/other.sqlite", "must not be found as a*b")
			s := start(t, dir)
			if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
				t.Errorf("got %v %v, want a folder only we can read", info, err)
			}
			rows := connect(t, s)
			insert(t, rows, "1")
			if err := s.IndexIDs(t.Context(), "db"); err != nil {
				t.Error(err)
			}
			disconnect(t, rows)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = start(t, dir)
			rows = connect(t, s)
			insert(t, rows, "2")
			if got, want := ids(t, rows), []string{"1", "2"}; !cmp.Equal(got, want) {
				t.Errorf("got rows %v after a restart, want %v", got, want)
			}
			disconnect(t, rows)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if got, want := entries(t, dir), []string{"clerksync.lock", "clerksync.uri", "db.sqlite"}; !cmp.Equal(got,
				want) {
				t.Errorf("got files %v, want %v", got, want)
			}
			top, _, _ := strings.Cut(dir, "/")
			if got, want := entries(t, "."), slices.Sorted(slices.Values([]string{top, "axb"})); !cmp.Equal(got, want) {
				t.Errorf("got %v beside the folder, want %v", got, want)
			}
		})
	}
}

func TestContextBoundsTheStartOnly(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s, err := Start(ctx, t.TempDir(), anyPort, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	rows := connect(t, s)
	insert(t, rows, "1")
	disconnect(t, rows)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestConcurrentServers(t *testing.T) {
	var servers sync.WaitGroup
	for range 4 {
		dir := t.TempDir()
		servers.Go(func() {
			s, err := Start(t.Context(), dir, anyPort, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Error(err)
				return
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	servers.Wait()
}

func TestCloseEndsGoroutines(t *testing.T) {
	var took time.Duration
	for range 5 { // a machine that stands still for a while makes one of them slow
		s := start(t, t.TempDir())
		rows := connect(t, s)
		insert(t, rows, "1")
		if stacks := ferretStacks(); stacks == "" {
			t.Fatal("the test does not see FerretDB's goroutines")
		}
		disconnect(t, rows)
		begin := time.Now()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		took = time.Since(begin)
		if !eventually(func() bool { return ferretStacks() == "" }) {
			t.Errorf("still running after Close:\n%s", ferretStacks())
		}
		if took < 2*time.Second {
			return
		}
	}
	t.Errorf("Close took %v though no client was connected", took)
}

func TestIndexIDs(t *testing.T) {
	s := start(t, t.TempDir())
	rows := connect(t, s)
	insert(t, rows, "1")
	odd := rows.Database().Collection("Odd; [na'me]")
	insert(t, odd, "1")
	for _, want := range []string{"SCAN", "USING INDEX", "USING INDEX"} {
		for _, coll := range []*mongo.Collection{rows, odd} {
			got, err := explain(t, coll)
			if err != nil || !strings.Contains(got, want) {
				t.Errorf("FerretDB finds an _id of %s with %q %v, want %s", coll.Name(), got, err, want)
			}
		}
		for name, got := range plans(t, s) {
			if !strings.Contains(got, want) {
				t.Errorf("%s by _id: got plan %q, want %s", name, got, want)
			}
		}
		if err := s.IndexIDs(t.Context(), "db"); err != nil {
			t.Fatal(err)
		}
	}
	insert(t, rows, "2")
	if _, err := rows.UpdateOne(t.Context(), bson.M{"_id": "2"}, bson.M{"$set": bson.M{"n": 1}}); err != nil {
		t.Error(err)
	}
	if _, err := rows.DeleteOne(t.Context(), bson.M{"_id": "1"}); err != nil {
		t.Error(err)
	}
	if got, want := ids(t, rows), []string{"2"}; !cmp.Equal(got, want) {
		t.Errorf("got rows %v, want %v", got, want)
	}
	if _, err := rows.InsertOne(t.Context(), bson.M{"_id": "2"}); !mongo.IsDuplicateKeyError(err) {
		t.Errorf("got %v, want a duplicate key error", err)
	}
	if err := s.IndexIDs(t.Context(), "missing"); err == nil || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v for a missing database, want an error of one line", err)
	}
}

// TestIDs: the ids come in their order, and with them what the rows have at a path, if that is a text.
func TestIDs(t *testing.T) {
	s := start(t, t.TempDir())
	rows := connect(t, s)
	for _, d := range []bson.M{
		{"_id": "a"},
		{"_id": "b", "k": bson.M{"v": "text"}},
		{"_id": "c", "k": bson.M{"v": 7}},
		{"_id": "d", "k": "x"},
		{"_id": "e\"", "k": bson.M{"v": "\"'"}},
		{"_id": "f"},
	} {
		if _, err := rows.InsertOne(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.IndexIDs(t.Context(), "db"); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string][]string{
		"k.v": {"text", "", "", "\"'"}, "k": {"", "", "x", ""},
		"": {"", "", "", ""}, "none.at.all": {"", "", "", ""},
	} {
		ids, texts, err := s.IDs(t.Context(), "db", rows.Name(), path, "a", "f", 10)
		if d := cmp.Diff([][]string{{"b", "c", "d", "e\""}, want}, [][]string{ids, texts}); d != "" || err != nil {
			t.Errorf("%q: %v (-want +got):\n%s", path, err, d)
		}
	}
}

func TestLogHasNoDocuments(t *testing.T) {
	const secret = "jane.doe@example.com"
	var log buffer
	s, err := Start(t.Context(), t.TempDir(), anyPort, slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{
		Level: slog.LevelDebug,
	})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	rows := connect(t, s)
	_, err = rows.InsertOne(t.Context(), bson.M{"_id": secret, "email": secret})
	if err != nil {
		t.Fatal(err)
	}
	_, err = rows.UpdateOne(t.Context(), bson.M{"_id": secret}, bson.M{"$inc": bson.M{"email": 1}})
	if err == nil || !strings.Contains(err.Error(), secret) {
		t.Errorf("got %v, want an error that quotes the row", err)
	}
	if got := log.String(); got != "" {
		t.Errorf("an error that the client got was logged: %s", got)
	}
	conn, err := net.Dial("tcp", strings.Trim(strings.TrimPrefix(s.URI(), "mongodb:"), "/"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintln(conn, secret, "in what is not a message")
	_, _ = io.ReadAll(conn) // FerretDB hangs up, and then warns
	want := `"level":"WARN","msg":"embedded database warned","at":"clientconn.acceptLoop`
	if !eventually(func() bool {
		return strings.Contains(log.String(), want)
	}) || strings.Contains(log.String(), secret) {
		t.Errorf("got log %q, want %s without the e-mail address", log.String(), want)
	}
}

// TestHungUpIsNoWarning: a client that had given up while FerretDB answered was in the log, as if something were wrong.
func TestHungUpIsNoWarning(t *testing.T) {
	t.Parallel()
	for cause, want := range map[string]bool{
		"write tcp 127.0.0.1:1->127.0.0.1:2: write: broken pipe":            false,
		"read tcp 127.0.0.1:1->127.0.0.1:2: read: connection reset by peer": false,
		"something else": true,
	} {
		var log bytes.Buffer
		slog.New(warnings{slog.NewTextHandler(&log, nil)}).Warn("Connection stopped", "error", cause)
		if got := log.Len() > 0; got != want {
			t.Errorf("%s: logged %v, want %v", cause, got, want)
		}
	}
}

// TestKill kills a process that writes, in which every way a library learns about a place for its files leads to an
// empty folder.
func TestKill(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Dir = outside
	cmd.Env = []string{"EMBEDDED_HELPER_DIR=" + dir}
	for _, name := range []string{
		"HOME", "TMPDIR", "SQLITE_TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME",
		"XDG_DATA_HOME", "XDG_STATE_HOME",
	} {
		cmd.Env = append(cmd.Env, name+"="+outside)
	}
	cmd.Stderr = t.Output()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var acknowledged []string
	for lines := bufio.NewScanner(out); lines.Scan(); {
		acknowledged = append(acknowledged, lines.Text())
		if len(acknowledged) != 300 {
			continue
		}
		_, err := Start(t.Context(), dir, anyPort, slog.New(slog.DiscardHandler))
		if !errors.Is(err, ErrLocked) {
			t.Errorf("got %v while the other process runs, want ErrLocked", err)
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	_ = cmd.Wait() // "signal: killed"
	if len(acknowledged) < 300 {
		t.Fatalf("the process ended after %d rows: %v", len(acknowledged), cmd.ProcessState)
	}
	kept := map[string]bool{}
	for _, id := range ids(t, connect(t, start(t, dir))) {
		kept[id] = true
	}
	for _, id := range acknowledged {
		if !kept[id] {
			t.Errorf("the acknowledged row %s is lost", id)
		}
	}
	if got := entries(t, outside); got != nil {
		t.Errorf("got files %v outside the folder", got)
	}
}

func TestMain(m *testing.M) {
	if dir := os.Getenv("EMBEDDED_HELPER_DIR"); dir != "" {
		fmt.Fprintln(os.Stderr, writeUntilKilled(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// writeUntilKilled prints the id of each row after the write was acknowledged.
func writeUntilKilled(dir string) error {
	ctx := context.Background()
	s, err := Start(ctx, dir, anyPort, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	client, err := mongo.Connect(options.Client().ApplyURI(s.URI()))
	if err != nil {
		return err
	}
	for i := 0; ; i++ {
		id := fmt.Sprint(i)
		if _, err := client.Database("db").Collection("rows").InsertOne(ctx, bson.M{"_id": id}); err != nil {
			return err
		}
		fmt.Println(id)
	}
}

func start(t *testing.T, dir string) *Server {
	t.Helper()
	s, err := Start(t.Context(), dir, anyPort, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// connect returns a collection of a client that is disconnected before s is closed by start.
func connect(t *testing.T, s *Server) *mongo.Collection {
	t.Helper()
	client, err := mongo.Connect(options.Client().ApplyURI(s.URI()).SetTimeout(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Disconnect(context.WithoutCancel(t.Context())) })
	return client.Database("db").Collection("rows")
}

func disconnect(t *testing.T, rows *mongo.Collection) {
	t.Helper()
	if err := rows.Database().Client().Disconnect(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func insert(t *testing.T, rows *mongo.Collection, id string) {
	t.Helper()
	if _, err := rows.InsertOne(t.Context(), bson.M{"_id": id}); err != nil {
		t.Fatal(err)
	}
}

// ids returns the ids of all rows in the order they were inserted in.
func ids(t *testing.T, rows *mongo.Collection) []string {
	t.Helper()
	cursor, err := rows.Find(t.Context(), bson.M{})
	if err != nil {
		t.Fatal(err)
	}
	var found []struct {
		ID string `bson:"_id"`
	}
	if err := cursor.All(t.Context(), &found); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, row := range found {
		got = append(got, row.ID)
	}
	return got
}

// explain returns FerretDB's own plan for finding an _id, after finding one: to explain does not make a connection of
// SQLite look for new indexes, to read does.
func explain(t *testing.T, coll *mongo.Collection) (string, error) {
	t.Helper()
	if err := coll.FindOne(t.Context(), bson.M{"_id": "1"}).Err(); err != nil {
		return "", err
	}
	find := bson.D{{Key: "find", Value: coll.Name()}, {Key: "filter", Value: bson.M{"_id": "1"}}}
	raw, err := coll.Database().RunCommand(t.Context(), bson.D{{Key: "explain", Value: find}}).Raw()
	return raw.Lookup("queryPlanner").String(), err
}

// plans returns SQLite's plans for the statements with which FerretDB v1.24.2 reaches rows by _id: Query, UpdateAll and
// DeleteAll in its internal/backends/sqlite/collection.go.
func plans(t *testing.T, s *Server) map[string]string {
	t.Helper()
	db, err := sql.Open("sqlite", s.folder.file("db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var table string
	if err := db.QueryRowContext(t.Context(),
		`SELECT table_name FROM _ferretdb_collections WHERE name = 'rows'`).Scan(&table); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for name, statement := range map[string]string{
		"find":   `SELECT  _ferretdb_sjson FROM %q WHERE _ferretdb_sjson->'$._id' = ?`,
		"update": `UPDATE %q SET _ferretdb_sjson = '{}' WHERE _ferretdb_sjson->'$._id' = ?`,
		"delete": `DELETE FROM %q WHERE _ferretdb_sjson->'$._id' IN (?)`,
	} {
		var id, parent, unused int
		var detail string
		row := db.QueryRowContext(t.Context(), "EXPLAIN QUERY PLAN "+fmt.Sprintf(statement, table), `"1"`)
		if err := row.Scan(&id, &parent, &unused, &detail); err != nil {
			t.Fatal(err)
		}
		got[name] = detail
	}
	return got
}

// ferretStacks returns the goroutines that are in FerretDB's code, or that it made.
func ferretStacks() string {
	buf := make([]byte, 1<<20)
	var found []string
	for stack := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if strings.Contains(stack, "/FerretDB/") || strings.Contains(stack, "database/sql.") {
			found = append(found, stack)
		}
	}
	return strings.Join(found, "\n\n")
}

// eventually reports whether done becomes true in good time.
func eventually(done func() bool) bool {
	deadline := time.Now().Add(time.Minute)
	for !done() && time.Now().Before(deadline) {
		<-time.After(5 * time.Millisecond)
	}
	return done()
}

func write(t *testing.T, file, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func entries(t *testing.T, dir string) []string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range list {
		names = append(names, entry.Name())
	}
	return names
}

// buffer is a bytes.Buffer for several goroutines.
type buffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
