package dev

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"clerksync/activity"
	"clerksync/functions"
	"clerksync/store"
)

// Path is where 'dev' answers 'send': a GET of Path and a svix-id tells what becomes of that event.
const Path = "/dev/events/"

// newsType is the content type of the answer: News after News.
const newsType = "application/x-ndjson"

// News is what became of an event.
type News struct {
	Words string `json:"words"` // such as "created in 0.3 s"
	Row   string `json:"row"`   // the user's row after it, "" if there is none
	Gone  bool   `json:"gone"`  // it came after the user's deletion
	More  bool   `json:"more"`  // it is tried again
	Dead  bool   `json:"dead"`  // it has failed for good
}

const (
	maxWords = 300 // bounds what is shown of an error's text, in characters
	maxID    = 60  // likewise of a user's id; Clerk's have 32
)

// words says what became of an event.
func words(e activity.Event) string {
	why := ""
	switch result := e.Result(); {
	case result == functions.Failed:
		return "dead letter: " + e.Err.Error()
	case result == functions.Retried:
		return "tried again: " + e.Err.Error()
	case e.Outcome == store.Stale:
		why = ", the row is newer"
	case e.OfDeleted():
		why = ", and stays so"
	}
	took := ""
	if !e.Received.IsZero() {
		took = fmt.Sprintf(" in %.1f s", max(0, e.Now.Sub(e.Received).Seconds())) // another process's clock
	}
	return string(e.Outcome) + took + why
}

// Print prints a line for each event until ctx ends. escape makes a text fit for a terminal.
func Print(ctx context.Context, w io.Writer, events <-chan activity.Event, escape func(string) string) {
	for {
		select {
		case e := <-events:
			line := escape(fmt.Sprintf("%s %.*s → %.*s", e.Type, maxID, e.UserID, maxWords, words(e)))
			_, _ = fmt.Fprintln(w, line) // a closed terminal ends nothing
		case <-ctx.Done():
			return
		}
	}
}

// Teller answers GET of Path and a svix-id.
type Teller struct {
	Secret   string // of Running
	Activity *activity.Activity
	Users    *store.Users
	Done     <-chan struct{}                 // 'dev' ends
	Text     func(store.Row) (string, error) // formats a row
}

// ServeHTTP answers at once, and then tells what becomes of the event until the client has enough or it is done.
func (t *Teller) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), []byte("Bearer "+t.Secret)) != 1 {
		http.Error(w, "the bearer token is not the secret in "+runningFile(), http.StatusUnauthorized)
		return
	}
	svixID, _ := strings.CutPrefix(r.URL.Path, Path)
	events, end := t.Activity.Subscribe()
	defer end()
	out := http.NewResponseController(w)
	_ = out.SetWriteDeadline(time.Time{}) // the client has a limit
	w.Header().Set("Content-Type", newsType)
	w.WriteHeader(http.StatusOK)
	_ = out.Flush() // from now on nothing is missed
	for {
		select {
		case <-r.Context().Done():
			return
		case <-t.Done:
			return
		case e := <-events:
			if e.Source.ID != svixID {
				continue
			}
			n, err := t.news(r.Context(), e)
			if err != nil || json.NewEncoder(w).Encode(n) != nil || out.Flush() != nil || !n.More {
				return
			}
		}
	}
}

func (t *Teller) news(ctx context.Context, e activity.Event) (n News, err error) {
	result := e.Result()
	n.Words, n.More, n.Dead, n.Gone = words(e), result == functions.Retried, result == functions.Failed, e.OfDeleted()
	if e.Err != nil || e.Outcome == store.Deleted {
		return n, nil
	}
	row, err := t.Users.Get(ctx, e.UserID)
	if errors.Is(err, store.ErrNotFound) { // deleted meanwhile
		return n, nil
	}
	if err == nil {
		n.Row, err = t.Text(row)
	}
	return n, err
}
