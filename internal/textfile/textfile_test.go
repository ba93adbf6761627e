package textfile_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"clerksync/internal/textfile"
)

// TestRead: what a person or an orchestrator may leave where a file should be, and that no error quotes any of it.
func TestRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	link, loop := filepath.Join(dir, "link"), filepath.Join(dir, "loop")
	if err := errors.Join(os.Symlink(write("hunter2", "value\n"), link), os.Symlink(loop, loop)); err != nil {
		t.Skip("needs symbolic links: ", err)
	}
	for name, tc := range map[string]struct{ path, want, wrong string }{
		"a file":                     {path: write("plain", "  a\nb \n"), want: "  a\nb \n"},
		"an empty one":               {path: write("empty", "")},
		"a link, as Kubernetes has":  {path: link, want: "value\n"},
		"Notepad's":                  {path: write("bom", "\ufeffvalue\r\n"), want: "value\r\n"},
		"as large as may be":         {path: write("1k", strings.Repeat("x", 1024)), want: strings.Repeat("x", 1024)},
		"too large":                  {path: write("1k1", strings.Repeat("x", 1025)), wrong: "it is larger than 1 KB"},
		"without an end":             {path: "/dev/zero", wrong: "it is no ordinary file"},
		"a folder":                   {path: dir, wrong: "it is a folder"},
		"PowerShell's, in UTF-16":    {path: write("utf16", "\xff\xfev\x00"), wrong: "it is not text in UTF-8"},
		"zeros":                      {path: write("zeros", "v\x00"), wrong: "it is not text in UTF-8"},
		"nothing":                    {path: filepath.Join(dir, "hunter3"), wrong: "no such file or directory"},
		"a link to itself":           {path: loop, wrong: "too many levels of symbolic links"},
		"a file as a folder":         {path: filepath.Join(link, "hunter3"), wrong: "not a directory"},
		"the secret and not a path":  {path: "sk_live_" + strings.Repeat("hunter2", 100), wrong: "file name too long"},
		"a path with a newline":      {path: link + "\n", wrong: "no such file or directory"},
		"a path that is not a text":  {path: "a\x00b", wrong: "invalid argument"},
		"the empty path, for a test": {path: "", wrong: "no such file or directory"},
	} {
		got, err := textfile.Read(tc.path, 1024)
		if got != tc.want || err == nil != (tc.wrong == "") || err != nil && err.Error() != tc.wrong {
			t.Errorf("%s: got %q and %v, want %q and %q", name, got, err, tc.want, tc.wrong)
		}
	}
	if _, err := textfile.Read(filepath.Join(dir, "none"), 1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("none: got %v", err)
	}
}

// TestReadForbidden: the user that runs the program may not read the file.
func TestReadForbidden(t *testing.T) {
	t.Parallel()
	if os.Geteuid() == 0 {
		t.Skip("root may read everything")
	}
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte("x"), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := textfile.Read(path, 1); err == nil || err.Error() != "permission denied" {
		t.Errorf("got %v", err)
	}
}

// TestWrite: the file is its user's alone, and takes the place of a link instead of writing through it. What cannot be
// written leaves nothing behind.
func TestWrite(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path, other := filepath.Join(dir, "file"), filepath.Join(t.TempDir(), "other")
	if err := errors.Join(os.WriteFile(other, []byte("precious"), 0o600), os.Symlink(other, path)); err != nil {
		t.Skip("needs symbolic links: ", err)
	}
	if err := textfile.Write(path, "text"); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("got %v and %v, want a file with the mode 0600", info, err)
	}
	for file, want := range map[string]string{path: "text\n", other: "precious"} {
		if got, err := textfile.Read(file, 1024); got != want || err != nil {
			t.Errorf("%s: got %q and %v, want %q", file, got, err, want)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := textfile.Write(filepath.Join(dir, "folder"), "text"); err == nil {
		t.Error("it writes over a folder")
	}
	if left, err := os.ReadDir(dir); len(left) != 2 || err != nil {
		t.Errorf("got %v and %v, want what was there", left, err)
	}
}
