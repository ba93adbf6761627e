// Package npm gives tests the npm packages that a committed lock file names.
package npm

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"clerksync/internal/testenv/program"

	"github.com/gofrs/flock"
)

// Project copies the folder dir, which has a package.json and a package-lock.json, into a folder of the test, gives it
// its node_modules and returns its path. Run node there with exec.CommandContext. The packages are installed once, in
// the cache of this user, and are not to be written to. The test is skipped with -short, and where node, npm or npm's
// registry is missing (see program.Missing).
//
// A lock file is made by "npm install --omit-lockfile-registry-resolved", so that it names no registry.
func Project(t testing.TB, dir string) string {
	t.Helper()
	if testing.Short() {
		t.Skip("it needs npm packages: left out by -short")
	}
	modules, err := install(t.Context(), dir)
	if errors.Is(err, errMissing) {
		program.Missing(t, err.Error())
	}
	project := filepath.Join(t.TempDir(), filepath.Base(dir))
	if err == nil {
		err = copyFiles(project, dir)
	}
	if err == nil {
		err = os.Symlink(modules, filepath.Join(project, "node_modules"))
	}
	if err != nil {
		t.Fatal(err)
	}
	return project
}

// errMissing says that this machine cannot install packages.
var errMissing = errors.New("npm packages cannot be installed here")

// installTimeout bounds an installation over a slow network.
const installTimeout = 5 * time.Minute

// install returns the node_modules with the packages that the lock file in dir names. One process installs them, others
// that want them meanwhile wait. What is in the cache is whole.
func install(ctx context.Context, dir string) (string, error) {
	for _, name := range []string{"node", "npm"} {
		if _, err := exec.LookPath(name); err != nil {
			return "", fmt.Errorf("%w: %s is not on PATH (it comes with Node, https://nodejs.org)", errMissing, name)
		}
	}
	lock, err := os.ReadFile(filepath.Join(dir, "package-lock.json"))
	if err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("%w: %w", errMissing, err)
	}
	whole := filepath.Join(cache, "clerksync", fmt.Sprintf("npm-%x", sha256.Sum256(lock))[:len("npm-")+16])
	modules := filepath.Join(whole, "node_modules")
	if _, err := os.Stat(modules); err == nil {
		return modules, nil
	}
	if err := os.MkdirAll(filepath.Dir(whole), 0o755); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, installTimeout)
	defer cancel()
	only := flock.New(whole + ".lock")
	if _, err := only.TryLockContext(ctx, time.Second/5); err != nil {
		return "", fmt.Errorf("wait for another installation of the same packages: %w", err)
	}
	defer func() { _ = only.Unlock() }()
	if _, err := os.Stat(modules); err == nil { // another process was first
		return modules, nil
	}
	part := whole + ".part" // what a killed installation left there goes first
	if err := errors.Join(os.RemoveAll(part), os.Mkdir(part, 0o755)); err != nil {
		return "", err
	}
	for _, name := range []string{"package.json", "package-lock.json"} {
		if err := copyFile(filepath.Join(part, name), filepath.Join(dir, name)); err != nil {
			return "", err
		}
	}
	cmd := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1",
		"--fetch-retry-mintimeout=1000")
	cmd.Dir = part
	switch out, err := cmd.CombinedOutput(); {
	case err != nil && offline.Match(out):
		return "", fmt.Errorf("%w: npm's registry does not answer", errMissing)
	case err != nil:
		return "", fmt.Errorf("npm ci in %s: %w: %s", dir, err, out)
	}
	return modules, os.Rename(part, whole)
}

// offline matches what npm prints if it cannot reach its registry.
var offline = regexp.MustCompile(
	`npm (?:error|ERR!) code (?:ENOTFOUND|EAI_AGAIN|ECONN\w+|ENET\w+|EHOST\w+|ETIMEDOUT|ERR_SOCKET_TIMEOUT|ENOTCACHED)`)

// copyFiles copies a folder without its node_modules.
func copyFiles(to, from string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		rel, relErr := filepath.Rel(from, path)
		target := filepath.Join(to, rel)
		switch err := cmp.Or(err, relErr); {
		case err != nil:
			return err
		case d.IsDir() && d.Name() == "node_modules":
			return fs.SkipDir
		case d.IsDir():
			return os.MkdirAll(target, 0o755)
		case !d.Type().IsRegular():
			return nil
		}
		return copyFile(target, path)
	})
}

func copyFile(to, from string) error {
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, b, 0o644)
	}
	return err
}
