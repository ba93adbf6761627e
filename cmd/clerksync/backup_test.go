package main

import (
	"context"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"clerksync/app"
	"clerksync/config"
	"clerksync/store/database"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"
)

// recovery is a service whose database is lost.
type recovery struct {
	*around
	steps []string // the commands that were run
}

func (w *recovery) serve() {
	w.t.Helper()
	w.known.Store(false)
	w.service = serve(w.t, w.settings)
}

// step runs a command of the page, and returns what it prints.
func (w *recovery) step(line string) string {
	w.t.Helper()
	w.steps = append(w.steps, "clerksync "+line)
	out, _, err := command(w.t, w.settings, strings.Fields(line)...)
	if err != nil {
		w.t.Errorf("%s: got %s, %v", line, out, err)
	}
	return out
}

// backup returns all documents of the database.
func (w *recovery) backup() map[string][]any {
	w.t.Helper()
	all := map[string][]any{}
	w.database(func(ctx context.Context, db *database.DB) {
		names, err := db.ListCollectionNames(ctx, bson.D{})
		if err != nil {
			w.t.Fatal(err)
		}
		for _, name := range names {
			cur, err := db.Collection(name).Find(ctx, bson.D{})
			if err != nil {
				w.t.Fatal(err)
			}
			var docs []bson.D
			if err := cur.All(ctx, &docs); err != nil {
				w.t.Fatal(err)
			}
			for _, d := range docs {
				all[name] = append(all[name], w.aged(d))
			}
		}
	})
	return all
}

// aged returns a value of the database as it would be if the service had written it a day ago.
func (w *recovery) aged(v any) any {
	switch v := v.(type) {
	case bson.D:
		for i := range v {
			v[i].Value = w.aged(v[i].Value)
		}
	case bson.A:
		for i := range v {
			v[i] = w.aged(v[i])
		}
	case bson.DateTime:
		if v.Time().After(w.began.Add(-time.Minute)) { // by our clock, and not by Clerk's
			return bson.NewDateTimeFromTime(v.Time().Add(-day))
		}
	}
	return v
}

// restore makes a database that has the documents of the backup.
func (w *recovery) restore(backup map[string][]any) {
	w.t.Helper()
	w.settings["MONGODB_URI"] = config.EmbeddedPrefix + w.t.TempDir()
	cfg, err := readConfigForCommand(w.t.Context(), environ(w.settings))
	if err != nil {
		w.t.Fatal(err)
	}
	db, err := app.OpenDatabase(w.t.Context(), cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		w.t.Fatal(err)
	}
	for name, docs := range backup {
		if _, err := db.Collection(name).InsertMany(w.t.Context(), docs); err != nil {
			w.t.Fatal(err)
		}
	}
	if err := db.Close(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

// pageSteps returns the commands in the first block of docs/restore.md.
func pageSteps(t *testing.T) (steps []string) {
	t.Helper()
	page, err := os.ReadFile("../../docs/restore.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, _ := strings.Cut(string(page), "```sh\n")
	block, _, _ = strings.Cut(block, "```")
	for line := range strings.Lines(block) {
		line, _, _ = strings.Cut(line, "#")
		if line = strings.TrimSpace(line); line != "" {
			steps = append(steps, line)
		}
	}
	return steps
}

// TestRestoredFromBackup: the database is that of a backup of yesterday. Whoever does what docs/restore.md says has all
// rows as Clerk has them, and nobody gets a second welcome mail, whatever waited in the backup and whatever Clerk sends
// once more.
func TestRestoredFromBackup(t *testing.T) {
	if testing.Short() {
		t.Skip("takes four seconds")
	}
	t.Parallel()
	w := &recovery{around: newAround(t)}
	w.serve()

	// Yesterday.
	early := []string{"stays", "changes", "leaves", "left", "leaving", "caught"}
	for _, name := range append([]string{"refused"}, early...) {
		w.happen("user.created", name, day, http.StatusAccepted)
	}
	w.happen("user.deleted", "left", day, http.StatusAccepted)
	w.settled(early...)
	w.deadLetters(1)
	w.database(func(ctx context.Context, db *database.DB) {
		until(t, "all mails are noted", func() bool {
			n, err := db.Collection("clerksync_welcome_mails").CountDocuments(ctx,
				bson.D{{Key: "sent_at", Value: bson.D{{Key: "$exists", Value: true}}}})
			return err == nil && int(n) == len(early)
		})
	})
	w.away.Store(true)
	w.happen("user.created", "waits", day, http.StatusAccepted)
	w.happen("user.created", "waits-and-leaves", day, http.StatusAccepted)
	w.happen("user.deleted", "leaving", day, http.StatusAccepted)
	w.happen("user.updated", "stays", day, http.StatusAccepted)
	backup := w.backup()
	if n := len(backup["clerksync_inbox"]); n != 5 {
		t.Fatalf("the backup has %d events, want 4 that wait and a dead letter", n)
	}
	for i, d := range backup["clerksync_welcome_mails"] { // a mail was being sent: it has a claim, and no more
		claim, ok := d.(bson.D)
		if ok && claim[0].Value == w.ids["caught"] {
			backup["clerksync_welcome_mails"][i] = slices.DeleteFunc(claim, func(e bson.E) bool {
				return e.Key == "sent_at" || e.Key == "perhaps_at"
			})
		}
	}

	// Today.
	w.away.Store(false)
	w.settled("waits", "waits-and-leaves")
	if out, _, err := command(t, w.settings, "deadletters", "replay", "--all"); err != nil {
		t.Fatal(out, err)
	}
	w.happen("user.created", "new", time.Hour, http.StatusAccepted)
	w.happen("user.created", "came-and-went", time.Hour, http.StatusAccepted)
	w.settled("refused", "new", "came-and-went")
	for _, name := range []string{"leaves", "waits-and-leaves", "came-and-went"} {
		w.happen("user.deleted", name, time.Minute, http.StatusAccepted)
	}
	w.happen("user.updated", "changes", time.Minute, http.StatusAccepted)
	w.settled()

	// The database is lost, and what the page says is done.
	if err := w.service.stop(); err != nil {
		t.Fatal(err)
	}
	w.settings["WELCOME_SINCE"] = time.Now().UTC().Format(time.RFC3339)
	w.restore(backup)
	w.happen("user.created", "comes-meanwhile", 0, 0)
	w.step("reconcile")
	w.serve()
	w.settled()
	w.again()
	w.settled("comes-meanwhile")
	if out := w.step("deadletters list"); !strings.Contains(out, ":send-welcome-email") {
		t.Errorf("the dead letters: got %q, want the mail that was replayed since", out)
	}
	w.step("deadletters replay --all")
	w.settled()
	if err := w.service.stop(); err != nil { // for the embedded database
		t.Fatal(err)
	}
	if out := w.step("reconcile"); !strings.Contains(out, " 0 missing, 0 stale, 2 extra (repaired)") {
		t.Errorf("the second reconcile: got %s, want that it removes who left and came back", out)
	}
	out := w.step("reconcile --dry-run")
	if want := "7 users at Clerk, 7 rows: 0 missing, 0 stale, 0 extra (nothing was written), 0 failed, 0 buried, " +
		"0 unknown"; !strings.HasPrefix(out, want) {
		t.Errorf("in the end: got %s, want %s", out, want)
	}
	for name, n := range w.mailed() {
		if n != 1 {
			t.Errorf("%s has got %d mails, want one", name, n)
		}
	}
	if d := cmp.Diff(pageSteps(t), w.steps); d != "" {
		t.Errorf("the commands of docs/restore.md are not those of this test (-page +test):\n%s", d)
	}
}
