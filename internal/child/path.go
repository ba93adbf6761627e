package child

import (
	"os/exec"
	"path/filepath"
)

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
