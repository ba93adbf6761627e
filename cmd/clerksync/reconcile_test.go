package main

import (
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"clerksync/config"
	"clerksync/internal/testenv"
	"clerksync/webhook"
)

// TestBackfill: users from before get their rows; without a key, or with a wrong one, nothing is touched.
func TestBackfill(t *testing.T) {
	t.Parallel()
	fake, other := testenv.NewClerkAPI(t), testenv.NewClerkAPI(t)
	fake.Put(testenv.People(30)...)
	other.Instance = "ins_other"
	settings := map[string]string{
		"MONGODB_URI": config.EmbeddedPrefix + t.TempDir(), "CLERK_SECRET_KEY": testenv.ClerkKey,
		"CLERK_API_URL": fake.URL, "CLERK_INSTANCE_ID": testenv.ClerkInstance,
	}
	for _, step := range []struct {
		args     string
		set      map[string]string
		out, err string
	}{
		{"backfill", map[string]string{"CLERK_SECRET_KEY": ""}, "", "CLERK_SECRET_KEY is not set: set it to"},
		{
			"backfill",
			map[string]string{"CLERK_SECRET_KEY": "hunter2"},
			"",
			"CLERK_SECRET_KEY does not begin with sk_live_ or sk_test_",
		},
		{
			"backfill",
			map[string]string{"CLERK_SECRET_KEY": "sk_live_hunter2"},
			"",
			"CLERK_SECRET_KEY is not accepted (Clerk answered 401)",
		},
		{
			"backfill",
			map[string]string{"CLERK_INSTANCE_ID": "ins_other"},
			"",
			"CLERK_SECRET_KEY is of the instance ins_2e2e, not of CLERK_INSTANCE_ID",
		},
		{"backfill", map[string]string{"CLERK_API_URL": "clerk"}, "", "CLERK_API_URL is no URL"},
		{"backfill", map[string]string{"CLERK_RATE_SHARE": "2"}, "", "CLERK_RATE_SHARE is out of range: set it to"},
		{"backfill", map[string]string{"CLERK_RATE_SHARE": "half"}, "", "CLERK_RATE_SHARE cannot be read: set it to"},
		{"backfill", map[string]string{"MONGODB_URI": ""}, "", "MONGODB_URI is not set"},
		{"backfill --dry-run", nil, "30 users (nothing was written): 30 created, 0 updated", ""},
		{"backfill", nil, "30 users: 30 created, 0 updated, 0 unchanged, 0 stale, 0 deleted, 0 failed", ""},
		{"backfill --dry-run", nil, "30 users (nothing was written): 0 created, 0 updated, 30 unchanged", ""},
		{
			"backfill",
			map[string]string{"CLERK_API_URL": other.URL, "CLERK_INSTANCE_ID": ""},
			"",
			"CLERK_SECRET_KEY is of the instance ins_other, and the users here are of ins_2e2e: copy",
		},
		{
			"users ensure user_2x",
			map[string]string{"CLERK_API_URL": other.URL, "CLERK_INSTANCE_ID": ""},
			"",
			"CLERK_SECRET_KEY is of the instance ins_other, and",
		},
	} {
		out, log, err := command(t, with(settings, step.set), strings.Fields(step.args)...)
		if !strings.HasPrefix(out, step.out) || step.out == "" && out != "" {
			t.Errorf("%s %v: printed %q, want %q", step.args, step.set, out, step.out)
		}
		if !says(err, step.err) || strings.Contains(fmt.Sprint(err, out, log), "hunter2") {
			t.Errorf("%s %v: got %v, want %q", step.args, step.set, err, step.err)
		}
	}
}

// TestKeyOfAnotherInstance: the first backfill is refused a key of another instance than the webhooks were of, and the
// right key is not.
func TestKeyOfAnotherInstance(t *testing.T) {
	t.Parallel()
	right, wrong := testenv.NewClerkAPI(t), testenv.NewClerkAPI(t)
	right.Put(testenv.People(30)...)
	wrong.Put(testenv.ClerkUser{ID: "user_2stranger"})
	wrong.Instance = "ins_other"
	settings := good(t)
	maps.Copy(settings, map[string]string{"CLERK_SECRET_KEY": testenv.ClerkKey, "CLERK_API_URL": wrong.URL})
	// who tries a sample first has no instance yet
	for _, instance := range []string{webhook.SampleInstance, testenv.ClerkInstance} {
		s := serve(t, settings)
		body := fmt.Sprintf(`{"type":"session.created","instance_id":%q,"data":{}}`, instance)
		if code, text := do(t, testenv.Signed(t, s.url+"/webhooks/clerk", testenv.Secret, "msg_1", time.Now(),
			[]byte(body))); code != http.StatusNoContent {
			t.Fatalf("got %d %s, want 204", code, text)
		}
		if err := s.stop(); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{
		{"backfill"},
		{"backfill", "--dry-run"},
		{"reconcile"},
		{"users", "ensure", "user_2stranger"},
	} {
		out, _, err := command(t, settings, args...)
		if want := "CLERK_SECRET_KEY is of the instance ins_other, and the users here are of ins_2e2e: " +
			"copy"; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %q, %v, want %q", args, out, err, want)
		}
	}
	settings["CLERK_API_URL"] = right.URL
	if out, _, err := command(t, settings, "backfill"); err != nil ||
		!strings.HasPrefix(out, "30 users: 30 created, 0 updated") {
		t.Errorf("the right key: got %q, %v", out, err)
	}
}

// TestReconcile: the plan names users and fields, values only when asked; what differs is repaired, and rows are not
// removed by the dozen.
func TestReconcile(t *testing.T) {
	t.Parallel()
	fake := testenv.NewClerkAPI(t)
	people := testenv.People(30)
	fake.Put(people...)
	settings := map[string]string{
		"MONGODB_URI": config.EmbeddedPrefix + t.TempDir(), "CLERK_SECRET_KEY": testenv.ClerkKey,
		"CLERK_API_URL": fake.URL,
	}
	reconcile := func(args string, set map[string]string) (string, error) {
		out, log, err := command(t, with(settings, set), strings.Fields("reconcile "+args)...)
		if log != "" {
			t.Errorf("logged %s", log)
		}
		return out, err
	}
	if out, err := reconcile("", nil); err != nil || !strings.HasPrefix(out, "missing  user_2people") ||
		!strings.Contains(out, "30 users at Clerk, 0 rows: 30 missing, 0 stale, 0 extra (repaired), 0 failed, 0 "+
			"buried, 0 unknown; ") {
		t.Fatalf("an empty collection: got %s, %v", out, err)
	}
	people[4].Email = "new@mail.example"
	fake.Put(people[4])
	gone := []string{people[7].ID}
	fake.Remove(gone...)
	for _, step := range []struct {
		args     string
		set      map[string]string
		out, err string
	}{
		{"", map[string]string{"CLERK_SECRET_KEY": ""}, "^$", "CLERK_SECRET_KEY is not set: set it to"},
		{
			"",
			map[string]string{"CLERK_SECRET_KEY": "sk_live_hunter2"},
			"^$",
			"CLERK_SECRET_KEY is not accepted (Clerk answered 401)",
		},
		{
			"",
			map[string]string{"RECONCILE_MAX_DELETE": "all"},
			"^$",
			"RECONCILE_MAX_DELETE cannot be read: set it to a percentage",
		},
		{
			"",
			map[string]string{"RECONCILE_MAX_DELETE": "101%"},
			"^$",
			"RECONCILE_MAX_DELETE is out of range: set it to a percentage",
		},
		{
			"--dry-run", nil, `^extra    user_2people0+7\nstale    user_2people0+4  email\n29 users at Clerk, 30 ` +
				`rows: 0 missing, 1 stale, 1 extra \(nothing was written\), 0 failed, 0 buried, 0 unknown; `,
			"2 rows differ from Clerk",
		},
		{
			"--dry-run --show-values", nil,
			`stale    user_2people0+4  email "person-4@mail.example", at Clerk "new@mail.example"\n`,
			"2 rows differ from Clerk",
		},
		{
			"", nil, `^extra .*\nstale .*\n29 users at Clerk, 30 rows: 0 missing, 1 stale, 1 extra \(repaired\), 0 ` +
				`failed`, "",
		},
		{
			"", nil, `^29 users at Clerk, 29 rows: 0 missing, 0 stale, 0 extra \(repaired\), 0 failed, 0 buried, 0 ` +
				`unknown; [0-9.]+m?s\n$`, "",
		},
	} {
		out, err := reconcile(step.args, step.set)
		if !regexp.MustCompile(step.out).MatchString(out) {
			t.Errorf("%s %v: printed\n%s, want %s", step.args, step.set, out, step.out)
		}
		if !says(err, step.err) {
			t.Errorf("%s %v: got %v, want %q", step.args, step.set, err, step.err)
		}
		if differ := strings.HasPrefix(step.err, "2 rows"); differ != (exitCode(err) == 2) {
			t.Errorf("%s %v: got the exit status %d", step.args, step.set, exitCode(err))
		}
	}
	for _, p := range people[10:20] {
		fake.Remove(p.ID)
	}
	want := "the brake RECONCILE_MAX_DELETE holds: Clerk does not have the users of 10 of 29 rows, and nothing was " +
		"removed; check that CLERK_SECRET_KEY"
	if out, err := reconcile("", nil); err == nil || !strings.HasPrefix(err.Error(), want) ||
		strings.Contains(out, "extra ") {
		t.Errorf("ten are gone: got %s, %v, want %s", out, err, want)
	}
	if out, err := reconcile("", map[string]string{"RECONCILE_MAX_DELETE": "50%"}); err != nil ||
		strings.Count(out, "extra  ") != 10 {
		t.Errorf("ten may go: got %s, %v", out, err)
	}
}
