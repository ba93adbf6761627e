package dev

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"clerksync/internal/textfile"
	"clerksync/store/database"
)

// Running is a 'clerksync dev' that runs, as the file says that it leaves in Folder.
type Running struct {
	URL     string `json:"url"`     // of the service, without a slash at the end
	Inngest string `json:"inngest"` // its Inngest's, likewise
	// Database is the connection string of the mongod that StartMongod has started, "" if it started none. No other
	// database is written down: its connection string may hold a password.
	Database string `json:"database,omitempty"`
	// Secret is a signing secret of this start alone, which the service accepts beside Clerk's and which opens its
	// routes under Path. Clerk's is never written down.
	Secret string `json:"secret"`
}

// Find returns the 'dev' that runs in the working folder. The error is fs.ErrNotExist if there is none. It may have
// been killed: Answers and Follow tell.
func Find() (r Running, err error) {
	text, err := textfile.Read(runningFile(), textfile.MaxKept)
	if err != nil {
		return r, fmt.Errorf("%s cannot be read: %w", runningFile(), err)
	}
	err = json.Unmarshal([]byte(text), &r)
	elsewhere := r.Database != "" && !database.IsLocal(r.Database) // it came with somebody else's repository
	if u, notURL := url.Parse(r.URL); err != nil || notURL != nil || u.Scheme != "http" || r.Secret == "" || elsewhere {
		return Running{}, fmt.Errorf("%s cannot be read: start 'clerksync dev' again", runningFile())
	}
	return r, nil
}

func runningFile() string { return filepath.Join(Folder, "dev.json") }

// Announce writes the file by which Find finds this process, for its user alone, and returns what removes it.
func (r Running) Announce() (remove func(), _ error) {
	text, err := json.Marshal(r) //nolint:gosec // G117: the secret is for 'send', of this start, and mode 0600
	if err != nil {
		return nil, err
	}
	if err := textfile.Write(runningFile(), string(text)); err != nil {
		return nil, err
	}
	return func() {
		now, err := textfile.Read(runningFile(), textfile.MaxKept)
		if err == nil && strings.TrimSpace(now) == string(text) {
			_ = os.Remove(runningFile()) // it is not another one's by now
		}
	}, nil
}

// MakeFolder makes Folder, if it is not there, with a .gitignore that keeps all of it out of git. A folder that has
// anything else than what clerksync makes is the app's own, and gets none.
func MakeFolder() error {
	if err := os.MkdirAll(Folder, 0o700); err != nil {
		return err
	}
	there, err := os.ReadDir(Folder)
	if err != nil {
		return err
	}
	const ignore = ".gitignore"
	for _, f := range there {
		if name := f.Name(); name == ignore || !strings.HasPrefix(name, "clerksync.") && name != "signing-secret" {
			return nil
		}
	}
	return os.WriteFile(filepath.Join(Folder, ignore), []byte("*\n"), 0o600)
}

// Answers tells whether this 'dev' still runs.
func (r Running) Answers(ctx context.Context) bool {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	_, err := r.Follow(ctx, MessageID())
	return err == nil
}

// ErrKilled says that the 'dev' that a file names does not answer there.
var ErrKilled = errors.New("'clerksync dev' does not answer")

// Follow lets the running 'dev' tell what becomes of the event with a svix-id, from now on and until ctx ends: next
// waits until it is written, fails, or is tried again. The error is ErrKilled if something else or nothing answers.
func (r Running) Follow(ctx context.Context, svixID string) (next func() (News, error), _ error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.URL+Path+svixID, http.NoBody)
	if err != nil {
		return nil, ErrKilled
	}
	req.Header.Set("Authorization", "Bearer "+r.Secret)
	client := &http.Client{
		Transport:     &http.Transport{ResponseHeaderTimeout: 5 * time.Second},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	res, err := client.Do(req)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, ErrKilled
	}
	context.AfterFunc(ctx, func() { _ = res.Body.Close() }) // it was only read
	if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != newsType {
		return nil, ErrKilled
	}
	in := json.NewDecoder(res.Body)
	return func() (n News, err error) {
		err = in.Decode(&n)
		return n, err
	}, nil
}
