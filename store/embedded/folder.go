package embedded

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"clerksync/internal/textfile"

	"github.com/gofrs/flock"
)

var (
	// ErrLocked says that another server has the data folder.
	ErrLocked = errors.New("in use by another clerksync: stop it, or give this one another folder")
	// ErrPort says that a server cannot listen on the port that it was given.
	ErrPort = errors.New("it cannot listen")
	// ErrLeftOut says that the program was built with -tags noembedded.
	ErrLeftOut = errors.New("this build has no embedded database")
)

// pragmas let writers wait for each other, and keep SQLite's temporary files, which hold documents, in memory instead
// of in /var/tmp.
const pragmas = "_pragma=busy_timeout(10000)&_pragma=temp_store(memory)"

// uriFile holds the URI of the server that has the folder.
const uriFile = "clerksync.uri"

// Running returns the URI of the server that has the folder dir, for other processes of this user that look into it or
// change rows which the server's own process does not change.
func Running(dir string) (uri string, _ error) {
	text, err := textfile.Read(filepath.Join(dir, uriFile), textfile.MaxKept)
	if err != nil {
		return "", fmt.Errorf("find the database of the folder %s: %w", dir, err)
	}
	return strings.TrimSpace(text), nil
}

// Holds tells whether the folder dir holds a database in which something was written.
func Holds(dir string) bool {
	entries, _ := os.ReadDir(dir) // a folder that cannot be read holds none that we could use
	return slices.ContainsFunc(entries, isDatabase)
}

// isDatabase tells whether a file is one of a database, or beside one.
func isDatabase(e os.DirEntry) bool { return strings.Contains(e.Name(), ".sqlite") }

// folder is a data folder that only we have.
type folder struct {
	path  string
	url   string   // the path as FerretDB and SQLite can take it, with a slash at its end
	alias *os.File // what url leads through, nil if that is the plain path
	lock  *flock.Flock
}

// openFolder makes the folder dir if needed and locks it. The lock goes with the process, however that ends. The error
// is ErrLocked if it is locked already.
func openFolder(dir string) (*folder, error) {
	if dir == "" {
		return nil, errors.New("the embedded database needs a folder: embedded:DIR")
	}
	path, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("find the data folder: %w", err)
	}
	if err := os.MkdirAll(path, 0o700); err != nil { //nolint:gosec // it is the operator who names the folder
		return nil, fmt.Errorf("make the data folder: %w", err)
	}
	lock := flock.New(filepath.Join(path, "clerksync.lock"))
	switch locked, err := lock.TryLock(); {
	case err != nil:
		return nil, fmt.Errorf("lock the data folder: %w", err)
	case !locked:
		return nil, fmt.Errorf("the folder %s is %w", dir, ErrLocked)
	}
	f := &folder{path: path, url: path + "/", lock: lock}
	if err := f.tryFiles(); err != nil {
		return nil, errors.Join(fmt.Errorf("open the database: %w", err), f.close())
	}
	// FerretDB takes the path for a glob pattern when it looks for its databases (and deletes those it overlooked when
	// it makes them anew), and passes it on to SQLite as a URL without escaping it. Linux has another name for an open
	// folder.
	if !strings.ContainsAny(path, `*?[\%#`) {
		return f, nil
	}
	if runtime.GOOS != "linux" {
		err := fmt.Errorf(`choose a folder without any of *?[\%%# in its path, not %s`, path)
		return nil, errors.Join(err, f.close())
	}
	if f.alias, err = os.Open(path); err != nil { //nolint:gosec // as above
		return nil, errors.Join(fmt.Errorf("open the data folder: %w", err), f.close())
	}
	f.url = fmt.Sprintf("/proc/self/fd/%d/", f.alias.Fd())
	return f, nil
}

// tryFiles fails if there is a file of a database that we may not write, such as one that another user has made. SQLite
// would only say so at the first write, and in its own words.
func (f *folder) tryFiles() error {
	entries, err := os.ReadDir(f.path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !isDatabase(e) {
			continue
		}
		file, err := os.OpenFile(filepath.Join(f.path, e.Name()), os.O_RDWR, 0)
		if err != nil {
			return err
		}
		if err := file.Close(); err != nil {
			return err
		}
	}
	return nil
}

// file returns the name under which SQLite opens the file of the database, but does not make it.
func (f *folder) file(database string) string {
	return "file:" + f.url + database + ".sqlite?mode=rw&" + pragmas
}

// announce writes down where the server is.
func (f *folder) announce(uri string) error { return f.write(uriFile, uri) }

// write puts a file with one line into the folder.
func (f *folder) write(name, line string) error {
	return textfile.Write(filepath.Join(f.path, name), line)
}

func (f *folder) close() error {
	if f.alias == nil {
		return f.lock.Close()
	}
	return errors.Join(f.alias.Close(), f.lock.Close())
}
