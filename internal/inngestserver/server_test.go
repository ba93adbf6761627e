package inngestserver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// patience is how long a test waits for a process: much longer than it takes, for the machine may be busy.
const patience = 2 * time.Minute

// TestMain makes the test program a fake server when it is run as one.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "dev" {
		if err := fakeServer(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// about is what a fake server tells of itself.
type about struct {
	Args, Env []string
	Config    string
}

// fakeServer does what its name says: fake gave it one.
func fakeServer() error {
	addr, err := os.ReadFile(filepath.Join(filepath.Dir(os.Args[0]), "watcher"))
	if err != nil {
		return err
	}
	conn, err := net.Dial("tcp", string(addr))
	if err != nil {
		return err
	}
	defer conn.Close() // at the latest
	switch filepath.Base(os.Args[0]) {
	case "dies":
		return fmt.Errorf("%s\nlisten tcp: no luck", strings.Repeat("x", 2*tailSize))
	case "ends":
		return nil
	case "mute":
		_, err := io.Copy(io.Discard, conn)
		return err
	}
	http.HandleFunc("GET /health", func(http.ResponseWriter, *http.Request) {})
	http.HandleFunc("GET /about", func(w http.ResponseWriter, _ *http.Request) {
		config, _ := os.ReadFile("inngest.json")
		_ = json.NewEncoder(w).Encode(about{Args: os.Args[1:], Env: os.Environ(), Config: string(config)})
	})
	fmt.Println("hello")
	port := os.Args[slices.Index(os.Args, "--port")+1]
	return http.ListenAndServe("127.0.0.1:"+port, nil)
}

// fake returns a fake server. The function returned with it waits until so many processes of it have started, and
// returns one that fails the test if one of them does not end.
func fake(t *testing.T, name string) (c Command, processes func(n int) (gone func())) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("symbolic links need privileges")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write(t, filepath.Join(dir, "watcher"), l.Addr().String())
	for _, kind := range []string{"works", "dies", "ends", "mute"} {
		if err := os.Symlink(self, filepath.Join(dir, kind)); err != nil {
			t.Fatal(err)
		}
	}
	processes = func(n int) func() {
		t.Helper()
		_ = l.(*net.TCPListener).SetDeadline(time.Now().Add(patience))
		var conns []net.Conn
		for range n {
			conn, err := l.Accept()
			if err != nil {
				t.Fatalf("a process has not started: %v", err)
			}
			t.Cleanup(func() { _ = conn.Close() })
			conns = append(conns, conn)
		}
		return func() {
			t.Helper()
			for _, conn := range conns {
				_ = conn.SetReadDeadline(time.Now().Add(patience))
				if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
					t.Error("a process has not ended")
				}
			}
		}
	}
	return Command{Path: filepath.Join(dir, name), env: []string{"MARK=1"}}, processes
}

// start starts a server that is killed at the end of the test.
func start(t *testing.T, c Command, cfg Config) *Server {
	t.Helper()
	s, err := Start(t.Context(), c, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Kill() })
	return s
}

// get returns the body of the answer.
func get(t *testing.T, url string) []byte {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s, %v", url, resp.Status, err)
	}
	return body
}

func TestStartGivesAFreshSurrounding(t *testing.T) {
	t.Setenv("INNGEST_DEV", "1")
	c, _ := fake(t, "works")
	s := start(t, c, Config{Tick: 20 * time.Millisecond, RetryInterval: time.Second})
	var got about
	if err := json.Unmarshal(get(t, s.URL()+"/about"), &got); err != nil {
		t.Fatal(err)
	}
	port := s.URL()[strings.LastIndexByte(s.URL(), ':')+1:]
	ports := map[string]bool{port: true}
	free := func(port *string) {
		ports[*port] = true
		*port = "FREE"
	}
	free(&got.Args[slices.Index(got.Args, "--connect-gateway-port")+1])
	for i := range got.Env {
		if name, port, ok := strings.Cut(got.Env[i], "_GRPC_PORT="); ok {
			free(&port)
			got.Env[i] = name + "_GRPC_PORT=" + port
		}
	}
	if len(ports) != 4 {
		t.Errorf("got the ports %v, want four of its own", ports)
	}
	want := about{
		Args: []string{
			"dev", "--no-discovery", "--no-poll", "--host", "127.0.0.1", "--port", port,
			"--connect-gateway-port", "FREE", "-l", "warn", "--tick", "20", "--retry-interval", "1",
		},
		Env:    []string{"MARK=1", "INNGEST_CONNECT_GATEWAY_GRPC_PORT=FREE", "INNGEST_CONNECT_EXECUTOR_GRPC_PORT=FREE"},
		Config: "{}",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(s.dir); !os.IsNotExist(err) {
		t.Errorf("the server's directory: got %v, want it gone", err)
	}
}

func TestStartPassesOutputOn(t *testing.T) {
	c, _ := fake(t, "works")
	var out bytes.Buffer
	s := start(t, c, Config{Output: &out})
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if got, want := out.String(), "hello\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestStartFails(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := taken.Addr().(*net.TCPAddr).Port
	tests := map[string]struct {
		fake string
		port int
		want string // in the error
	}{
		"on a taken port": {
			fake: "works", port: port,
			want: fmt.Sprintf("on port %[1]d: listen tcp 127.0.0.1:%[1]d: bind: address already in use", port),
		},
		"with what it wrote last if it ends": {fake: "dies", want: "it ended: exit status 1\nxxx"},
		"with the end of what it wrote":      {fake: "dies", want: "xxx\nlisten tcp: no luck"},
		"even if it ends well":               {fake: "ends", want: "it ended: exit status 0"},
		"if it is not a program":             {fake: "watcher", want: "exec format error"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			c, _ := fake(t, tc.fake)
			_, err := Start(t.Context(), c, Config{Port: tc.port})
			if !strings.Contains(text(err), tc.want) {
				t.Errorf("got error %q, want one with %q", text(err), tc.want)
			}
			if len(text(err)) > tailSize+100 {
				t.Errorf("the error has %d bytes", len(text(err)))
			}
		})
	}
}

func TestStartEndsWithItsContext(t *testing.T) {
	c, processes := fake(t, "mute")
	enough := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	failed := make(chan error)
	go func() {
		_, err := Start(ctx, c, Config{})
		failed <- err
	}()
	gone := processes(1)
	cancel(enough)
	if err := <-failed; !errors.Is(err, enough) {
		t.Errorf("got %v, want %v", err, enough)
	}
	gone()
}

// TestRealServer runs the servers that are built, two of each beside each other: they share no port.
func TestRealServer(t *testing.T) {
	for _, version := range []string{Version, OldVersion} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			c, err := Built(version, Options{Environ: os.Environ()})
			if err != nil {
				t.Skip(err)
			}
			s := start(t, c, Config{Tick: 20 * time.Millisecond, RetryInterval: time.Second, Output: t.Output()})
			beside := start(t, c, Config{Output: t.Output()})
			get(t, s.URL()+"/dev")
			get(t, beside.URL()+"/dev")
			if err := s.Stop(); err != nil {
				t.Fatal(err)
			}
			port, err := strconv.Atoi(s.URL()[strings.LastIndexByte(s.URL(), ':')+1:])
			if err != nil {
				t.Fatal(err)
			}
			again := start(t, c, Config{Port: port, Output: t.Output()})
			if got, want := again.URL(), s.URL(); got != want {
				t.Errorf("on a given port: got %s, want %s", got, want)
			}
			get(t, beside.URL()+"/dev")
		})
	}
}
