package inngestserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	startLimit  = 30 * time.Second // a start takes 0.2 s
	stopLimit   = 5 * time.Second  // 'dev' ends at once
	pollHealth  = 20 * time.Millisecond
	healthLimit = 2 * time.Second
	tailSize    = 4 << 10
)

// Config is how a server runs.
type Config struct {
	Port          int           // of 127.0.0.1; 0 is any free one
	Tick          time.Duration // how often it looks at its queue, in whole milliseconds; 0 is the server's default
	RetryInterval time.Duration // between the attempts of a run, in whole seconds; 0 is the server's default, which grows
	Output        io.Writer     // gets what it logs, which is warnings and errors; may be nil
}

// flags returns the command line. Without -l warn the server logs the data of every event.
func (c Config) flags(port, gateway int) []string {
	f := []string{
		"dev", "--no-discovery", "--no-poll", "--host", "127.0.0.1", "--port", strconv.Itoa(port),
		"--connect-gateway-port", strconv.Itoa(gateway), "-l", "warn",
	}
	if c.Tick > 0 {
		f = append(f, "--tick", strconv.FormatInt(c.Tick.Milliseconds(), 10))
	}
	if c.RetryInterval > 0 {
		f = append(f, "--retry-interval", strconv.Itoa(int(c.RetryInterval.Seconds())))
	}
	return f
}

// Server is a running Inngest dev server. Its methods are safe for concurrent use.
type Server struct {
	url  string
	cmd  *exec.Cmd
	dir  string        // its working directory
	out  *output       // what it writes
	done chan struct{} // closed when it has ended
}

// Start starts a server with nothing in it and returns when it answers; ctx bounds only the start. It returns an error if the port is
// taken or if the server ends or does not answer in 30 s; the error then has what it wrote last.
func Start(ctx context.Context, c Command, cfg Config) (*Server, error) {
	port, gateway, err := freePorts(ctx, cfg.Port)
	if err != nil {
		return nil, fmt.Errorf("start the Inngest dev server on port %d: %w", cfg.Port, err)
	}
	dir, err := workDir()
	if err != nil {
		return nil, fmt.Errorf("make a directory for the Inngest dev server: %w", err)
	}
	s := &Server{
		url:  "http://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(port)),
		cmd:  exec.CommandContext(context.WithoutCancel(ctx), c.Path, cfg.flags(port, gateway)...), //nolint:gosec // Find found it
		dir:  dir,
		out:  &output{to: cfg.Output},
		done: make(chan struct{}),
	}
	s.cmd.Dir = dir
	s.cmd.Env = append([]string{}, c.env...) // nil would be our environment
	s.cmd.Stdout, s.cmd.Stderr = s.out, s.out
	s.cmd.WaitDelay = time.Second
	ownGroup(s.cmd)
	dieWithUs(s.cmd)
	started := make(chan error)
	go s.run(started)
	if err := <-started; err != nil {
		<-s.done
		return nil, fmt.Errorf("start the Inngest dev server: %w", err)
	}
	if err := s.awaitHealth(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("start the Inngest dev server: %w", err), s.Kill(), s.out.tail())
	}
	return s, nil
}

// freePorts returns the port, or any free one if it is 0, and another free one.
func freePorts(ctx context.Context, port int) (first, second int, err error) {
	var free [2]int
	for i, p := range []int{port, 0} {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(p)))
		if err != nil {
			return 0, 0, err
		}
		defer func() { _ = l.Close() }() // not before the other is there
		free[i] = l.Addr().(*net.TCPAddr).Port
	}
	return free[0], free[1], nil
}

// workDir makes a directory with an empty configuration file, which ends the server's search for one in the directories above and
// in the user's.
func workDir() (string, error) {
	dir, err := os.MkdirTemp("", "clerksync-inngest-")
	if err != nil {
		return "", err
	}
	return dir, os.WriteFile(filepath.Join(dir, "inngest.json"), []byte("{}"), 0o600)
}

// run sees the process from its start to its end.
func (s *Server) run(started chan<- error) {
	runtime.LockOSThread() // Linux ends the process with the thread that started it, not with ours as a whole
	defer runtime.UnlockOSThread()
	defer close(s.done)
	defer func() { _ = os.RemoveAll(s.dir) }() // nothing of worth is in it
	err := s.cmd.Start()
	started <- err
	if err != nil {
		return
	}
	_ = s.cmd.Wait()               // ProcessState has how it ended
	if runtime.GOOS != "windows" { // where the id may be another's by now
		_ = killGroup(s.cmd.Process.Pid) // what it left behind
	}
}

// awaitHealth returns when the server answers, or an error if it ends or if it does not answer in time.
func (s *Server) awaitHealth(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startLimit, fmt.Errorf("it did not answer in %s", startLimit))
	defer cancel()
	tick := time.NewTicker(pollHealth)
	defer tick.Stop()
	client := &http.Client{Timeout: healthLimit, Transport: &http.Transport{DisableKeepAlives: true}} // and no proxy
	for {
		if healthy(ctx, client, s.url+"/health") {
			return nil
		}
		select {
		case <-tick.C:
		case <-s.done:
			return fmt.Errorf("it ended: %s", s.cmd.ProcessState)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func healthy(ctx context.Context, client *http.Client, url string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return false
	}
	resp, err := client.Do(req)
	return err == nil && resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
}

// URL returns the server's address, http://127.0.0.1:PORT.
func (s *Server) URL() string { return s.url }

// Done returns a channel that is closed when the server has ended, whatever the reason.
func (s *Server) Done() <-chan struct{} { return s.done }

// Stop asks the server to end, kills it if that takes more than 5 s, and returns when nothing of it is left. It may be repeated.
func (s *Server) Stop() error { return s.stop(stopLimit) }

func (s *Server) stop(limit time.Duration) error {
	if s.ended() {
		return nil
	}
	if err := terminateGroup(s.cmd.Process.Pid); err != nil {
		return s.Kill()
	}
	select {
	case <-s.done:
		return nil
	case <-time.After(limit):
		return s.Kill()
	}
}

// Kill ends the server as a crash would, and returns when nothing of it is left. It may be repeated.
func (s *Server) Kill() error {
	if s.ended() {
		return nil
	}
	if err := killGroup(s.cmd.Process.Pid); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill the Inngest dev server: %w", err)
	}
	<-s.done
	return nil
}

// ended tells whether the server has ended: its process id may then be another's.
func (s *Server) ended() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// output passes on what it is given and keeps the end of it.
type output struct {
	to io.Writer

	mu  sync.Mutex
	end []byte
}

// Write never fails: a closed terminal ends no server.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	o.end = append(o.end, p...)
	o.end = o.end[max(0, len(o.end)-tailSize):]
	o.mu.Unlock()
	if o.to != nil {
		_, _ = o.to.Write(p)
	}
	return len(p), nil
}

// tail returns the end of the output as an error, or nil if there is none.
func (o *output) tail() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if text := strings.TrimSpace(string(o.end)); text != "" {
		return errors.New(text)
	}
	return nil
}
