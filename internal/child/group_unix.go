//go:build unix

package child

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
)

// ownGroup puts the process and its children in a group of their own: a Ctrl-C in the terminal is for us, who then end
// the group.
func ownGroup(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil { // else it may say which user runs the program
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
}

// signalGroup asks the process and its children to end, or ends them. The error is os.ErrProcessDone if there are none.
func signalGroup(pid int, s syscall.Signal) error {
	err := syscall.Kill(-pid, s)
	if errors.Is(err, syscall.ESRCH) || errors.Is(err, syscall.EPERM) { // macOS: if those there are have ended
		return os.ErrProcessDone
	}
	return err
}
