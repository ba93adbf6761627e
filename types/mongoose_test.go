package types_test

import (
	"crypto/rand"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"clerksync/clerk"
	"clerksync/internal/testenv"
	"clerksync/internal/testenv/npm"
	"clerksync/store"
	"clerksync/store/database"
	"clerksync/store/mapping"
	"clerksync/types"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// TestMongoose: each document that clerksync has written, of users as awkward as Clerk's are, and each that the app has
// made, can be loaded, validated and saved by the printed model, which changes nothing that clerksync has written, and
// lets mongoose drop none of its indexes.
func TestMongoose(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"mongoose8", "mongoose9"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			dir := npm.Project(t, filepath.Join("testdata", version))
			check, err := os.ReadFile(filepath.Join("testdata", "check.js"))
			if err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(dir, "check.js"), string(check))
			for _, d := range databases(t) {
				for name, m := range maps() {
					t.Run(d.name+" "+name, func(t *testing.T) { loadAndSave(t, dir, m, d) })
				}
			}
		})
	}
}

// testDatabase is a database that node can reach too.
type testDatabase struct {
	*database.DB
	name, uri string
	can       []string // what check.js asks
}

func databases(t *testing.T) []testDatabase {
	embedded, memory := testenv.Embedded(t), testenv.NewMemory()
	all := []testDatabase{
		{embedded, "embedded", embedded.EmbeddedURI(), []string{"arrays"}},
		{memory.Connect(t, "test", nil, nil), "memory", memory.Listen(t, func(string) int32 { return 0 }), []string{"indexes"}},
	}
	if uri := os.Getenv(testenv.MongoURI); uri != "" {
		name := "test_types_" + strings.ToLower(rand.Text()[:12])
		all = append(all, testDatabase{testenv.Connect(t, uri, name), "external", uri, []string{"indexes"}})
	}
	return all
}

func loadAndSave(t *testing.T, dir string, m *mapping.Map, d testDatabase) {
	t.Helper()
	users := store.NewUsers(d.DB, m)
	if err := users.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	rng := mathrand.New(mathrand.NewPCG(1, 2))
	for _, h := range testenv.Histories(t, rng, 40) {
		for _, hook := range h.Webhooks {
			if hook.Type == clerk.UserDeleted {
				continue
			}
			u, err := clerk.ParseUser(hook.Data)
			if err != nil {
				t.Fatal(err)
			}
			testenv.Write(t, users, store.Write{User: u, EventTime: store.EventTime{Clerk: clerk.Millis(hook.TS)}})
		}
	}
	count, err := d.Collection(m.Collection).CountDocuments(t.Context(), bson.D{})
	if err != nil {
		t.Fatal(err)
	}

	own := "  plan: String,\n"
	if slices.Contains(d.can, "arrays") {
		own += "  cart: [{ sku: Number, _id: false }],\n"
	}
	model := strings.Replace(types.Mongoose(m), "  // Fields of your own, such as\n", own, 1)
	write(t, filepath.Join(dir, "user.js"), model)
	args := append([]string{"check.js", d.uri, d.Name(), m.State}, d.can...)
	cmd := exec.CommandContext(t.Context(), "node", args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got := strings.TrimSpace(string(out)); got != strconv.FormatInt(count, 10) {
		t.Errorf("%s documents were loaded, want %d", got, count)
	}
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
