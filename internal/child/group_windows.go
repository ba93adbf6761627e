package child

import (
	"context"
	"os/exec"
	"strconv"
	"syscall"
)

// ownGroup keeps a Ctrl-C in the console from the process: it is for us, who then end it.
func ownGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP}
}

// signalGroup ends the process and its children: Windows has no way to ask a process without a window.
func signalGroup(pid int, _ syscall.Signal) error {
	return exec.CommandContext(context.Background(), "taskkill", "/T", "/F", "/PID", strconv.Itoa(pid)).Run()
}
