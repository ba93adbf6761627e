package status

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"clerksync/history"
	"clerksync/store"
)

const (
	// lookUpTime bounds a look-up: without an index on the field the database reads all rows for it.
	lookUpTime = 2 * time.Second
	// maxFound is how many of the users whom a look-up finds are shown.
	maxFound = 10
)

// found is what a look-up has found.
type found struct {
	Error string // why it has found nothing
	Many  []store.Row
	More  bool // there are more than in Many
	ID    string
	Row   []store.Value  // nil if there is none
	Story []history.Line // how the row became so, in words
}

// lookUp shows the row of a user, and how it became so.
func (p *Page) lookUp(w http.ResponseWriter, r *http.Request, _ visitor) {
	v := p.view(r)
	v.Query = strings.TrimSpace(r.PostForm.Get("q"))
	v.Found = p.find(r.Context(), v.Query)
	p.show(w, http.StatusOK, v)
}

// find looks for a user by id, address or user name. The errors are for the page.
func (p *Page) find(ctx context.Context, q string) *found {
	if !p.looking.TryLock() { // each may have the database read all rows
		return &found{Error: "Another look-up is still running: try again."}
	}
	defer p.looking.Unlock()
	ctx, cancel := context.WithTimeout(ctx, lookUpTime)
	defer cancel()
	f, err := p.search(ctx, q)
	switch {
	case errors.Is(err, store.ErrNoField):
		return &found{Error: "The map writes no such field: look for the user by id."}
	case ctx.Err() != nil:
		return &found{Error: fmt.Sprintf("The database took longer than %s. Perhaps the field has no index: "+
			"look for the user by id.", span(lookUpTime))}
	case err != nil:
		p.Log.WarnContext(ctx, "a look-up failed", "error", err)
		return &found{Error: "The database did not answer: try again."}
	}
	return f
}

func (p *Page) search(ctx context.Context, q string) (*found, error) {
	by := "username"
	switch {
	case q == "":
		return &found{Error: "Say whom to look for."}, nil
	case strings.HasPrefix(q, "user_"):
		return p.user(ctx, q)
	case strings.Contains(q, "@"):
		by = "primary_email"
	}
	rows, err := p.Users.Having(ctx, by, q, maxFound+1)
	switch {
	case err != nil:
		return nil, err
	case len(rows) == 0:
		return &found{Error: "No row has that. It may be of a user who is deleted: look by id."}, nil
	case len(rows) == 1 && rows[0].ID != "":
		return p.user(ctx, rows[0].ID)
	}
	f := &found{Many: rows[:min(len(rows), maxFound)], More: len(rows) > maxFound}
	return f, nil
}

// user returns the row of a user, and what is known of how it became so.
func (p *Page) user(ctx context.Context, id string) (*found, error) {
	f := &found{ID: id}
	row, err := p.Users.Get(ctx, id)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	f.Row = row.Values()
	why, err := p.History.Why(ctx, p.Users, id)
	if err != nil && !errors.Is(err, history.ErrUnknown) {
		return nil, err
	}
	f.Story = why.Lines(p.now())
	return f, nil
}

// stamp writes a time in UTC.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }
