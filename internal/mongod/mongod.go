// Package mongod finds MongoDB's server on this machine and runs it as a replica set of one, for 'clerksync dev'.
package mongod

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"clerksync/internal/child"
	"clerksync/internal/textfile"
	"clerksync/store/database"
)

const (
	// tryLimit bounds how long a mongod may take to tell its version.
	tryLimit = 10 * time.Second
	// stopLimit is how long a mongod may take to end by itself.
	stopLimit = 10 * time.Second
)

// Program is a mongod on this machine. Find makes it.
type Program struct {
	Path    string
	Version string // such as 8.0.4

	env []string
}

// ErrNone says that there is no mongod on PATH.
var ErrNone = errors.New("there is no mongod on PATH")

// Find returns the mongod on the PATH of environ, which is a process's environment, "NAME=value". The error is ErrNone
// if there is none, and another if it cannot tell its version.
func Find(ctx context.Context, environ []string) (Program, error) {
	p := Program{Path: child.LookPath("mongod", child.Getenv(environ, "PATH"))}
	for _, kv := range environ {
		// It needs no settings, and none of our keys.
		name, _, _ := strings.Cut(kv, "=")
		if slices.Contains([]string{"PATH", "HOME", "TMPDIR", "SYSTEMROOT", "TEMP", "TMP"}, strings.ToUpper(name)) {
			p.env = append(p.env, kv)
		}
	}
	if p.Path == "" {
		return p, ErrNone
	}
	ctx, cancel := context.WithTimeout(ctx, tryLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, p.Path, "--version") //nolint:gosec // the user's own program
	out := &output{}
	cmd.Env, cmd.Dir, cmd.Stdout = p.env, os.TempDir(), out
	if err := child.Run(cmd); err != nil {
		return p, fmt.Errorf("%s does not tell its version: %w", p.Path, err)
	}
	version := regexp.MustCompile(`(?m)^db version v(\S+)`).FindStringSubmatch(out.text)
	if version == nil {
		return p, fmt.Errorf("%s does not tell its version", p.Path)
	}
	p.Version = version[1]
	return p, nil
}

// Holds tells whether the folder dir has the database of a mongod. One that did not come so far as to make its files
// leaves a folder that has none.
func Holds(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "storage.bson")) // whatever the storage engine
	return err == nil
}

// kept is what a folder remembers of its server.
type kept struct {
	Port string `json:"port"` // connection strings that other programs keep stay right
	// Set is the name of the replica set. It is another one in each folder, so that the connection string of one
	// reaches no database of another that has taken its port.
	Set string `json:"set"`
}

// keptFile is beside the files of mongod, which leaves alone what it does not know.
const keptFile = "clerksync.json"

// KeptPort returns the port that the server of the folder dir had the last time, or "".
func KeptPort(dir string) string {
	k, _ := read(dir) // without it there was none
	return k.Port
}

func read(dir string) (k kept, _ error) {
	text, err := textfile.Read(filepath.Join(dir, keptFile), textfile.MaxKept)
	if err != nil {
		return k, fmt.Errorf("%s cannot be read: %w", filepath.Join(dir, keptFile), err)
	}
	// The name becomes part of a connection string, and the folder may have come with somebody else's repository.
	if json.Unmarshal([]byte(text), &k) != nil || !regexp.MustCompile(`^clerksync-[a-z0-9]+$`).MatchString(k.Set) {
		return kept{}, fmt.Errorf("%s cannot be read: remove %s to begin anew", filepath.Join(dir, keptFile), dir)
	}
	return k, nil
}

// write writes down what the folder remembers.
func write(dir string, k kept) error {
	b, err := json.Marshal(k)
	if err != nil {
		return err
	}
	return textfile.Write(filepath.Join(dir, keptFile), string(b))
}

// prepare makes the folder if there is none, and returns what it remembers. The folder appears with that in it: of two
// processes that start at the same time, both have the same.
func prepare(dir string) (kept, error) {
	if k, err := read(dir); !errors.Is(err, fs.ErrNotExist) {
		return k, err
	}
	made, err := os.MkdirTemp(filepath.Dir(dir), filepath.Base(dir)+".*") // with mode 0700
	if err != nil {
		return kept{}, err
	}
	err = write(made, kept{Set: "clerksync-" + strings.ToLower(rand.Text()[:12])})
	if err == nil {
		err = os.Rename(made, dir) // fails if there is one by now
	}
	if err != nil {
		_ = os.RemoveAll(made)
	}
	k, unread := read(dir)
	if _, gone := os.Lstat(dir); gone == nil && errors.Is(unread, fs.ErrNotExist) {
		return kept{}, fmt.Errorf("%s is there, but clerksync has not made it: move it away to begin anew", dir)
	}
	if unread != nil {
		return kept{}, cmp.Or(err, unread)
	}
	return k, nil
}

// Server is a running mongod. Its methods are safe for concurrent use. It may end by itself.
type Server struct {
	*child.Process
	address string // HOST:PORT
	set     string
}

// Start starts a mongod in the folder dir, which it makes if needed, on a port of 127.0.0.1, and returns when it takes
// writes; ctx bounds only the start. It asks nobody for a password. The error says why the server has ended, if it has.
func Start(ctx context.Context, p Program, dir, port string) (*Server, error) {
	k, err := prepare(dir)
	if err != nil {
		return nil, err
	}
	s, out := &Server{address: net.JoinHostPort("127.0.0.1", port), set: k.Set}, &output{}
	//nolint:gosec,noctx // Find found it; it outlives ctx
	cmd := exec.Command(p.Path, "--dbpath", dir, "--bind_ip", "127.0.0.1", "--port", port, "--replSet", k.Set,
		"--wiredTigerCacheSizeGB", "0.25") // or it takes half of the memory
	cmd.Env, cmd.Stdout, cmd.Stderr = p.env, out, out
	if s.Process, err = child.Start(cmd); err != nil {
		return nil, err
	}
	starting, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-s.Done():
			cancel()
		case <-starting.Done():
		}
	}()
	if err = database.MakePrimary(starting, s.address, s.set); err == nil {
		k.Port = port
		err = write(dir, k)
	}
	if err == nil {
		return s, nil
	}
	ended := s.Ended()
	err = errors.Join(err, s.Kill())
	switch {
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case ended:
		err = fmt.Errorf("it ended: %s%s", s.State(), out.why())
	}
	return nil, err
}

// URI returns the connection string of a database on the server.
func (s *Server) URI(name string) string {
	return "mongodb://" + s.address + "/" + url.PathEscape(name) + "?directConnection=true&replicaSet=" + s.set
}

// Stop asks the server to end, kills it if that takes more than 10 s, which loses nothing that it has acknowledged, and
// returns when nothing of it is left.
func (s *Server) Stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopLimit)
	defer cancel()
	if !s.Ended() && database.ShutDown(ctx, s.address) == nil {
		select {
		case <-s.Done():
		case <-ctx.Done():
		}
	}
	return s.Process.Stop()
}

// output keeps the end of what a mongod writes.
type output struct{ text string }

// tail is how much of it is kept: some hundred lines.
const tail = 64 << 10

// Write never fails.
func (o *output) Write(p []byte) (int, error) {
	o.text += string(p)
	o.text = o.text[max(0, len(o.text)-tail):]
	return len(p), nil
}

// why returns what the server says of its last error, with a colon before it, or "". Lines of the log that are no
// errors may quote documents.
func (o *output) why() string {
	why := ""
	for line := range strings.Lines(o.text) {
		var l struct {
			Severity string `json:"s"`
			Message  string `json:"msg"`
			More     struct {
				Error any `json:"error"`
			} `json:"attr"`
		}
		if json.Unmarshal([]byte(line), &l) != nil || l.Severity != "E" && l.Severity != "F" {
			continue
		}
		why = ": " + l.Message
		if l.More.Error != nil {
			why += fmt.Sprintf(": %v", l.More.Error)
		}
	}
	return strings.ReplaceAll(why, "\n", " ")
}
