package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"

	"clerksync/app"
	"clerksync/config"
	"clerksync/inbox"
	"clerksync/store"
	"clerksync/store/database"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"
)

// TestReplayOfMailPerhapsSent: nothing but a person sends a mail again that was perhaps sent, and he is told.
func TestReplayOfMailPerhapsSent(t *testing.T) {
	t.Parallel()
	settings := good(t)
	cfg, _ := config.Read(environ(settings), nil)
	db, err := app.OpenDatabase(t.Context(), cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	box := newInbox(db)
	mails := store.NewWelcomes(db)
	for user, perhaps := range map[string]bool{"a": true, "b": false, "c": true} {
		id := "msg_" + user + ":send-welcome-email"
		e := inbox.Event{
			ID: id, Name: "clerksync/replay.send-welcome-email",
			Data: json.RawMessage(`{"id":"user_` + user + `","object":"user"}`), TS: 1767603600018,
		}
		claim, err := mails.Claim(t.Context(), "user_"+user, "run")
		if err == nil && perhaps {
			err = mails.Sending(t.Context(), claim)
		}
		if err == nil {
			err = box.Fail(t.Context(), e, inbox.Failure{Function: "clerksync-send-welcome-email"})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	// the runs are long over
	old := map[string]any{"$set": map[string]any{"claimed_at": time.Now().Add(-store.ClaimLease)}}
	for _, user := range []string{"user_a", "user_b", "user_c"} {
		if _, err := db.Collection("clerksync_welcome_mails").UpdateByID(t.Context(), user, old); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct{ args, want string }{
		{
			"replay msg_a:send-welcome-email",
			"msg_a:send-welcome-email will be sent again: the mail was perhaps sent before, so the user may get " +
				"two\n",
		},
		{
			"replay --all", "2 will be sent again\nmails among them that were perhaps sent before, so that the user " +
				"may get two: 1\n",
		},
	} {
		out, _, err := command(t, settings, strings.Fields("deadletters "+step.args)...)
		if err != nil || out != step.want {
			t.Errorf("%s: printed %q, %v, want %q", step.args, out, err, step.want)
		}
	}
	if db, err = app.OpenDatabase(t.Context(), cfg, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{"user_a", "user_b", "user_c"} {
		if claim, err := store.NewWelcomes(db).Claim(t.Context(), user, "another run"); claim.State != store.Won ||
			err != nil {
			t.Errorf("the replay of the mail of %s finds %q, %v, want to send it", user, claim.State, err)
		}
	}
	if err := db.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestDeletedRise: a dead letter that may be older than the tombstone of its user is not replayed unless somebody
// insists; a deletion is, at any age.
func TestDeletedRise(t *testing.T) {
	t.Parallel()
	inngest := newFakeInngest(t)
	settings := good(t)
	settings["INNGEST_DEV"] = inngest.URL
	s := serve(t, settings)
	withRunningDatabase(t, settings, func(ctx context.Context, db *database.DB) {
		box := newInbox(db)
		const day = 24 * time.Hour
		for id, e := range map[string]struct {
			name string
			age  time.Duration
		}{
			"msg_young":    {"clerk/user.updated", 89 * day},
			"msg_created":  {"clerk/user.created", 91 * day},
			"msg_updated":  {"clerk/user.updated", 400 * day},
			"msg_deletion": {"clerk/user.deleted", 400 * day},
			"msg_1:mail":   {"clerksync/replay.mail", 400 * day}, // writes no row
		} {
			event := inbox.Event{ID: id, Name: e.name, Data: []byte(`{}`), TS: time.Now().Add(-e.age).UnixMilli()}
			if err := box.Fail(ctx, event, inbox.Failure{Error: "why"}); err != nil {
				t.Fatal(err)
			}
		}
	})
	for _, step := range []struct{ args, out, err string }{
		{"replay msg_created", "", "older than 90 days"},
		{"replay --all", "3 will be sent again", "2 were skipped"},
		{"list", "msg_updated", ""},
		{"replay msg_created --force", "msg_created will be sent again", ""},
		{"replay --all --force", "1 will be sent again", ""},
		{"list", "no dead letters", ""},
	} {
		out, _, err := command(t, settings, strings.Fields("deadletters "+step.args)...)
		if !says(err, step.err) {
			t.Errorf("%s: got %v, want %q", step.args, err, step.err)
		}
		if !strings.Contains(out, step.out) {
			t.Errorf("%s: printed\n%s, want %q", step.args, out, step.out)
		}
		if step.args == "replay --all" {
			for _, id := range []string{"msg_created", "msg_updated"} {
				if !strings.Contains(out, id+" is skipped: it happened on 20") {
					t.Errorf("it is not said that %s is skipped:\n%s", id, out)
				}
			}
		}
	}
	if err := s.stop(); err != nil {
		t.Error(err)
	}
}

// TestStrangersEventOnTheTerminal: Inngest's integration verifies nothing, and what a stranger had put into an event
// reached the operator's terminal as it was: it could clear the screen, or set the clipboard. It is printed with JSON's
// escapes, so that JSON stays that.
func TestStrangersEventOnTheTerminal(t *testing.T) {
	t.Parallel()
	settings := good(t)
	cfg, _ := config.Read(environ(settings), nil)
	db, err := app.OpenDatabase(t.Context(), cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	const evil = "x\x1b[2J\u009b2J\r\t\a\x7f\u202e\x9b" // the last is no UTF-8
	const id = "msg_" + evil
	box := newInbox(db)
	data := "{\n\t\"id\": \"user_Zoë\u009b2J\x7f\u202e\"\n}"
	// old, so that replay names it
	e := inbox.Event{ID: strings.ToValidUTF8(id, ""), Name: "clerk/user.created", Data: []byte(data)}
	why := inbox.Failure{Function: evil, RunID: evil, Error: evil + "\n"}
	other := box.Fail(t.Context(), inbox.Event{ID: "msg_other", Name: evil, Data: []byte("{}")}, why)
	if err := errors.Join(box.Fail(t.Context(), e, why), other, db.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"list"}, {"show", e.ID, "--data"}, {"replay", "--all"}} {
		name := args[0]
		out, _, err := command(t, settings, append([]string{"deadletters"}, args...)...)
		if err != nil && !errors.Is(err, inbox.ErrOld) {
			t.Error(name, err)
		}
		for _, r := range out {
			if unicode.IsControl(r) && !strings.ContainsRune("\n\t", r) || r == '\u202e' {
				t.Errorf("%s: printed %q", name, out)
				break
			}
		}
		if !strings.Contains(out, `msg_x\u001b[2J\u009b2J\u000d\u0009\u0007\u007f\u202e`) {
			t.Errorf("%s: the id is not there: %q", name, out)
		}
		if name != "show" {
			continue
		}
		_, printed, _ := strings.Cut(out, "\n\n")
		var want, got any
		if err := errors.Join(json.Unmarshal([]byte(data), &want), json.Unmarshal([]byte(printed), &got)); err != nil {
			t.Fatalf("%v in %q", err, printed)
		}
		if !strings.Contains(printed, `"id": "user_Zoë\u009b2J`) || cmp.Diff(want, got) != "" {
			t.Errorf("printed %q for the data", printed)
		}
	}
}

// TestStrangersNameOnTheTerminal: whoever signs up chooses a name, and 'users ensure' printed its C1 control characters
// and those that turn the direction of the text as they were. The row is printed with JSON's escapes for them.
func TestStrangersNameOnTheTerminal(t *testing.T) {
	t.Parallel()
	name := "Zoë\u009b2J\u202e\x1b\x7f"
	want := store.Row{Doc: bson.D{{Key: "full_name", Value: name}}}
	text, err := rowText(want)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(text, `"full_name": "Zoë\u009b2J\u202e\u001b\u007f"`) {
		t.Errorf("printed %q", text)
	}
	var got bson.D
	if err := bson.UnmarshalExtJSON([]byte(text), false, &got); err != nil || !cmp.Equal(got, want.Doc) {
		t.Errorf("got %q, %v back, want %q", got, err, want.Doc)
	}
}

// TestDeadLetters: the commands work beside a running service, on a folder too, and without it; they say what is wrong.
func TestDeadLetters(t *testing.T) {
	t.Parallel()
	inngest := newFakeInngest(t)
	settings := good(t)
	settings["INNGEST_DEV"] = inngest.URL
	s := serve(t, settings)
	withRunningDatabase(t, settings, func(ctx context.Context, db *database.DB) {
		box := newInbox(db)
		for _, id := range []string{"msg_1", "msg_2", "msg_3"} {
			e := inbox.Event{
				ID: id, Name: "clerk/user.created", Data: json.RawMessage(`{"id":"user_secret"}`),
				TS: time.Now().UnixMilli(),
			}
			f := inbox.Failure{Function: "clerksync-sync-user-from-clerk", RunID: "01J", Error: "in\x1b[2J vain"}
			if err := box.Fail(ctx, e, f); err != nil {
				t.Fatal(err)
			}
		}
	})
	clerksync := func(settings map[string]string, args string) (string, error) {
		out, _, err := command(t, settings, strings.Fields("deadletters "+args)...)
		return out, err
	}
	const lines = `(?s)^ID +EVENT +FAILED +ERROR\n`
	line := func(id string) string {
		return fmt.Sprintf(`%s +clerk/user\.created +20\d\d-\S+Z +in\\u001b\[2J vain\n`, id)
	}
	for _, step := range []struct{ args, out, err string }{
		{"list", lines + line("msg_1") + line("msg_2") + line("msg_3") + "$", ""},
		{
			"show msg_2",
			`(?s)^id +msg_2\n.*happened +20\d\d-\S+Z\n.*sent +once\n.*function +clerksync-sync-user-from-clerk\n` +
				`run +01J\nerror +in\\u001b\[2J vain\nbytes +20\n$`,
			"",
		},
		{"show msg_2 --data", `bytes +20\n\n\{"id":"user_secret"\}\n$`, ""},
		{"show msg_4", "^$", "no such dead letter: msg_4 is not among those"},
		{"replay", "^$", "say what to replay: the id of a dead letter, or --all"},
		{"replay msg_1 --all", "^$", "say what to replay"},
		{"replay msg_4", "^$", "no such dead letter"},
		{"drop msg_4", "^$", "no such dead letter"},
		{"drop msg_1", "^msg_1 is dropped: 'clerksync deadletters replay msg_1' brings it back\n$", ""},
		{"list", lines + line("msg_2") + line("msg_3") + "$", ""},
		{"list --dropped", lines + line("msg_1") + line("msg_2") + line("msg_3") + "$", ""},
		{"replay msg_1", "^msg_1 will be sent again\n$", ""},
		{"replay --all", "^2 will be sent again\n$", ""},
		{"list --dropped", "^no dead letters\n$", ""},
	} {
		out, err := clerksync(settings, step.args)
		if !regexp.MustCompile(step.out).MatchString(out) {
			t.Errorf("%s: printed\n%s, want %s", step.args, out, step.out)
		}
		if !says(err, step.err) {
			t.Errorf("%s: got %v, want %q", step.args, err, step.err)
		}
	}
	until(t, "they are sent", func() bool { return len(inngest.sent()) == 3 })
	if got := fmt.Sprintf("%s", inngest.sent()); strings.Count(got, `:replay1"`) != 3 {
		t.Errorf("sent %s, want ids that end with :replay1", got)
	}
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	if out, err := clerksync(settings, "list"); err != nil || out != "no dead letters\n" {
		t.Errorf("without the service: got %q, %v", out, err)
	}

	for want, uri := range map[string]string{
		"there is no folder": config.EmbeddedPrefix + t.TempDir() + "/none", "MONGODB_URI is not set": "",
		"MONGODB_URI is of no known kind": "postgres://h",
	} {
		if _, err := clerksync(map[string]string{"MONGODB_URI": uri}, "list"); err == nil ||
			!strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
