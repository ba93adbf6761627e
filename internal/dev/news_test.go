package dev

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"clerksync/activity"
	"clerksync/functions"
	"clerksync/store"
	"clerksync/store/database"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

func event(typ string, outcome store.Outcome, err error, final bool, took time.Duration) activity.Event {
	now := time.Now()
	e := activity.Event{Now: now, Wrote: functions.Wrote{
		Type: typ, UserID: "user_1", Outcome: outcome, Err: err, Final: final,
		Source: store.Source{Kind: "webhook", ID: "msg_1"},
	}}
	if took >= 0 {
		e.Received = now.Add(-took)
	}
	return e
}

// TestLines: a line for each event, whatever happens to it, that nothing in it can break.
func TestLines(t *testing.T) {
	t.Parallel()
	failure := errors.New("the database\ndoes not answer " + strings.Repeat("x", 1000))
	odd := event("user.created", store.Created, nil, false, time.Second)
	odd.UserID = strings.Repeat("ö", 1000)
	events := []activity.Event{
		event("user.created", store.Created, nil, false, 340*time.Millisecond),
		event("user.updated", store.Unchanged, nil, false, 0),
		event("user.updated", store.Stale, nil, false, time.Minute),
		event("user.deleted", store.Deleted, nil, false, time.Second),
		event("user.updated", store.Deleted, nil, false, -1), // not by a webhook of ours
		event("user.updated", "", failure, false, -1),
		event("user.updated", "", errors.New("no user"), true, -1),
		odd,
	}
	want := []string{
		"user.created user_1 → created in 0.3 s", "user.updated user_1 → unchanged in 0.0 s",
		"user.updated user_1 → stale in 60.0 s, the row is newer", "user.deleted user_1 → deleted in 1.0 s",
		"user.updated user_1 → deleted, and stays so",
		"user.updated user_1 → tried again: the database?does not answer " + strings.Repeat("x", 258),
		"user.updated user_1 → dead letter: no user",
		"user.created " + strings.Repeat("ö", 60) + " → created in 1.0 s", "",
	}
	var out bytes.Buffer
	feed := make(chan activity.Event)
	ctx, stop := context.WithCancel(t.Context())
	go func() {
		for _, e := range events {
			feed <- e
		}
		stop()
	}()
	Print(ctx, &out, feed, func(s string) string { return strings.ReplaceAll(s, "\n", "?") })
	if diff := cmp.Diff(want, strings.Split(out.String(), "\n")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestFollow: whoever has the secret learns what becomes of one event, from the moment that Follow returns, until it is
// done; nobody else learns anything, and something else at that address is not taken for 'dev'.
func TestFollow(t *testing.T) {
	t.Parallel()
	a := activity.New(database.Checkpoints{}, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	done := make(chan struct{})
	srv := httptest.NewServer(&Teller{Secret: secret, Activity: a, Done: done})
	t.Cleanup(srv.Close)
	r := Running{URL: srv.URL, Secret: secret}
	next, err := r.Follow(t.Context(), "msg_1")
	if err != nil {
		t.Fatal(err)
	}
	other := event("user.created", store.Created, nil, false, 0)
	other.Source.ID = "msg_2"
	for _, e := range []activity.Event{
		other,
		event("user.created", "", errors.New("not yet"), false, 0),
		event("user.created", store.Deleted, nil, false, -1),
		event("user.created", store.Created, nil, false, 0),
	} {
		a.Wrote(e.Wrote)
	}
	for _, want := range []News{
		{Words: "tried again: not yet", More: true},
		{Words: "deleted, and stays so", Gone: true},
	} {
		if got, err := next(); err != nil || got != want {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
	}
	if got, err := next(); err == nil {
		t.Errorf("after the end: got %+v", got)
	}

	if next, err = r.Follow(t.Context(), "msg_3"); err != nil {
		t.Fatal(err)
	}
	close(done)
	if got, err := next(); err == nil {
		t.Errorf("after 'dev' has ended: got %+v", got)
	}

	page := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(page.Close)
	for name, wrong := range map[string]Running{
		"another secret": {URL: srv.URL, Secret: secret + "x"}, "no secret": {URL: srv.URL},
		"another program": {URL: page.URL, Secret: secret}, "nobody": {URL: "http://127.0.0.1:1", Secret: secret},
		"no URL": {URL: "::", Secret: secret},
	} {
		if _, err := wrong.Follow(t.Context(), "msg_1"); !errors.Is(err, ErrKilled) {
			t.Errorf("%s: got %v, want ErrKilled", name, err)
		}
	}
}

// TestAnnounce: the file is for this user alone, is replaced whole, and is removed by the one that it is of.
func TestAnnounce(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := MakeFolder(); err != nil {
		t.Fatal(err)
	}
	var removes []func()
	for i := range 2 {
		r := Running{URL: fmt.Sprint("http://127.0.0.1:", i), Inngest: "http://127.0.0.1:8288", Secret: MakeSecret()}
		remove, err := r.Announce()
		if err != nil {
			t.Fatal(err)
		}
		removes = append(removes, remove)
		if got, err := Find(); err != nil || got != r {
			t.Errorf("got %v, %v, want %v", got, err, r)
		}
	}
	info, err := os.Stat(filepath.Join(Folder, "dev.json"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v, want a file that only we can read", info, err)
	}
	for i, remove := range removes {
		remove()
		if _, err := Find(); (err == nil) != (i == 0) {
			t.Errorf("after %d is removed: got %v", i, err)
		}
	}
	names, err := filepath.Glob(filepath.Join(Folder, "*"))
	if want := []string{filepath.Join(Folder, ".gitignore")}; err != nil || !cmp.Equal(want, names) {
		t.Errorf("left: %v %v", names, err)
	}
}

// TestGitignore: all of our folder is kept out of git, and nothing of a folder of the app's own.
func TestGitignore(t *testing.T) {
	for name, tc := range map[string]struct {
		files []string
		want  string
	}{
		"no folder":    {nil, "*\n"},
		"an old one":   {[]string{"clerksync.lock", "clerksync.sqlite", "signing-secret"}, "*\n"},
		"the app's":    {[]string{"clerksync.lock", "users.csv"}, ""},
		"with its own": {[]string{".gitignore"}, "mine"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			for _, file := range tc.files {
				if err := os.MkdirAll(Folder, 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(Folder, file), []byte("mine"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := MakeFolder(); err != nil {
				t.Fatal(err)
			}
			if got, _ := os.ReadFile(filepath.Join(Folder, ".gitignore")); string(got) != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

// TestFreePort: a port that is taken is passed over.
func TestFreePort(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := l.Addr().(*net.TCPAddr).Port
	got, err := strconv.Atoi(FreePort(t.Context(), "127.0.0.1", taken))
	if err != nil || got <= taken && got != 0 {
		t.Errorf("got %d, %v, want one after %d", got, err, taken)
	}
	if got := FreePort(t.Context(), "192.0.2.1", 3000); got != "0" { // not an address of this machine
		t.Errorf("got %s, want 0", got)
	}
}
