package e2e_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"clerksync/internal/testenv"
	"clerksync/internal/testenv/npm"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
)

// TestCourseApp: examples/express-mongoose goes from its own webhook handler to clerksync, by adopt, one backfill and
// no change to its model: its own test passes before and after, and what it keeps in its documents stays.
func TestCourseApp(t *testing.T) {
	t.Parallel()
	endToEnd(t)
	app := npm.Project(t, "../examples/express-mongoose")
	fake := testenv.NewClerkAPI(t)
	w := newWorld(t, options{
		ownDatabase: true, later: true, dir: t.TempDir(), env: askClerk(fake, testenv.ClerkKey),
	})
	node := func(args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "node", args...)
		cmd.Dir = app
		cmd.Env = append(cmd.Environ(), "MONGODB_URI="+w.uri, "MONGODB_DATABASE="+w.name)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("node %v: %v\n%s", args, err, out)
		}
	}
	node("seed.js")
	node("--test")

	user := func(first, last string) testenv.ClerkUser {
		name := strings.ToLower(first)
		return testenv.ClerkUser{
			ID: ("user_2course" + name + "00000000000000000000")[:32], Username: name, FirstName: first, LastName: last,
			Email: name + "@course.example", Created: 1767603600000, Updated: 1767603700000,
		}
	}
	ada, grace, donald := user("Ada", "King"), user("Grace", "Hopper"), user("Donald", "Knuth")
	edsger := user("Edsger", "Dijkstra")
	fake.Put(ada, grace, edsger, user("Alan", "Turing"), user("Barbara", "Liskov"), donald)
	rowOf := func(u testenv.ClerkUser) bson.M {
		t.Helper()
		var row bson.M
		err := w.store.Database.Collection("users").FindOne(t.Context(), bson.M{"clerkId": u.ID}).Decode(&row)
		if err != nil && !errors.Is(err, mongo.ErrNoDocuments) {
			t.Fatal(err)
		}
		return row
	}
	before := rowOf(ada)

	documented(t, w.command("adopt", "--write"))
	w.decide()
	documented(t, w.command("backfill"))
	after := rowOf(ada)
	wants := bson.M{
		"_id": before["_id"], "role": "educator", "creditBalance": before["creditBalance"],
		"createdAt": before["createdAt"], "lastName": "King", "username": "ada",
		"photo": "https://img.example/" + ada.ID,
	}
	for field, want := range wants {
		if got := after[field]; got != want {
			t.Errorf("after the backfill: %s is %v, want %v", field, got, want)
		}
	}
	if got := rowOf(donald); got["role"] != "student" || got["creditBalance"] != int32(10) {
		t.Errorf("got %v for the user whom no webhook brought", got)
	}
	node("--test")

	w.startService()
	grace.LastName, grace.Updated = "Murray", grace.Updated+1000
	w.deliver(changed(t, "user.updated", grace))
	w.deliver(changed(t, "user.created", user("John", "Backus")))
	_, _, deleted := life(t, edsger.ID)
	w.deliver(deleted)
	w.drained()
	if got := rowOf(grace); got["lastName"] != "Murray" || got["role"] != "student" {
		t.Errorf("got %v", got)
	}
	if rowOf(edsger) != nil {
		t.Error("a deleted user has a row")
	}
	if got := rowOf(user("John", "")); got["firstName"] != "John" {
		t.Errorf("got %v for a user who has signed up since", got)
	}
	node("--test", "--test-name-pattern", "every user|me|course")
}

// decide adds to the map what docs/course-app.md adds to it.
func (w *world) decide() {
	w.t.Helper()
	page, err := os.ReadFile("../docs/course-app.md")
	if err != nil {
		w.t.Fatal(err)
	}
	_, lines, _ := strings.Cut(string(page), "```yaml\n")
	lines, _, _ = strings.Cut(lines, "```")
	file := filepath.Join(w.dir, "clerksync.yaml")
	proposed, err := os.ReadFile(file)
	if err == nil {
		err = os.WriteFile(file, append(proposed, lines...), 0o600)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// documented checks that docs/course-app.md shows what a command printed, but for ids of documents and times.
func documented(t *testing.T, out string) {
	t.Helper()
	page, err := os.ReadFile("../docs/course-app.md")
	if err != nil {
		t.Fatal(err)
	}
	vary := regexp.MustCompile(`\b([0-9a-f]{24}|[0-9.]+m?s)\b`)
	shown := vary.ReplaceAllString(string(page), "…")
	if printed := vary.ReplaceAllString(out, "…"); !strings.Contains(shown, strings.TrimRight(printed, "\n")) {
		t.Errorf("docs/course-app.md does not show this output:\n%s", out)
	}
}
