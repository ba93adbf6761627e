package main

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"maps"
	"regexp"
	"strings"
	"testing"
	"time"

	"clerksync/app"
	"clerksync/clerk"
	"clerksync/config"
	"clerksync/inbox"
	"clerksync/internal/testenv"
	"clerksync/store"
	"clerksync/store/database"
	"clerksync/store/mapping"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// TestKeptOfAUser: what is kept of a user is shown and exported without a key, and erased when Clerk does not have the
// user any more, with a line for each thing.
func TestKeptOfAUser(t *testing.T) {
	t.Parallel()
	fake := testenv.NewClerkAPI(t)
	people := testenv.People(3)
	ada := people[1]
	ada.LastName = "Love\u009blace\u202e"
	fake.Put(ada, people[0])
	keyless := good(t)
	maps.Copy(keyless, map[string]string{"MONGODB_URI": config.EmbeddedPrefix + t.TempDir()})
	keyed := with(keyless, map[string]string{"CLERK_SECRET_KEY": testenv.ClerkKey, "CLERK_API_URL": fake.URL})
	clerksync := func(settings map[string]string, args ...string) (string, error) {
		out, _, err := command(t, settings, args...)
		return out, err
	}
	if _, err := clerksync(keyed, "users", "erase", ada.ID); err == nil ||
		!strings.Contains(err.Error(), "set CLERK_INSTANCE_ID to it") {
		t.Errorf("before any instance is known: got %v", err)
	}
	if out, err := clerksync(keyed, "backfill"); err != nil {
		t.Fatal(out, err)
	}
	withDB := func(do func(*database.DB)) {
		t.Helper()
		cfg, err := readConfigForCommand(t.Context(), environ(keyed))
		if err != nil {
			t.Fatal(err)
		}
		db, err := app.OpenDatabase(t.Context(), cfg, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		do(db)
		if err := db.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	withDB(func(db *database.DB) {
		_, err := db.Collection("users").UpdateOne(t.Context(), database.ByID(ada.ID),
			bson.D{{Key: "$set", Value: bson.D{{Key: "plan", Value: "gold"}}}})
		if err != nil {
			t.Fatal(err)
		}
		box := newInbox(db)
		for id, e := range map[string]inbox.Event{
			"msg_1":     {Name: "clerk/user.updated", Data: ada.JSON()},
			"msg_2:crm": {Name: "clerksync/replay.crm", Data: []byte(`{"id":"` + ada.ID + `","deleted":true}`)},
			"msg_3":     {Name: "clerk/organization.created", Data: []byte(`{"created_by":"` + ada.ID + `"}`)},
		} {
			e.ID = id
			if err := box.Fail(t.Context(), e, inbox.Failure{Error: "why"}); err != nil {
				t.Fatal(err)
			}
		}
	})

	out, err := clerksync(keyless, "users", "show", ada.ID)
	events := regexp.MustCompile(`(?s)^\{\n  "_id": "` + ada.ID + `",` +
		`.*"full_name": "Ada Love\\u009blace\\u202e".*\n\}\n` +
		`msg_\S+: clerk\S+, received at \S+Z, a dead letter since \S+Z\n` +
		`msg_\S+: clerk\S+, received at \S+Z, a dead letter since \S+Z\n` +
		`history: 1 applied, 0 not applied; 'clerksync users why ` + ada.ID + `' tells it\n$`)
	if err != nil || !events.MatchString(out) || strings.Contains(out, "gold") {
		t.Errorf("show: got %s %v", out, err)
	}
	out, err = clerksync(keyless, "users", "export", ada.ID)
	var all struct {
		Row    map[string]any
		Events []any
		Naming []string `json:"named_in_events_of_others"`
	}
	if err != nil || json.Unmarshal([]byte(out), &all) != nil || all.Row["plan"] != "gold" || len(all.Events) != 2 ||
		len(all.Naming) != 1 || all.Row["full_name"] != "Ada "+ada.LastName || strings.Contains(out, "\u202e") {
		t.Errorf("export: got %s %v", out, err)
	}

	for name, tc := range map[string]struct {
		settings map[string]string
		id       string
		want     string
	}{
		"no key":         {keyless, ada.ID, "CLERK_SECRET_KEY is not set: "},
		"Clerk has her":  {keyed, ada.ID, ada.ID + ": the user is still at Clerk: delete the user there first, in "},
		"no user's id":   {keyed, "count", "count is no id of a Clerk user: "},
		"too new":        {keyed, testenv.UserID(time.Now(), 1), "younger than ten minutes"},
		"a foreign key":  {keyedAs(keyed, "CLERK_INSTANCE_ID", "ins_other"), ada.ID, "not of CLERK_INSTANCE_ID"},
		"of no instance": {keyedAs(keyed, "CLERK_SECRET_KEY", "sk_live_wrong"), ada.ID, "CLERK_SECRET_KEY"},
	} {
		if out, err := clerksync(tc.settings, "users", "erase", tc.id); err == nil ||
			!strings.Contains(err.Error(), tc.want) || out != "" {
			t.Errorf("%s: got %q, %v, want %q", name, out, err, tc.want)
		}
	}

	withDB(func(*database.DB) { // as beside the service
		if out, err := clerksync(keyless, "users", "show", ada.ID); err != nil || !events.MatchString(out) {
			t.Errorf("show beside the service: got %s %v", out, err)
		}
		if out, err := clerksync(keyed, "users", "erase", ada.ID); err == nil || out != "" ||
			!strings.Contains(err.Error(), "MONGODB_URI=embedded:DIR") {
			t.Errorf("erase beside the service: got %s %v", out, err)
		}
	})

	fake.Remove(ada.ID)
	erase := func() (string, string, error) {
		var out, log bytes.Buffer
		c := usersErase{userID: userID{id(ada.ID)}, watch: time.Second / 10}
		err := c.Run(t.Context(), env{environ: environ(keyed), stdout: &out, stderr: &log})
		return out.String(), log.String(), err
	}
	const left = `left the tombstone: the id, and that the user was deleted at \S+Z
left the deletion msg_2:crm, which has nothing but the id: a function of yours has failed to remove the user ` +
		`elsewhere: 'clerksync deadletters replay msg_2:crm'
left msg_3, which is about somebody else and names the id
out of reach: Inngest's history; .*
out of reach: logs, backups, .*
$`
	removed := regexp.MustCompile("^removed the row\nremoved 1 dead letter\nremoved the history\n" + left)
	out, log, err := erase()
	if err != nil || !removed.MatchString(out) ||
		log != "" && log != "the tombstone is new; looking once more in 0s\n" { // "" if the machine is busy
		t.Errorf("erase: got %s, log %q, %v", out, log, err)
	}
	out, _, err = erase()
	again := regexp.MustCompile("^nothing was kept but the tombstone: if you expected more, check the id\n" + left)
	if err != nil || !again.MatchString(out) {
		t.Errorf("erase again: got %s, %v", out, err)
	}
	out, err = clerksync(keyless, "users", "show", ada.ID)
	gone := regexp.MustCompile(`^no row\ndeleted: a tombstone since \S+Z\n` +
		`msg_2:crm: clerksync/replay.crm, received .*\n$`)
	if err != nil || !gone.MatchString(out) {
		t.Errorf("show after it: got %s %v", out, err)
	}
	withDB(func(db *database.DB) {
		user, err := clerk.ParseUser(ada.JSON())
		if err != nil {
			t.Fatal(err)
		}
		w := store.Write{User: user, EventTime: store.EventTime{Clerk: user.ChangedAt}}
		if got := testenv.Write(t, store.NewUsers(db, mapping.Default()), w); got != store.Deleted {
			t.Errorf("an old event: got %s", got)
		}
	})
}

func keyedAs(settings map[string]string, name, value string) map[string]string {
	settings = maps.Clone(settings)
	settings[name] = value
	return settings
}
