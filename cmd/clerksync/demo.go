package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"clerksync/clerk"
	"clerksync/internal/dev"
	"clerksync/store"
)

// demoWait is how long a row may take; a run takes a quarter of a second.
const demoWait = 30 * time.Second

// demo plays three webhooks of one user and prints the row after each. It fails if a row is not as Clerk has the user.
func demo(ctx context.Context, w io.Writer, users *store.Users, hook, secret string) error {
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
		event, err := dev.Sample(step.typ, "ada", id)
		if err != nil {
			return err
		}
		status, text, err := dev.Post(ctx, hook, secret, event)
		if err != nil {
			return fmt.Errorf("demo: %w", err)
		}
		if _, err := fmt.Fprintf(w, "\n%s: %s → %d\n", step.title, step.typ, status); err != nil {
			return err
		}
		if status != http.StatusAccepted {
			return fmt.Errorf("demo: the webhook was answered %d %s", status, text)
		}
		row, err := waitFor(ctx, users, id, step.want)
		if err != nil {
			return fmt.Errorf("demo: after %s: %w", step.typ, err)
		}
		if _, err := fmt.Fprintln(w, row); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintln(w, "\nAll three rows are as Clerk has the user.")
	return err
}

// waitFor reads the row until it has what the demo's events have, or is gone if they have nothing, and returns it as
// text.
func waitFor(ctx context.Context, users *store.Users, id string, want store.Row) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, demoWait)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		r, err := users.Get(ctx, id)
		right := r.Email == want.Email && r.FullName == want.FullName && r.ProfilePicture == want.ProfilePicture
		switch gone := errors.Is(err, store.ErrNotFound); {
		case err != nil && !gone:
			return "", err
		case gone && want.Email == "":
			return "(no row)", nil
		case !gone && right && r.Username != "":
			return rowText(r)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return "", errors.New("the row did not become right in time")
		}
	}
}
