package e2e_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"clerksync/clerk"
	"clerksync/internal/testenv"
	"clerksync/store/database"
	"clerksync/store/embedded"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"
)

// members is the app whose documents have an ObjectID as _id, and Clerk's id in a field.
func members(t *testing.T) testenv.App {
	t.Helper()
	return testenv.Apps(t)[1]
}

// ownRow is a document of the app alone, beside those of Clerk's users.
func ownRow() bson.D {
	return bson.D{{Key: "_id", Value: "the app's"}, {Key: "name", Value: "Nobody"}, {Key: "cart", Value: bson.A{"tea"}}}
}

// keepsOwnRow checks that ownRow is as it was.
func keepsOwnRow(t *testing.T, rows *database.Collection) {
	t.Helper()
	var got bson.D
	if err := rows.FindOne(t.Context(), bson.D{{Key: "_id", Value: "the app's"}}).Decode(&got); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(ownRow(), got); d != "" {
		t.Errorf("the app's own row (-want +got):\n%s", d)
	}
}

// TestOwnCollection: webhooks and ensure keep a collection whose shape the app has chosen. A document that the app had
// made for a user keeps its _id and what the app has put there; one that is of no user is left alone.
func TestOwnCollection(t *testing.T) {
	t.Parallel()
	endToEnd(t)
	app, fake := members(t), testenv.NewClerkAPI(t)
	const token = "a-token-of-sixteen-characters"
	w := newWorld(t, options{app: app, ownDatabase: true, env: []string{
		"CLERK_SECRET_KEY=" + testenv.ClerkKey, "CLERK_API_URL=" + fake.URL, "ADMIN_TOKEN=" + token,
	}})
	rng := rand.New(rand.NewPCG(21, 22))
	histories := app.Histories(t, rng, 21)
	linked := &histories[0]
	linked.Linked = true
	rows := w.store.Collection(app.Collection)
	id := bson.NewObjectID()
	if _, err := rows.InsertMany(t.Context(), []any{
		ownRow(), append(app.Own(linked.UserID, bson.E{Key: "theme", Value: "dark"}), bson.E{Key: "_id", Value: id}),
	}); err != nil {
		t.Fatal(err)
	}
	w.deliverAll(shuffled(rng, histories[:20]), false)
	w.drained()
	wrong := testenv.CheckAll(histories[:20], func(id string) testenv.Doc { return w.row(id).Without("theme") })
	for _, d := range wrong {
		t.Error(d)
	}
	if row := w.row(linked.UserID); row != nil && (row.Text("theme") != "dark" || row.Get("_id") != id) {
		t.Errorf("the app's document of a user lost something: %v", row)
	}

	// The last one has signed up a moment ago, and no webhook has come.
	late := histories[20].Webhooks[0]
	fake.Put(late.APIUser(t))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.url+"/users/"+late.UserID+"/ensure", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var answer struct {
		ClerkID string `json:"clerkId"`
		Image   string `json:"image"`
		Phone   string `json:"phone"`
	}
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("ensure: %s, %v", res.Status, err)
	}
	row := w.row(late.UserID)
	if answer.ClerkID != late.UserID || answer.Image == "" || answer.Image != row.Text("image") ||
		answer.Phone != row.Text("phone") {
		t.Errorf("ensure answers %+v, the row is %v", answer, row)
	}
	keepsOwnRow(t, rows)
}

// TestOwnCollectionEmbedded: backfill, reconcile and ensure obey the map on the embedded database, and the map lies in
// the working folder: a field that differs is repaired, what only a creation writes and what the app has added stays as
// the app has it, and users who are gone lose their row.
func TestOwnCollectionEmbedded(t *testing.T) {
	t.Parallel()
	endToEnd(t)
	app, fake, dir := members(t), testenv.NewClerkAPI(t), t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "clerksync.yaml"), []byte(app.File), 0o600); err != nil {
		t.Fatal(err)
	}
	command := func(args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), programs.clerksync, args...)
		cmd.Dir, cmd.Env = dir, []string{
			"MONGODB_URI=embedded:data", "CLERK_SECRET_KEY=" + testenv.ClerkKey, "CLERK_API_URL=" + fake.URL,
			"CLERK_RATE_SHARE=1", "RECONCILE_MAX_DELETE=50%", "CLERK_INSTANCE_ID=" + testenv.ClerkInstance,
		}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("clerksync %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	inside := func(f func(db *database.DB)) {
		t.Helper()
		engine, err := embedded.Start(t.Context(), filepath.Join(dir, "data"), "127.0.0.1:0",
			slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		db, err := database.Connect(t.Context(), engine.URI(), "clerksync")
		if err != nil {
			t.Fatal(err)
		}
		f(db)
		if err := db.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if err := engine.Close(); err != nil {
			t.Error(err)
		}
	}
	var living []testenv.History
	for _, h := range app.Histories(t, rand.New(rand.NewPCG(23, 24)), 40) {
		if last := h.Webhooks[len(h.Webhooks)-1]; last.Type != clerk.UserDeleted {
			living = append(living, h)
			fake.Put(last.APIUser(t))
		}
	}
	check := func(db *database.DB, histories []testenv.History) {
		t.Helper()
		for _, d := range testenv.CheckAll(histories, func(id string) testenv.Doc {
			d, err := app.Find(t.Context(), db, id)
			if err != nil {
				t.Fatal(err)
			}
			return d
		}) {
			t.Error(d)
		}
	}

	if out, want := command("backfill"), fmt.Sprintf("%d created", len(living)); !strings.Contains(out, want) {
		t.Errorf("backfill: got %s, want %s", out, want)
	}
	var before, after testenv.Doc
	gone, late := living[1].UserID, living[2].UserID
	inside(func(db *database.DB) {
		check(db, living)
		rows := db.Collection(app.Collection)
		if _, err := rows.InsertOne(t.Context(), ownRow()); err != nil {
			t.Fatal(err)
		}
		change := func(id string, set bson.D) {
			if _, err := rows.UpdateOne(t.Context(), bson.D{{Key: app.Map.Key, Value: id}},
				bson.D{{Key: "$set", Value: set}}); err != nil {
				t.Fatal(err)
			}
		}
		change(living[0].UserID, bson.D{
			{Key: "image", Value: "x"},
			{Key: "role", Value: "owner"},
			{Key: "credits", Value: int32(7)},
			{Key: "createdAt", Value: bson.NewDateTimeFromTime(time.UnixMilli(1))},
		})
		if _, err := rows.DeleteOne(t.Context(), bson.D{{Key: app.Map.Key, Value: late}}); err != nil {
			t.Fatal(err)
		}
		before, _ = app.Find(t.Context(), db, living[0].UserID)
	})
	fake.Remove(gone)

	for _, want := range []string{
		"1 missing, 1 stale, 1 extra (repaired), 0 failed", "0 missing, 0 stale, 0 extra (repaired), 0 failed",
	} {
		if out := command("reconcile"); !strings.Contains(out, want) {
			t.Errorf("reconcile: got %s, want %s", out, want)
		}
	}
	inside(func(db *database.DB) {
		check(db, living[2:])
		keepsOwnRow(t, db.Collection(app.Collection))
		after, _ = app.Find(t.Context(), db, living[0].UserID)
		if d, _ := app.Find(t.Context(), db, gone); d != nil {
			t.Errorf("a user who is gone has a row: %v", d)
		}
		if _, err := db.Collection(app.Collection).DeleteOne(t.Context(),
			bson.D{{Key: app.Map.Key, Value: late}}); err != nil {
			t.Fatal(err)
		}
	})
	for _, own := range []string{"_id", "role", "credits", "createdAt"} {
		if d := cmp.Diff(before.Get(own), after.Get(own)); d != "" {
			t.Errorf("%s of a repaired row (-before +after):\n%s", own, d)
		}
	}
	if after.Text("image") == "x" {
		t.Error("the field that differed was not repaired")
	}

	if out := command("users", "ensure", late); !strings.Contains(out, `"clerkId": "`+late+`"`) {
		t.Errorf("ensure prints %s", out)
	}
	inside(func(db *database.DB) { check(db, living[2:3]) })
}
