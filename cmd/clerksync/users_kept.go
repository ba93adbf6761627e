package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"clerksync/app"
	"clerksync/history"
	"clerksync/inbox"
	"clerksync/person"
	"clerksync/reconcile"
	"clerksync/store"
	"clerksync/store/database"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// userID is the id of a user, in the form that Clerk gives its users.
type userID struct {
	ID id `arg:"" help:"Clerk's id of the user (user_ and 27 letters and digits)."`
}

// AfterApply refuses what is no id of Clerk's: a mistyped id would be looked for in vain, or erased.
func (u userID) AfterApply() error {
	if err := person.Check(string(u.ID)); err != nil {
		return fmt.Errorf("%s is %w", u.ID, err)
	}
	return nil
}

type usersShow struct {
	userID
	asJSON
}

// Help returns the text of --help besides the flags.
func (usersShow) Help() string {
	return "It prints the fields that clerksync writes, whether the user is deleted, a line for each event " +
		"of the user that waits or has failed, and how long the history is. It asks only the database, and may run " +
		"beside the service."
}

// Run prints what there is of the user.
func (c usersShow) Run(ctx context.Context, e env) error {
	return withRecords(ctx, e, func(r person.Records) error {
		kept, err := r.Find(ctx, string(c.ID))
		if err != nil {
			return err
		}
		if kept.Nothing() {
			return fmt.Errorf("%s: %w", c.ID, person.ErrNothing)
		}
		row, err := r.Users.Get(ctx, string(c.ID))
		found := err == nil
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if c.JSON {
			return c.printJSON(e, kept, row, found)
		}
		return c.print(e, kept, row, found)
	})
}

// print prints it for people.
func (c usersShow) print(e env, kept person.Kept, row store.Row, found bool) error {
	if found {
		text, err := rowText(row)
		if err != nil {
			return err
		}
		e.say("%s", text)
		if row.Clerk.Version == "" {
			e.say("the row is the app's: clerksync has never written it")
		}
	} else {
		e.say("no row")
	}
	if kept.Deleted {
		e.say("deleted: a tombstone since %s", stamp(kept.DeletedAt))
	}
	for _, event := range kept.Events {
		e.say("%s", eventLine(event))
	}
	if past := kept.History; !past.Empty() {
		e.say("history: %d applied, %d not applied; 'clerksync users why %s' tells it",
			len(past.Applied), len(past.Skipped), c.ID)
	}
	return nil
}

// printJSON prints the same for programs.
func (c usersShow) printJSON(e env, kept person.Kept, row store.Row, found bool) error {
	u := userJSON{
		UserID: string(c.ID), DeletedAt: inUTC(kept.DeletedAt), Events: []eventJSON{},
		Applied: len(kept.History.Applied), Skipped: len(kept.History.Skipped),
	}
	if found {
		doc, err := bson.MarshalExtJSON(row.Doc, false, false)
		if err != nil {
			return err
		}
		u.Row, u.AppsOwn = doc, row.Clerk.Version == ""
	}
	for _, k := range kept.Events {
		failure := inbox.Failure{}
		if k.Failure != nil {
			failure = *k.Failure
		}
		u.Events = append(u.Events, newEventJSON(k.Event, failure, k.ReceivedAt, k.Sends))
	}
	return e.json(u)
}

// eventLine says in one line what an event of a user is and what has become of it.
func eventLine(k inbox.Kept) string {
	what := "waits"
	switch f := k.Failure; {
	case f == nil && k.Sends > 0:
		what += ", sent " + times(k.Sends)
	case f == nil:
	case f.DroppedAt.IsZero():
		what = "a dead letter since " + stamp(f.At)
	default:
		what = "a dead letter, dropped at " + stamp(f.DroppedAt)
	}
	return oneLine(fmt.Sprintf("%s: %s, received at %s, %s", k.ID, k.Name, stamp(k.ReceivedAt), what))
}

type usersExport struct{ userID }

// Help returns the text of --help besides the flags.
func (usersExport) Help() string {
	return "It prints one JSON object: the whole row, with the fields of the app too (row_fields_of_clerksync names " +
		"those that clerksync writes), when the user was deleted, the events that wait or have failed, with their " +
		"data, the note of the welcome mail, and the history. It asks only the database, and may run beside the " +
		"service. What the app keeps elsewhere, what Clerk has, and Inngest's history are not in it: see docs/gdpr.md."
}

// Run prints all that is kept of the user.
func (c usersExport) Run(ctx context.Context, e env) error {
	return withRecords(ctx, e, func(r person.Records) error {
		all, err := r.Export(ctx, string(c.ID))
		if err != nil {
			return fmt.Errorf("%s: %w", c.ID, err)
		}
		return e.json(all)
	})
}

type usersErase struct {
	userID

	watch time.Duration // 0 means restoreWatch
}

// Help returns the text of --help besides the flags.
func (usersErase) Help() string {
	return "Delete the user at Clerk first: it asks Clerk, and refuses whom Clerk has. It writes the user's " +
		"tombstone if there is none, which stays: the id, and when the user was deleted. Then it removes the whole " +
		"row, with the fields of the app too, the user's events and dead letters, the note of the welcome mail, and " +
		"the history. If the tombstone is younger than " + restoreWatch.String() + ", it waits and looks once " +
		"more, for what a function has noted that began before. It may be cut off and run again. Out of its reach " +
		"are Inngest's history, logs, backups, and what the app keeps elsewhere: see docs/gdpr.md."
}

// Run erases the user, and prints a line for everything that it removes.
func (c usersErase) Run(ctx context.Context, e env) error {
	return withClerk(ctx, e, access{}, func(db *database.DB, r *reconcile.Reconcile) error {
		if err := reconcile.CheckInstance(ctx, r.API, r.State, r.InstanceID, false); err != nil {
			return err
		}
		switch known, err := reconcile.KnowsInstance(ctx, r.State); {
		case err != nil:
			return err
		case !known && r.InstanceID == "": // a key of another instance would find none of these users
			return errors.New("no webhook and no reconcile has said yet of which Clerk instance the users here are: " +
				"set CLERK_INSTANCE_ID to it, so that a key of another one is noticed")
		}
		removed := 0
		erase := &person.Erase{
			Records: records(db, r.Users, history.New(db, 0, r.Log)), API: r.API, Watch: cmp.Or(c.watch, restoreWatch),
			Removed: func(what string) {
				removed++
				e.say("removed %s", what)
			},
			Waiting: func(d time.Duration) {
				_, _ = fmt.Fprintf(e.stderr, "the tombstone is new; looking once more in %s\n", d.Round(time.Second))
			},
		}
		left, err := erase.Run(ctx, string(c.ID))
		switch {
		case ctx.Err() != nil:
			return errors.New("cut off: run it again")
		case errors.Is(err, person.ErrClerkHas):
			return fmt.Errorf("%s: %w: delete the user there first, in its dashboard or by its API", c.ID, err)
		case errors.Is(err, person.ErrNewborn):
			return fmt.Errorf("%s: %w: run this again later", c.ID, err)
		case err != nil:
			return fmt.Errorf("%s: %w: when that is mended, run this again", c.ID, err)
		}
		if removed == 0 {
			e.say("nothing was kept but the tombstone: if you expected more, check the id")
		}
		c.left(e, left)
		return nil
	})
}

// left prints what stays, and what is out of reach.
func (usersErase) left(e env, left person.Left) {
	e.say("left the tombstone: the id, and that the user was deleted at %s", stamp(left.DeletedAt))
	for _, event := range left.Deletions {
		why := "it waits, for your own functions too, and goes when they have run"
		if event.Failure != nil {
			why = fmt.Sprintf("a function of yours has failed to remove the user elsewhere: "+
				"'clerksync deadletters replay %s'", oneLine(event.ID))
		}
		e.say("left the deletion %s, which has nothing but the id: %s", oneLine(event.ID), why)
	}
	for _, id := range left.Naming {
		e.say("left %s, which is about somebody else and names the id", oneLine(id))
	}
	e.say("out of reach: Inngest's history; in its dashboard, under Events and Runs, search for the id")
	e.say("out of reach: logs, backups, and what your app keeps elsewhere")
}

// withRecords calls f with the records of the database that the settings name.
func withRecords(ctx context.Context, e env, f func(person.Records) error) error {
	cfg, m, err := readConfigAndMap(ctx, e.environ)
	if err != nil {
		return err
	}
	log := app.Logger(cfg, e.stderr)
	db, err := app.OpenBeside(ctx, cfg, log)
	if err != nil {
		return err
	}
	if err = app.CheckMap(ctx, db, m, ""); err == nil { // with another map the row would not be found
		err = f(records(db, store.NewUsers(db, m), history.New(db, cfg.HistoryRetention, log)))
	}
	return errors.Join(err, db.Close(ctx))
}

func records(db *database.DB, users *store.Users, past *history.History) person.Records {
	return person.Records{
		Users: users, Inbox: inbox.NewTable(db), Welcomes: store.NewWelcomes(db), History: past,
		State: database.NewCheckpoints(db),
	}
}
