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
	"slices"
	"strconv"
	"strings"
	"time"

	"clerksync/internal/child"
)

const (
	startLimit  = 30 * time.Second // a start takes 0.2 s
	pollHealth  = 20 * time.Millisecond
	healthLimit = 2 * time.Second
	tailSize    = 4 << 10
)

// Config is how a server runs.
type Config struct {
	Port int           // of 127.0.0.1; 0 is any free one
	Tick time.Duration // how often it looks at its queue, in whole milliseconds; 0 is the server's default
	// between the attempts of a run, in whole seconds; 0 is the server's default, which grows
	RetryInterval time.Duration
	Output        io.Writer // gets what it logs, which is warnings and errors; may be nil
}

// flags returns the command line. Without -l warn the server logs the data of every event.
func (c Config) flags(ports [4]string) []string {
	f := []string{
		"dev", "--no-discovery", "--no-poll", "--host", "127.0.0.1", "--port", ports[0],
		"--connect-gateway-port", ports[1], "-l", "warn",
	}
	if c.Tick > 0 {
		f = append(f, "--tick", strconv.FormatInt(c.Tick.Milliseconds(), 10))
	}
	if c.RetryInterval > 0 {
		f = append(f, "--retry-interval", strconv.Itoa(int(c.RetryInterval.Seconds())))
	}
	return f
}

// Server is a running Inngest dev server. Its methods are safe for concurrent use. It may end by itself.
type Server struct {
	*child.Process
	url string
	dir string  // its working directory
	out *output // what it writes
}

// Start starts a server with nothing in it and returns when it answers; ctx bounds only the start. It returns an error
// if the port is taken or if the server ends or does not answer in 30 s; the error then has what it wrote last.
func Start(ctx context.Context, c Command, cfg Config) (*Server, error) {
	ports, err := freePorts(ctx, cfg.Port)
	if err != nil {
		return nil, fmt.Errorf("start the Inngest dev server on port %d: %w", cfg.Port, err)
	}
	dir, err := os.MkdirTemp("", "clerksync-inngest-")
	if err == nil { // without this the server searches the directories above, and the user's, for a configuration
		err = os.WriteFile(filepath.Join(dir, "inngest.json"), []byte("{}"), 0o600)
	}
	if err != nil {
		return nil, fmt.Errorf("make a directory for the Inngest dev server: %w", err)
	}
	cmd := exec.Command(c.Path, cfg.flags(ports)...) //nolint:gosec,noctx // Find found it; it outlives ctx
	s := &Server{url: "http://" + net.JoinHostPort("127.0.0.1", ports[0]), dir: dir, out: &output{to: cfg.Output}}
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, s.out, s.out
	cmd.Env = slices.Concat(c.env, GRPCPorts(ports[2], ports[3]))
	if s.Process, err = child.Start(cmd); err != nil {
		return nil, errors.Join(fmt.Errorf("start the Inngest dev server: %w", err), os.RemoveAll(dir))
	}
	if err := s.awaitHealth(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("start the Inngest dev server: %w", err), s.Kill(), s.out.tail())
	}
	return s, nil
}

// GRPCPorts are the settings that give a server ports of its own for its gRPC. From v1.18 on all servers take the same
// two unless told: the second on a machine ends, and older ones ignore the settings.
func GRPCPorts(gateway, executor string) []string {
	return []string{"INNGEST_CONNECT_GATEWAY_GRPC_PORT=" + gateway, "INNGEST_CONNECT_EXECUTOR_GRPC_PORT=" + executor}
}

// freePorts returns the port, or any free one if it is 0, and three other free ones.
func freePorts(ctx context.Context, port int) (free [4]string, _ error) {
	for i, p := range []int{port, 0, 0, 0} {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(p)))
		if err != nil {
			return free, err
		}
		defer func() { _ = l.Close() }() // not before the others are there
		free[i] = strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	}
	return free, nil
}

// awaitHealth returns when the server answers, or an error if it ends or if it does not answer in time.
func (s *Server) awaitHealth(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startLimit, fmt.Errorf("it did not answer in %s", startLimit))
	defer cancel()
	client := &http.Client{Timeout: healthLimit, Transport: &http.Transport{DisableKeepAlives: true}} // and no proxy
	for {
		if healthy(ctx, client, s.url+"/health") {
			return nil
		}
		select {
		case <-time.After(pollHealth):
		case <-s.Done():
			return fmt.Errorf("it ended: %s", s.State())
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

// Stop asks the server to end, kills it if that takes more than 5 s, and returns when nothing of it is left. It may be
// repeated.
func (s *Server) Stop() error { return errors.Join(s.Process.Stop(), os.RemoveAll(s.dir)) }

// Kill ends the server as a crash would, and returns when nothing of it is left. It may be repeated.
func (s *Server) Kill() error { return errors.Join(s.Process.Kill(), os.RemoveAll(s.dir)) }

// output passes on what it is given and keeps the end of it.
type output struct {
	to  io.Writer
	end []byte // to be read when the server has ended
}

// Write never fails: a closed terminal ends no server.
func (o *output) Write(p []byte) (int, error) {
	o.end = append(o.end, p...)
	o.end = o.end[max(0, len(o.end)-tailSize):]
	if o.to != nil {
		_, _ = o.to.Write(p)
	}
	return len(p), nil
}

// tail returns the end of the output as an error, or nil if there is none.
func (o *output) tail() error {
	if text := strings.TrimSpace(string(o.end)); text != "" {
		return errors.New(text)
	}
	return nil
}
