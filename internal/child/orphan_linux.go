package child

import (
	"os/exec"
	"syscall"
)

// dieWithUs has the process killed when the thread that starts it ends, which is when this process ends if a goroutine
// stays locked to that thread.
func dieWithUs(cmd *exec.Cmd) { cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL }
