package dev

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"clerksync/clerk"
	"clerksync/store"
)

// demoWait is how long a row may take; a run takes a quarter of a second.
const demoWait = 30 * time.Second

// Demo posts three webhooks of one user to hook and prints the row after each, as text makes it. It fails if a row is
// not as Clerk has the user.
func Demo(
	ctx context.Context, w io.Writer, users *store.Users, hook, secret string, text func(store.Row) (string, error),
) error {
	id := "user_2demo" + rand.Text()[:22]
	for _, step := range []struct {
		typ, title string
		want       store.Row // an empty one means that there must be no row
	}{
		{clerk.UserCreated, "Ada signs up", store.Row{
			Email: "ada@example.com", FullName: "Ada Lovelace", ProfilePicture: "https://img.clerk.com/c2FtcGxlLWFkYQ",
		}},
		{clerk.UserUpdated, "Ada marries and changes her picture", store.Row{
			Email: "ada@example.com", FullName: "Ada King", ProfilePicture: "https://img.clerk.com/c2FtcGxlLWFkYS0y",
		}},
		{typ: clerk.UserDeleted, title: "Ada deletes her account"},
	} {
		event, err := Sample(step.typ, "ada", id)
		if err != nil {
			return err
		}
		status, answer, err := Post(ctx, hook, secret, event)
		if err != nil {
			return fmt.Errorf("demo: %w", err)
		}
		if _, err := fmt.Fprintf(w, "\n%s: %s → %d\n", step.title, step.typ, status); err != nil {
			return err
		}
		if status != http.StatusAccepted {
			return fmt.Errorf("demo: the webhook was answered %d %s", status, answer)
		}
		row, found, err := waitFor(ctx, users, id, step.want)
		line := "(no row)"
		if found {
			line, err = text(row)
		}
		if err != nil {
			return fmt.Errorf("demo: after %s: %w", step.typ, err)
		}
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintln(w, "\nAll three rows are as Clerk has the user.")
	return err
}

// waitFor reads the row until it has what the demo's event has, or is gone if that has nothing.
func waitFor(ctx context.Context, users *store.Users, id string, want store.Row) (r store.Row, found bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, demoWait)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		r, err = users.Get(ctx, id)
		right := r.Email == want.Email && r.FullName == want.FullName && r.ProfilePicture == want.ProfilePicture
		switch gone := errors.Is(err, store.ErrNotFound); {
		case err != nil && !gone:
			return r, false, err
		case gone && want.Email == "":
			return r, false, nil
		case !gone && right && r.Username != "":
			return r, true, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return r, false, errors.New("the row did not become right in time")
		}
	}
}
