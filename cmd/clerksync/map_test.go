package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"clerksync/internal/testenv"
)

// TestChangedMap: the first command or start that writes has its map remembered, and another map, or a missing one, is
// refused until it is switched on purpose. What only looks has nothing remembered. The service says which map it has.
func TestChangedMap(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "map.yaml")
	const text = `collection: members
key: clerkId
fields:
  name: full_name
  role: {from: public_metadata.role, absent: member, when: create}
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	fake := testenv.NewClerkAPI(t)
	fake.Put(testenv.People(3)...)
	settings := good(t)
	settings["CLERK_SECRET_KEY"], settings["CLERK_API_URL"] = testenv.ClerkKey, fake.URL
	const elsewhere = " has the users in members by clerkId, with the state in clerk, but in this database they " +
		"are in users by _id, with the state in clerk: use the map"
	for i, step := range []struct {
		args      string
		mapped    bool
		out, want string
	}{
		{"backfill --dry-run", true, "3 users (nothing was written): 3 created", ""},
		{"backfill", false, "3 users: 3 created", ""},
		{"backfill --dry-run", true, "", file + elsewhere},
		{"serve", true, "", file + elsewhere},
		{"doctor", true, "ok    map        " + file + ": the collection members, by clerkId\n", "failed"},
		{"doctor", true, "FAIL  database   " + file + elsewhere, "failed"},
		{"backfill --dry-run --switch-map", true, "3 users (nothing was written): 3 created", ""},
		{"reconcile", true, "", file + elsewhere},
		{"backfill --switch-map", true, "3 users: 3 created", ""},
		{"users ensure " + testenv.People(1)[0].ID, true, `"role": "member"`, ""},
		{
			"backfill", false, "", "no map is set (CLERKSYNC_MAP, or clerksync.yaml in the working folder), which " +
				"has the users in users by _id, with the state in clerk, but in this database they are in members by " +
				"clerkId",
		},
	} {
		settings["CLERKSYNC_MAP"] = ""
		if step.mapped {
			settings["CLERKSYNC_MAP"] = file
		}
		var out bytes.Buffer
		ctx, cancel := context.WithCancel(t.Context())
		err := run(ctx, strings.Fields(step.args), environ(settings), &out, &testenv.Output{})
		cancel()
		got := ""
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(out.String(), step.out) || !strings.Contains(got, step.want) ||
			(step.want == "") != (got == "") {
			t.Errorf("step %d, %s: got %s\n%s\nwant %s\n%s", i, step.args, got, out.String(), step.want, step.out)
		}
	}
	settings["CLERKSYNC_MAP"] = file
	s := serve(t, settings)
	first, _, _ := strings.Cut(s.log.String(), "\n")
	for _, want := range []string{`"collection":"members"`, `"key":"clerkId"`, `"map":"` + file + `"`} {
		if !strings.Contains(first, want) {
			t.Errorf("the first line of the log is %s, want %s in it", first, want)
		}
	}
	for _, want := range []string{
		"map.yaml:5: role: when: create: Clerk's public_metadata.role is written when the row is made",
		"the embedded database reads the whole collection for each look-up by this key",
	} {
		if !strings.Contains(s.log.String(), want) {
			t.Errorf("the log lacks %q", want)
		}
	}
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	// The app id is compared by the service alone.
	settings["INNGEST_APP_ID"] = "another"
	if _, _, err := command(t, settings, "serve"); err == nil ||
		!strings.HasPrefix(err.Error(), "INNGEST_APP_ID is another, but the users in this database are kept by the "+
			"app clerksync: set it to that") {
		t.Errorf("got %v", err)
	}
	if _, _, err := command(t, settings, "backfill"); err != nil {
		t.Errorf("by hand: got %v", err)
	}
}

// TestRowsBehindTheMap: after a field was added to the map, doctor says how many rows lack it, and reconcile brings
// them up to it.
func TestRowsBehindTheMap(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "map.yaml")
	fake := testenv.NewClerkAPI(t)
	fake.Put(testenv.People(3)...)
	settings := good(t)
	settings["CLERK_SECRET_KEY"], settings["CLERK_API_URL"] = testenv.ClerkKey, fake.URL
	settings["CLERKSYNC_MAP"] = file
	clerksync := func(args string) string {
		out, _, _ := command(t, settings, strings.Fields(args)...) // doctor finds more
		return out
	}
	for _, step := range []struct {
		text, args, want string
		behind           bool
	}{
		{"fields: {name: full_name}\n", "backfill", "3 created", false},
		{"fields: {name: full_name, mail: primary_email}\n", "reconcile", "0 missing, 3 stale", true},
		{"", "reconcile", "0 missing, 3 stale", true}, // without the file it is the default map, in the same place
		{"", "reconcile", "0 missing, 0 stale", false},
	} {
		if step.text == "" {
			settings["CLERKSYNC_MAP"] = ""
		}
		if err := os.WriteFile(file, []byte(step.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if step.args == "reconcile" {
			got := clerksync("doctor")
			line := "warn  rows       3 are behind the map: run 'clerksync reconcile'"
			if strings.Contains(got, line) != step.behind {
				t.Errorf("%q: got\n%s\nwant %s: %v", step.text, got, line, step.behind)
			}
		}
		if got := clerksync(step.args); !strings.Contains(got, step.want) {
			t.Errorf("%q: %s: got\n%s\nwant %s", step.text, step.args, got, step.want)
		}
	}
}
