// Package textfile reads small files of text that a person or an orchestrator has written, settings and secrets, and
// writes those that we keep beside a database. It imports nothing of ours.
package textfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

// ErrFolder says that there is a folder of that name.
var ErrFolder = errors.New("it is a folder")

// MaxKept is a limit for Read, in bytes: much more than any file has that we keep beside a database.
const MaxKept = 64 << 10

// Read returns the text of a file of at most limit bytes in UTF-8, without the byte order mark that some editors write
// first. Its errors quote neither the path nor anything of the file. It is fs.ErrNotExist if there is no such file.
func Read(path string, limit int64) (string, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return "", withoutPath(err)
	case info.IsDir():
		return "", ErrFolder
	case !info.Mode().IsRegular(): // reading from a pipe may take for ever
		return "", errors.New("it is no ordinary file")
	}
	f, err := os.Open(path) //nolint:gosec // G304: who runs the program names it
	if err != nil {
		return "", withoutPath(err)
	}
	defer func() { _ = f.Close() }() // it was only read
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	text := string(b)
	switch {
	case err != nil:
		return "", withoutPath(err)
	case int64(len(b)) > limit:
		return "", fmt.Errorf("it is larger than %d KB", limit>>10)
	case !utf8.ValidString(text) || strings.ContainsRune(text, 0):
		return "", errors.New("it is not text in UTF-8")
	}
	return strings.TrimPrefix(text, "\ufeff"), nil
}

// withoutPath leaves the path out of an error of the file system.
func withoutPath(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	return err
}

// Write writes a text and a newline to a file for its user alone, so that nobody reads half of it. The file takes the
// place of what was there: to write into that could write elsewhere, through a link in a folder that came with somebody
// else's repository.
func Write(path, text string) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*") // with mode 0600
	if err != nil {
		return err
	}
	_, err = f.WriteString(text + "\n")
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
