//go:build !linux

package inngestserver

import "os/exec"

// dieWithUs does nothing: only Linux has a way. A server whose parent was killed goes on here.
func dieWithUs(*exec.Cmd) {}
