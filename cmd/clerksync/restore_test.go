package main

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"maps"
	"regexp"
	"strings"
	"testing"
	"time"

	"clerksync/app"
	"clerksync/clerk"
	"clerksync/config"
	"clerksync/internal/testenv"
	"clerksync/store"
	"clerksync/store/database"
	"clerksync/store/mapping"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// TestBuriedAndUnknown: what no run repairs is named with what to do, by reconcile and by doctor, and the commands that
// they name do it.
func TestBuriedAndUnknown(t *testing.T) {
	t.Parallel()
	fake := testenv.NewClerkAPI(t)
	people := testenv.People(5)
	fake.Put(people...)
	ada, stranger := people[2].ID, testenv.UserID(time.Unix(1_767_603_600, 0), 1)
	settings := good(t)
	maps.Copy(settings, map[string]string{
		"MONGODB_URI": config.EmbeddedPrefix + t.TempDir(), "CLERK_SECRET_KEY": testenv.ClerkKey,
		"CLERK_API_URL": fake.URL,
	})
	clerksync := func(args ...string) (string, error) {
		out, _, err := command(t, settings, args...)
		return out, err
	}
	if out, err := clerksync("backfill"); err != nil {
		t.Fatal(out, err)
	}
	cfg, err := readConfigForCommand(t.Context(), environ(settings))
	if err != nil {
		t.Fatal(err)
	}
	db, err := app.OpenDatabase(t.Context(), cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	dead := []store.Write{{User: clerk.User{ID: ada}, Deleted: true}}
	if r := store.NewUsers(db, mapping.Default()).Write(t.Context(), dead, store.All)[0]; r.Err != nil {
		t.Fatal(r.Err)
	}
	row := bson.D{{Key: "_id", Value: stranger}, {Key: "username", Value: "stranger"}}
	if _, err := db.Collection("users").InsertOne(t.Context(), row); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(t.Context()); err != nil {
		t.Fatal(err)
	}

	const summary = "5 users at Clerk, 5 rows: 0 missing, 0 stale, 0 extra "
	expect := func(want []string, args ...string) {
		t.Helper()
		out, err := clerksync(args...)
		for _, w := range want {
			if !strings.Contains(out, w) || err != nil && args[0] != "doctor" {
				t.Errorf("%v: got %s %v, want %q", args, out, err, w)
			}
		}
	}
	named := []string{
		"unknown  " + stranger + "\n", "buried   " + ada + "\n", "'clerksync users restore ID'",
		"--remove-unknown removes them\n",
	}
	dry, err := clerksync("reconcile", "--dry-run")
	if exitCode(err) != 2 || err.Error() != "2 rows differ from Clerk" {
		t.Errorf("a dry run that finds drift: got %v, want an exit status of 2", err)
	}
	for _, w := range append(named, summary+"(nothing was written), 0 failed, 1 buried, 1 unknown; ") {
		if !strings.Contains(dry, w) {
			t.Errorf("a dry run: got %s, want %q", dry, w)
		}
	}
	expect(append(named, summary+"(repaired), 0 failed, 1 buried, 1 unknown; "), "reconcile")
	expect([]string{
		"warn  rows       " + ada + ": Clerk has the user, and here is a tombstone: 'clerksync users restore " + ada +
			"'",
		"0 extra, 1 buried, 1 unknown: 'clerksync reconcile --dry-run' names them",
	}, "doctor")
	expect([]string{"unknown  " + stranger, "they are removed\n"}, "reconcile", "--remove-unknown")

	if _, err := clerksync("users", "restore", stranger); err == nil ||
		!strings.Contains(err.Error(), "no such user at Clerk, so the tombstone is right") {
		t.Errorf("a stranger: got %v", err)
	}
	if _, err := clerksync("users", "ensure", ada); err == nil ||
		!strings.Contains(err.Error(), "clerksync users restore "+ada) {
		t.Errorf("ensure: got %v, want that it names restore", err)
	}
	var out, log bytes.Buffer
	err = usersRestore{ID: id(ada), watch: time.Second / 10}.Run(t.Context(), env{
		environ: environ(settings), stdout: &out, stderr: &log,
	})
	if err != nil || !strings.Contains(out.String(), `"_id": "`+ada+`"`) ||
		log.String() != "the row is written; looking at it for 100ms\n" {
		t.Errorf("restore: got %s %s %v", &out, &log, err)
	}
	expect([]string{"5 users at Clerk, 5 rows: 0 missing, 0 stale, 0 extra (repaired), 0 failed, 0 buried, 0 " +
		"unknown; "}, "reconcile")
	if out, _ := clerksync("doctor"); strings.Contains(out, "tombstone") {
		t.Errorf("doctor still says %s", out)
	}
}

// TestReconcileSaysWhoIsBusy: a run by hand that meets the lease of a killed one says whose it is and how long it
// waits.
func TestReconcileSaysWhoIsBusy(t *testing.T) {
	t.Parallel()
	fake := testenv.NewClerkAPI(t)
	fake.Put(testenv.People(3)...)
	settings := map[string]string{
		"MONGODB_URI": config.EmbeddedPrefix + t.TempDir(), "CLERK_SECRET_KEY": testenv.ClerkKey,
		"CLERK_API_URL": fake.URL,
	}
	cfg, err := readConfigForCommand(t.Context(), environ(settings))
	if err != nil {
		t.Fatal(err)
	}
	db, err := app.OpenDatabase(t.Context(), cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	until := time.Now().Add(3 * time.Minute)
	if _, err := database.NewCheckpoints(db).Claim(t.Context(), "reconcile_lease",
		database.Lease{Holder: "full tier, run 01JKILLED", Until: until}); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	var out, log bytes.Buffer
	ctx, cancel := context.WithCancel(t.Context())
	err = run(ctx, []string{"reconcile"}, environ(settings), &out, io.MultiWriter(&log, writer(cancel)))
	if err == nil || !strings.HasPrefix(err.Error(), "cut off") || out.Len() > 0 {
		t.Errorf("got %s, %v", &out, err)
	}
	want := regexp.MustCompile(`^another reconcile is running: full tier, run 01JKILLED, whose lease ends at ` +
		until.UTC().Format(time.TimeOnly) +
		` UTC unless it goes on; waiting for [0-9.]+m[0-9.]+s, in case it was killed\n$`)
	if !want.MatchString(log.String()) {
		t.Errorf("said %q, want %s", &log, want)
	}
}

// writer is a function that is called for each write.
type writer func()

func (w writer) Write(b []byte) (int, error) { w(); return len(b), nil }
