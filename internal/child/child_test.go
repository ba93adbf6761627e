package child

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// patience is how long a test waits for a program: much longer than it takes, for the machine may be busy.
const patience = 2 * time.Minute

// roleEnv makes the test program one that is started: "ROLE ADDR", with the address of who watches it.
const roleEnv = "CLERKSYNC_CHILD_ROLE"

func TestMain(m *testing.M) {
	if os.Getenv(roleEnv) != "" {
		if err := play(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// play does what its role says.
func play() error {
	var role, addr string
	if _, err := fmt.Sscan(os.Getenv(roleEnv), &role, &addr); err != nil {
		return err
	}
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close() // at the latest
	if role == "stubborn" {
		signal.Ignore(syscall.SIGTERM)
	}
	if _, err := io.WriteString(conn, "x"); err != nil { // it is ready
		return err
	}
	switch role {
	case "parent": // of one that outlives it unless somebody ends it
		cmd := program("plain", addr)
		cmd.Stdout = os.Stdout // which Wait then waits for
		if err := cmd.Start(); err != nil {
			return err
		}
	case "orphans": // starts one and is killed
		if _, err := Start(program("plain", addr)); err != nil {
			return err
		}
		if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
			return err
		}
		return syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	_, err = io.Copy(io.Discard, conn) // until it is let go
	return err
}

func program(role, addr string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), roleEnv+"="+role+" "+addr)
	return cmd
}

// watch returns the address for programs, and what waits until so many have begun and returns their connections.
func watch(t *testing.T) (addr string, begun func(n int) []net.Conn) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("it has no signals")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().String(), func(n int) (conns []net.Conn) {
		t.Helper()
		_ = l.(*net.TCPListener).SetDeadline(time.Now().Add(patience))
		for range n {
			conn, err := l.Accept()
			if err != nil {
				t.Fatalf("a program has not started: %v", err)
			}
			t.Cleanup(func() { _ = conn.Close() })
			if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			conns = append(conns, conn)
		}
		return conns
	}
}

// gone fails the test if one of the programs does not end.
func gone(t *testing.T, conns []net.Conn) {
	t.Helper()
	for _, conn := range conns {
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error("a program has not ended")
		}
	}
}

func TestEnds(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		role     string
		programs int
		end      func(*Process) error
	}{
		"Stop ends a program":         {"plain", 1, (*Process).Stop},
		"Stop ends its children":      {"parent", 2, (*Process).Stop},
		"Stop kills one that lingers": {"stubborn", 1, func(p *Process) error { return p.stop(time.Millisecond) }},
		"Kill ends one that will not": {"stubborn", 1, (*Process).Kill},
		"Kill ends its children":      {"parent", 2, (*Process).Kill},
		"a crash ends its children": {
			"parent", 2, func(p *Process) error {
				_ = syscall.Kill(p.PID(), syscall.SIGKILL)
				_ = p.Wait()
				return nil
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr, begun := watch(t)
			p, err := Start(program(tc.role, addr))
			if err != nil {
				t.Fatal(err)
			}
			conns := begun(tc.programs)
			if p.Ended() || p.State() != nil {
				t.Error("it has ended by itself")
			}
			for range 2 {
				if err := tc.end(p); err != nil {
					t.Error(err)
				}
			}
			if !p.Ended() || p.State() == nil {
				t.Error("it has not ended")
			}
			gone(t, conns)
		})
	}
}

func TestContextEndsTheChildrenToo(t *testing.T) {
	t.Parallel()
	addr, begun := watch(t)
	ctx, cancel := context.WithCancel(t.Context())
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = program("parent", addr).Env
	failed := make(chan error)
	go func() { failed <- Run(cmd) }()
	conns := begun(2)
	cancel()
	if err := <-failed; err == nil {
		t.Error("want an error")
	}
	gone(t, conns)
}

// TestKilledParent: a test run that is killed, as the go command does it after 11 minutes, leaves nothing behind.
func TestKilledParent(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has a way")
	}
	addr, begun := watch(t)
	cmd := program("orphans", addr)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	conns := begun(2)
	_, _ = conns[0].Write([]byte("x")) // both are there: it may kill itself
	_, _ = conns[1].Write([]byte("x"))
	_ = cmd.Wait()
	gone(t, conns)
}

func TestStartFails(t *testing.T) {
	t.Parallel()
	if _, err := Start(exec.Command("/nothing/there")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want os.ErrNotExist", err)
	}
}
