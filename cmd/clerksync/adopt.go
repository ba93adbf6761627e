package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"

	"clerksync/adopt"
	"clerksync/app"
	"clerksync/clerk"
)

type adoptCmd struct {
	Collection string `placeholder:"NAME" help:"The app's collection of users; without it, the one with Clerk's ids."`
	Write      bool   `help:"Write the map as clerksync.yaml into this folder."`
	Force      bool   `help:"With --write: replace a clerksync.yaml that is there."`
	ShowValues bool   `help:"Print old and new values, which are personal data, also where there is no terminal."`
}

// Help returns the text of --help besides the flags.
func (adoptCmd) Help() string {
	return "For an app that has a collection of users already. It looks at a sample of its rows, its indexes and " +
		"its validator, and with CLERK_SECRET_KEY at the rows' users at Clerk, so that a field is known by its " +
		"values and not by its name alone. It prints a map (" + app.MapFile +
		") with a reason beside each line, what will clash, and what the first backfill would change in ten rows. " +
		"Where it cannot tell, it asks. It writes nothing but, with --write, that file: nothing in the database, and " +
		"nothing at Clerk. The exit status is 1 if there is no map yet."
}

// Run prints what was found and the proposed map.
func (c adoptCmd) Run(ctx context.Context, e env) error {
	cfg, err := readConfigForCommand(ctx, e.environ)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(app.MapFile); err == nil && c.Write && !c.Force {
		return errors.New(app.MapFile + " is there already: move it away, or replace it with --write --force")
	}
	var api *clerk.API
	if cfg.SecretKey != "" {
		if api, err = app.ClerkAPI(cfg); err != nil {
			return err
		}
	}
	db, err := app.OpenBeside(ctx, cfg, slog.New(slog.DiscardHandler)) // an error that it would log is returned
	if err != nil {
		return err
	}
	r, err := adopt.Look(ctx, adopt.Options{DB: db, API: api, Collection: c.Collection})
	switch {
	case err == nil:
		c.print(e, r)
		err = c.finish(e, r.File())
	case adopt.IsForbidden(err):
		err = fmt.Errorf("%w: give the database's user the role read on %s", err, db.Name())
	case errors.As(err, new(adopt.Question)):
		err = errors.New(oneLine("question: " + err.Error()))
	}
	return errors.Join(err, db.Close(ctx))
}

// print prints all that was found.
func (c adoptCmd) print(e env, r *adopt.Report) {
	say := func(what, format string, args ...any) { e.say("%-9s  %s", what, oneLine(fmt.Sprintf(format, args...))) }
	how := "a sample of its rows"
	if r.All {
		how = "all its rows"
	}
	say("found", "%s: %d rows looked at (%s), %d of them without an id of Clerk's in %s, which stay your app's", r.Name,
		len(r.Rows), how, r.Strange, r.Map.Key)
	if len(r.Others) > 0 {
		say("found", "Clerk's ids are also in %s, which do not seem to hold the users", strings.Join(r.Others, ", "))
	}
	for _, x := range r.Indexes {
		if x.Unique && x.Name != "_id_" {
			say("found", "unique index %s on %s", x.Name, strings.Join(x.Fields, ", "))
		}
	}
	switch {
	case r.Users == nil:
		say("unsure", "fields are known by their names and the shapes of their values alone: "+
			"with CLERK_SECRET_KEY set, they are known by their values")
	case r.Matched == 0:
		say("unsure", "Clerk has none of the users of these rows, so fields are known by their names and shapes "+
			"alone: is CLERK_SECRET_KEY of another instance?")
	default:
		say("found", "Clerk has the users of %d of these rows", r.Matched)
	}
	e.say("\n%s", escaped(string(r.File()), "\n"))
	for _, q := range r.Questions {
		say("question", "%s", q)
	}
	for _, clash := range r.Clashes {
		say("clash", "%s", clash)
	}
	c.printStrays(say, r)
	c.printChanges(e, say, r)
}

// most is how many rows are listed.
const most = 10

func (c adoptCmd) printStrays(say func(what, format string, args ...any), r *adopt.Report) {
	if len(r.Strays) == 0 {
		return
	}
	var ids []string
	for _, s := range r.Strays[:min(len(r.Strays), most)] {
		id := s.Row + " (" + s.User
		if s.Own {
			id += ", who has another row"
		}
		ids = append(ids, id+")")
	}
	say("strays", "rows without an id of Clerk's that have the address of one of its users: %d. They are never "+
		"linked. If you know that one is the user's and the user has no other row, write the id into its %s before "+
		"the backfill, which makes another row otherwise. The first: %s",
		len(r.Strays), r.Map.Key, strings.Join(ids, ", "))
}

func (c adoptCmd) printChanges(e env, say func(what, format string, args ...any), r *adopt.Report) {
	if r.Matched == 0 {
		return
	}
	say("backfill", "the first one gives each of these %d rows the field %s, "+
		"and would change other fields in %d of them", r.Matched, r.Map.State, len(r.Changes))
	values := c.ShowValues || app.IsTerminal(e.stdout)
	for _, row := range r.Changes[:min(len(r.Changes), most)] {
		var fields []string
		for _, ch := range row.Fields {
			text := ch.Name
			if values {
				text += fmt.Sprintf(": %.100q → %.100q", ch.Row, ch.Clerk)
			}
			fields = append(fields, text)
		}
		say("", "%s (%s)  %s", row.Row, row.User, strings.Join(fields, ", "))
	}
	if len(r.Changes) > 0 && !values {
		say("", "the values are personal data, and printed only on a terminal or with --show-values")
	}
}

// finish writes the file if it is to, and says what comes next.
func (c adoptCmd) finish(e env, file []byte) error {
	if !c.Write {
		next := "read the map, then run this again with --write, which writes it as " + app.MapFile
		if _, err := os.Lstat(app.MapFile); err == nil {
			next = app.MapFile + " is there already and was not looked at: --write --force would replace it with " +
				"this map"
		}
		e.say("%-9s  %s", "next", next)
		return nil
	}
	if err := writeNew(file, c.Force); err != nil {
		return err
	}
	e.say("%-9s  %s", "next", app.MapFile+" is written: 'clerksync backfill --dry-run' says what it does to all rows")
	return nil
}

// writeNew writes the map as a file that must not be there, unless it may be replaced. A file that cannot be written as
// a whole is not left behind, and the one that was there stays.
func writeNew(data []byte, replace bool) error {
	const (
		name = app.MapFile
		mode = 0o644 // it holds names of fields, and nothing of a user
	)
	path, otherwise := name, ", or replace it with --write --force"
	if info, err := os.Stat(name); replace && err == nil {
		if !info.Mode().IsRegular() { // a pipe would wait for a reader
			return errors.New(name + " is a folder, or no plain file: remove it first")
		}
		path, otherwise = name+".new", ""
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	switch {
	case errors.Is(err, fs.ErrExist):
		return errors.New(path + " is there already: move it away" + otherwise)
	case err != nil:
		return fmt.Errorf("%w: run this in a folder that you may write to", err)
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err == nil && path != name {
		err = os.Rename(path, name)
	}
	if err != nil {
		_ = os.Remove(path) // what is left of it would be half a map
	}
	return err
}
