//go:build unix

package program

import (
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// Unprivileged returns what runs a program that refuses to run as root, such as PostgreSQL, as a user who may do
// nothing but use the folder dir, which it gets. Where the test is not run by root it is nil: the program runs as the
// test does.
func Unprivileged(t testing.TB, dir string) *syscall.SysProcAttr {
	t.Helper()
	if os.Geteuid() != 0 {
		return nil
	}
	u, err := user.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.Atoi(u.Uid) // of Unix: a number
	gid, _ := strconv.Atoi(u.Gid)
	if err := os.Chown(dir, uid, gid); err != nil {
		t.Fatal(err)
	}
	for parent := filepath.Dir(dir); strings.HasPrefix(parent, os.TempDir()); parent = filepath.Dir(parent) {
		info, err := os.Stat(parent)
		if err == nil && info.Mode()&0o001 == 0 { // to be passed through
			err = os.Chmod(parent, 0o711)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
}
