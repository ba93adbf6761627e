package inngestserver

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestOneVersion: what the files say of Inngest's version is the one that is tested.
func TestOneVersion(t *testing.T) {
	t.Parallel()
	root := filepath.Join("..", "..")
	docs, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	adrs, err := filepath.Glob(filepath.Join(root, "docs", "adr", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	files := slices.Concat(docs, adrs)
	for _, name := range []string{
		"README.md", "docker-compose.yml", "deploy/compose.production.yml", "Dockerfile", "Makefile", ".ci/run",
	} {
		files = append(files, filepath.Join(root, name))
	}
	var (
		// What somebody runs or installs: an image, or a package of npm, with its version or without.
		run = regexp.MustCompile(`(inngest/inngest:|(?:npx|npm install -g) inngest-cli@?)([^\s)` + "`" + `"]*)`)
		// What a sentence says: "Inngest v1.44.0", "v1.44.0 built".
		said = regexp.MustCompile(`(?:Inngest|Inngest server,?|or|with|is) (v1\.\d\d\.\d+)`)
	)
	found := map[string]int{}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name, err := filepath.Rel(root, file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range run.FindAllStringSubmatch(string(b), -1) {
			found[name]++
			if strings.TrimPrefix(m[2], "v") != release {
				t.Errorf("%s: %s, want version %s", name, m[0], release)
			}
		}
		for _, m := range said.FindAllStringSubmatch(string(b), -1) {
			found[name]++
			if m[1] != Version && m[1] != OldVersion {
				t.Errorf("%s: %s, want %s or %s", name, m[0], Version, OldVersion)
			}
		}
	}
	for _, name := range []string{"README.md", "docker-compose.yml", "deploy/compose.production.yml"} {
		if found[name] == 0 {
			t.Errorf("%s names no version", name)
		}
	}
}
