package types_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"clerksync/store/mapping"
	"clerksync/types"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"
)

var update = flag.Bool("update", false, "write what is printed to testdata")

// maps are what the output is tested with. Each has files of its name in testdata.
func maps() map[string]*mapping.Map {
	return map[string]*mapping.Map{
		"default": mapping.Default(),
		"clerkid": {Collection: "members", Key: "clerkId", State: "_clerk", Fields: []mapping.Field{
			{Path: "name", From: "full_name"},
			{Path: "image", From: "image_url"},
			{Path: "email", From: "primary_email", Absent: mapping.Absent{Null: true}},
			{Path: "handle", From: "username", Unique: true},
			{Path: "role", From: "public_metadata.role", Absent: mapping.Absent{Text: new("member")}, Create: true},
			{Path: "isActive", Value: true, Create: true},
			{Path: "createdAt", From: mapping.Now, Create: true},
			{Path: "updatedAt", From: mapping.Now},
		}},
		"dotted": {Collection: "people", Key: "clerk-id", State: "clerk", Fields: []mapping.Field{
			{Path: "profile.name.first", From: "first_name"},
			{Path: "profile.name.last", From: "last_name"},
			{Path: "contact.type", Value: "person"},
			{Path: "contact.email", From: "primary_email"},
			{Path: "profile.handle", From: "username", Unique: true},
			{Path: "type", Value: "user"},
		}},
		"every": everySource(),
	}
}

// everySource has each source in each way in which the user may lack it, and constants of each kind.
func everySource() *mapping.Map {
	m := &mapping.Map{Collection: "every", Key: "uid", State: "sync"}
	add := func(f mapping.Field) {
		f.Path = fmt.Sprintf("f%d", len(m.Fields))
		m.Fields = append(m.Fields, f)
	}
	names := []string{"public_metadata", "public_metadata.a b.\n*/\u2028", "unsafe_metadata.x"}
	for _, s := range mapping.Sources() {
		names = append(names, s.Name)
	}
	for _, name := range names {
		add(mapping.Field{From: name})
		add(mapping.Field{From: name, Absent: mapping.Absent{Null: true}})
		add(mapping.Field{From: name, Absent: mapping.Absent{Text: new("-")}})
		add(mapping.Field{From: name, Create: true})
	}
	for _, value := range []any{"a", true, int32(1), int64(1 << 40), 1.5, bson.DateTime(0), nil, bson.A{}, bson.D{}} {
		add(mapping.Field{Value: value})
	}
	return m
}

// TestOutput: what is printed for a map is the file in testdata. Run it with -update after a change, and read the diff.
func TestOutput(t *testing.T) {
	t.Parallel()
	for name, m := range maps() {
		for ext, got := range map[string]string{"js": types.Mongoose(m), "ts": types.TypeScript(m)} {
			file := filepath.Join("testdata", name+"."+ext)
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", file, diff)
			}
		}
	}
}

// TestDocs: docs/types.md shows what is printed for the map that it shows.
func TestDocs(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join("..", "docs", "types.md"))
	if err != nil {
		t.Fatal(err)
	}
	block := func(language string) string {
		_, text, _ := strings.Cut(string(page), "```"+language+"\n")
		text, _, _ = strings.Cut(text, "```")
		return text
	}
	m, err := mapping.Parse("docs/types.md", []byte(block("yaml")))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(types.Mongoose(m)+types.TypeScript(m), block("js")+block("ts")); diff != "" {
		t.Errorf("docs/types.md (-want +got):\n%s", diff)
	}
}
