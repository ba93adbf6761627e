package child

import (
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// Getenv returns the value of a variable in environ, which is a process's environment, "NAME=value", or "". Of several
// the last counts, as in package exec.
func Getenv(environ []string, name string) (value string) {
	for _, kv := range environ {
		k, v, _ := strings.Cut(kv, "=")
		if k == name || runtime.GOOS == "windows" && strings.EqualFold(k, name) {
			value = v
		}
	}
	return value
}

// LookPath returns the program's path in one of the directories of path, which is a value of PATH, or "".
// exec.LookPath knows only this process's own.
func LookPath(name, path string) string {
	for _, dir := range filepath.SplitList(path) {
		if !filepath.IsAbs(dir) {
			continue
		}
		if p, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return p
		}
	}
	return ""
}
