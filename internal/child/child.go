// Package child starts programs that do not outlive this process: servers, for development and tests.
package child

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// stopLimit is how long Stop waits before it kills.
const stopLimit = 5 * time.Second

// Process is a program that Start has started, and what that has started in turn. Its methods are safe for concurrent
// use and may be repeated.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	err  error         // how it ended; to be read after done
}

// Start starts the command in a group of its own, so that a Ctrl-C in the terminal is for us, who then end the group.
// On Linux the program is killed when this process ends, whatever ends it. What the program leaves running ends with
// it.
func Start(cmd *exec.Cmd) (*Process, error) {
	p := &Process{cmd: cmd, done: make(chan struct{})}
	if cmd.Cancel != nil { // made with a context
		cmd.Cancel = func() error { return signalGroup(cmd.Process.Pid, syscall.SIGKILL) }
	}
	cmd.WaitDelay = time.Second
	ownGroup(cmd)
	dieWithUs(cmd)
	started := make(chan error)
	go p.run(started)
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// Run starts the command and waits for its end.
func Run(cmd *exec.Cmd) error {
	p, err := Start(cmd)
	if err != nil {
		return err
	}
	return p.Wait()
}

// run sees the process from its start to its end.
func (p *Process) run(started chan<- error) {
	runtime.LockOSThread() // Linux ends the process with the thread that started it, not with ours as a whole
	defer runtime.UnlockOSThread()
	err := p.cmd.Start()
	started <- err
	if err != nil {
		return
	}
	defer close(p.done)
	p.err = p.cmd.Wait()
	if runtime.GOOS != "windows" { // where the id may be another's by now
		_ = signalGroup(p.PID(), syscall.SIGKILL) // what it left behind
	}
}

// PID returns the id of the program's process.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done returns a channel that is closed when the program has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wait waits until the program has ended and returns what exec.Cmd.Wait does.
func (p *Process) Wait() error {
	<-p.done
	return p.err
}

// Ended tells whether the program has ended: its process id may then be another's.
func (p *Process) Ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// State says how the program ended; nil before that.
func (p *Process) State() *os.ProcessState {
	if !p.Ended() {
		return nil
	}
	return p.cmd.ProcessState
}

// Terminate asks the program and its children to end.
func (p *Process) Terminate() error {
	if p.Ended() {
		return nil
	}
	return signalGroup(p.PID(), syscall.SIGTERM)
}

// Stop asks the program to end, kills it if that takes more than 5 s, and returns when nothing of it is left.
func (p *Process) Stop() error { return p.stop(stopLimit) }

func (p *Process) stop(limit time.Duration) error {
	if p.Terminate() == nil {
		select {
		case <-p.done:
		case <-time.After(limit):
		}
	}
	return p.Kill()
}

// Kill ends the program as a crash would, and returns when nothing of it is left.
func (p *Process) Kill() error {
	if p.Ended() {
		return nil
	}
	if err := signalGroup(p.PID(), syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill %s: %w", p.cmd.Path, err)
	}
	<-p.done
	return nil
}
