package types_test

import (
	"crypto/rand"
	"fmt"
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
	uri := memory.Listen(t, func(string) int32 { return 0 })
	all := []testDatabase{
		{embedded, "embedded", embedded.EmbeddedURI(), []string{"arrays"}},
		{memory.Connect(t, "test", nil, nil), "memory", uri, []string{"indexes"}},
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
	rows := d.Collection(m.Collection)
	if _, err := rows.InsertMany(t.Context(), appRows(m)); err != nil {
		t.Fatal(err)
	}
	for _, r := range users.Write(t.Context(), writes(t), store.All) {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	count, err := rows.CountDocuments(t.Context(), bson.D{})
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

// writes are what Clerk says of a few users: the usual awkward ones, and some with metadata of every kind of JSON.
func writes(t *testing.T) (all []store.Write) {
	t.Helper()
	say := func(data []byte, at clerk.Millis) {
		u, err := clerk.ParseUser(data)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, store.Write{User: u, EventTime: store.EventTime{Clerk: at}})
	}
	for _, h := range testenv.Histories(t, mathrand.New(mathrand.NewPCG(1, 2)), 12) {
		for _, hook := range h.Webhooks {
			if hook.Type != clerk.UserDeleted {
				say(hook.Data, clerk.Millis(hook.TS))
			}
		}
	}
	for i, metadata := range []string{
		`null`, `{}`, `{"role": null}`, `{"role": ""}`, `{"role": "admin"}`, `{"role": true}`, `{"role": 0}`,
		`{"role": -1.5}`, `{"role": 9007199254740993}`, `{"role": []}`, `{"role": {}}`, `{"role": [null, {"a": [1]}]}`,
		`{"role": {"type": "String", "deep": {"er": {}}}, "x": "y"}`, `[]`, `"text"`,
	} {
		say(fmt.Appendf(nil, `{
			"object": "user", "id": "user_metadata%d", "created_at": 1700000000000, "updated_at": 1700000000000,
			"phone_numbers": [{"id": "p", "phone_number": "+15550100"}], "banned": true, "deprovisioned": true,
			"public_metadata": %s, "unsafe_metadata": %s
		}`, i, metadata, metadata), 1700000000000)
	}
	return all
}

// appRows are documents that the app has made. Clerk's users have some of them.
func appRows(m *mapping.Map) []any {
	var all []any
	for i, row := range []bson.D{
		{},
		{{Key: "plan", Value: "free"}},
		{{Key: m.State, Value: nil}},
		{{Key: m.State, Value: "odd"}},
		{{Key: "profile", Value: nil}, {Key: "contact", Value: nil}},
		{{Key: "profile", Value: bson.D{{Key: "name", Value: nil}, {Key: "bio", Value: "b"}}}},
	} {
		if m.Key != mapping.IDField {
			all = append(all, slices.Clone(row)) // it has no id of Clerk's
		}
		all = append(all, append(bson.D{{Key: m.Key, Value: fmt.Sprint("user_app", i)}}, row...))
		all = append(all, append(bson.D{{Key: m.Key, Value: fmt.Sprint("user_metadata", i)}}, row...))
	}
	return all
}
