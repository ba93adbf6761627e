package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"clerksync/app"
	"clerksync/functions"
	"clerksync/inbox"
	"clerksync/store/database"
)

type deadLettersCmd struct {
	List   deadLettersList   `cmd:"" help:"List them, the oldest failure first."`
	Show   deadLettersShow   `cmd:"" help:"Show all that is known of one."`
	Replay deadLettersReplay `cmd:"" help:"Have a running service send one again, or all, under new ids."`
	Drop   deadLettersDrop   `cmd:"" help:"Hide one from the list; it can still be replayed for 30 days."`
}

type deadLettersList struct {
	Dropped bool `help:"Also those that were dropped."`
	asJSON
}

// Run prints a line for each dead letter.
func (c deadLettersList) Run(ctx context.Context, e env) error {
	return withDeadLetters(ctx, e, func(_ *database.DB, d inbox.Table) error {
		all, err := d.DeadLetters(ctx, c.Dropped)
		if err != nil {
			return err
		}
		if c.JSON {
			list := deadLettersJSON{DeadLetters: []eventJSON{}}
			for _, l := range all {
				list.DeadLetters = append(list.DeadLetters, newEventJSON(l.Event, l.Failure, l.ReceivedAt, l.Sends))
			}
			return e.json(list)
		}
		if len(all) == 0 {
			_, err := fmt.Fprintln(e.stdout, "no dead letters")
			return err
		}
		w := tabwriter.NewWriter(e.stdout, 0, 0, 2, ' ', 0)
		_, _ = fmt.Fprintln(w, "ID\tEVENT\tFAILED\tERROR") // Flush returns the error
		for _, l := range all {
			_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", oneLine(l.ID), oneLine(l.Name), stamp(l.At), oneLine(l.Error))
		}
		return w.Flush()
	})
}

type deadLettersShow struct {
	ID   id   `arg:"" help:"Id of the event: the svix-id, if it came by the webhook."`
	Data bool `help:"Also the event's data, which holds what Clerk knows of the user."`
	asJSON
}

// Run prints a line for each field that has a value.
func (c deadLettersShow) Run(ctx context.Context, e env) error {
	return withDeadLetters(ctx, e, func(_ *database.DB, d inbox.Table) error {
		l, err := d.DeadLetter(ctx, string(c.ID))
		if err != nil {
			return explain(err, c.ID)
		}
		if c.JSON {
			one := newEventJSON(l.Event, l.Failure, l.ReceivedAt, l.Sends)
			if c.Data {
				one.Data = l.Data
			}
			return e.json(one)
		}
		w := tabwriter.NewWriter(e.stdout, 0, 0, 2, ' ', 0)
		for _, line := range [][2]string{
			{"id", l.ID},
			{"event", l.Name},
			{"happened", stamp(time.UnixMilli(l.TS))},
			{"received", stamp(l.ReceivedAt)},
			{"sent", times(l.Sends)},
			{"failed", stamp(l.At)},
			{"function", l.Function},
			{"run", l.RunID},
			{"error", oneLine(l.Error)},
			{"dropped", stamp(l.DroppedAt)},
			{"bytes", fmt.Sprint(len(l.Data))},
		} {
			if line[1] != "" {
				_, _ = fmt.Fprintf(w, "%s\t%s\n", line[0], oneLine(line[1])) // Flush returns the error
			}
		}
		if c.Data {
			_, _ = fmt.Fprintf(w, "\n%s\n", escaped(string(l.Data), "\n\t"))
		}
		return w.Flush()
	})
}

type deadLettersReplay struct {
	ID  id   `arg:"" optional:"" help:"Id of the event."`
	All bool `help:"All that are listed."`

	Force bool `help:"Also events over 90 days old: look first that the user was not deleted since."`
}

// Run makes dead letters pending again, so that a running service sends them.
func (c deadLettersReplay) Run(ctx context.Context, e env) error {
	if (c.ID == "") != c.All {
		return errors.New("say what to replay: the id of a dead letter, or --all")
	}
	return withDeadLetters(ctx, e, func(db *database.DB, d inbox.Table) error {
		if c.All {
			return c.all(ctx, e, db, d)
		}
		perhaps, err := functions.Replay(ctx, db, string(c.ID), c.Force)
		if err != nil {
			return explain(err, c.ID)
		}
		but := ""
		if perhaps {
			but = ": the mail was perhaps sent before, so the user may get two"
		}
		_, err = fmt.Fprintf(e.stdout, "%s will be sent again%s\n", c.ID, but)
		return err
	})
}

func (c deadLettersReplay) all(ctx context.Context, e env, db *database.DB, d inbox.Table) error {
	all, err := d.DeadLetters(ctx, false)
	if err != nil {
		return err
	}
	n, twice, old := 0, 0, 0
	for _, l := range all {
		switch perhaps, err := functions.Replay(ctx, db, l.ID, c.Force); {
		case err == nil:
			n++
			if perhaps {
				twice++
			}
		case errors.Is(err, inbox.ErrOld):
			old++
			e.say("%s is skipped: it happened on %s", oneLine(l.ID), stamp(time.UnixMilli(l.TS)))
		case !errors.Is(err, inbox.ErrNoDeadLetter): // else somebody has replayed it meanwhile
			return err
		}
	}
	e.say("%d will be sent again", n)
	if twice > 0 {
		e.say("mails among them that were perhaps sent before, so that the user may get two: %d", twice)
	}
	if old > 0 {
		return fmt.Errorf("%d were skipped: %w; drop them, or replay them with --force", old, inbox.ErrOld)
	}
	return nil
}

type deadLettersDrop struct {
	ID id `arg:"" help:"Id of the event."`
}

// Run drops a dead letter.
func (c deadLettersDrop) Run(ctx context.Context, e env) error {
	return withDeadLetters(ctx, e, func(_ *database.DB, d inbox.Table) error {
		if err := d.Drop(ctx, string(c.ID)); err != nil {
			return explain(err, c.ID)
		}
		_, err := fmt.Fprintf(e.stdout, "%s is dropped: 'clerksync deadletters replay %s' brings it back\n", c.ID, c.ID)
		return err
	})
}

// withDeadLetters calls f with the database that the settings name and its dead letters.
func withDeadLetters(ctx context.Context, e env, f func(*database.DB, inbox.Table) error) error {
	cfg, err := readConfigForCommand(ctx, e.environ)
	if err != nil {
		return err
	}
	db, err := app.OpenBeside(ctx, cfg, app.Logger(cfg, e.stderr))
	if err != nil {
		return err
	}
	return errors.Join(f(db, inbox.NewTable(db)), db.Close(ctx))
}

func explain(err error, id id) error {
	if errors.Is(err, inbox.ErrNoDeadLetter) {
		return fmt.Errorf("%w: %s is not among those that 'clerksync deadletters list' lists", err, id)
	}
	if errors.Is(err, inbox.ErrOld) {
		return fmt.Errorf("%w; look at it with 'clerksync deadletters show %s', and drop it, or replay it with --force",
			err, id)
	}
	return err
}

// stamp formats a time, and the zero time as "".
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

func times(n int) string {
	switch n {
	case 0:
		return ""
	case 1:
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

// id is the id of an event or of a user, as the operator typed it. It prints as one line of at most 300 characters.
type id string

func (i id) String() string { return oneLine(fmt.Sprintf("%.300s", string(i))) }

// oneLine makes a text that others may have written safe to print as one line.
func oneLine(s string) string { return escaped(strings.ReplaceAll(s, "\n", " "), "") }

// escaped protects the terminal from a text that others may have written. It replaces control characters, including C1,
// and those that change the direction of the text, except the characters in but. It writes them as JSON's escapes, so
// that JSON stays JSON.
func escaped(s, but string) string {
	var b strings.Builder
	for _, r := range s { // invalid UTF-8, which could be C1 on a terminal, becomes U+FFFD
		if !strings.ContainsRune(but, r) && (unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)) {
			_, _ = fmt.Fprintf(&b, `\u%04x`, r) // never fails
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}
