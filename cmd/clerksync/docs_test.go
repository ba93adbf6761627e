package main

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"clerksync/app"
	"clerksync/config"
	"clerksync/store/mapping"

	"github.com/google/go-cmp/cmp"
)

// TestSettingsTable: docs/settings.md has every setting once, in the order of their declaration, with its description
// and default, and no other.
func TestSettingsTable(t *testing.T) {
	t.Parallel()
	var got, want []string
	meaning := map[string]string{}
	for _, cells := range rows(t, "settings.md", "name") {
		name := code(cells[0])
		got = append(got, name+" "+code(cells[2]))
		meaning[name] = regexp.MustCompile("[`[]|\\]\\(.*?\\)").ReplaceAllString(cells[1], "") // code and links
	}
	for _, s := range config.Settings() {
		want = append(want, s.Name+" "+s.Default)
		if m := meaning[s.Name]; !strings.HasPrefix(m, s.Description) {
			t.Errorf("%s: docs/settings.md says %q, want it to begin with %q", s.Name, m, s.Description)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("docs/settings.md is not what config.go has, as name and default, in its order (-want +got):\n%s",
			diff)
	}
}

// TestSecretFilesNamed: docs/settings.md names the file variable of every secret, and no other.
func TestSecretFilesNamed(t *testing.T) {
	t.Parallel()
	_, section, _ := strings.Cut(doc(t, "settings.md"), "\nThe secrets are ")
	section, _, _ = strings.Cut(section, "\n\n")
	var want []string
	for _, s := range config.Settings() {
		if s.File != "" {
			want = append(want, "`"+s.File+"`")
		}
	}
	if diff := cmp.Diff(want, regexp.MustCompile("`\\w+`").FindAllString(section, -1)); diff != "" {
		t.Errorf("docs/settings.md names other files of secrets (-want +got):\n%s", diff)
	}
}

// TestFunctionsTable: docs/architecture.md has every function that there can be.
func TestFunctionsTable(t *testing.T) {
	t.Parallel()
	cfg, _ := config.Read([]string{
		"CLERK_SECRET_KEY=sk_test_x", "SMTP_URL=smtp://localhost", "MAIL_FROM=app@app.example",
	}, nil)
	want, err := app.FunctionIDs(cfg, appFunctions(cfg))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, cells := range rows(t, "architecture.md", "function") {
		got = append(got, code(cells[0]))
	}
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("docs/architecture.md has other functions (-want +got):\n%s", diff)
	}
}

// TestImportDiagram: docs/architecture.md draws every import from one package of the service to another, and no other
// arrow.
func TestImportDiagram(t *testing.T) {
	t.Parallel()
	node := func(pkg string) string { // as the diagram calls it
		if pkg == "cmd/clerksync" {
			return "cmd"
		}
		return path.Base(pkg)
	}
	var got, want []string
	for pkg, imports := range packages(t) {
		if strings.HasPrefix(pkg, "examples/") || strings.HasPrefix(pkg, "internal/testenv") {
			continue
		}
		for _, i := range imports {
			want = append(want, node(pkg)+" --> "+node(i))
		}
	}
	_, diagram, _ := strings.Cut(doc(t, "architecture.md"), "flowchart LR\n")
	diagram, _, _ = strings.Cut(diagram, "```")
	diagram = regexp.MustCompile(`\[[^\]]*\]`).ReplaceAllString(diagram, "") // how a node is labelled
	for line := range strings.Lines(diagram) {
		from, to, _ := strings.Cut(strings.TrimSpace(line), " --> ")
		for f := range strings.SplitSeq(from, " & ") {
			for t := range strings.SplitSeq(to, " & ") {
				got = append(got, f+" --> "+t)
			}
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("docs/architecture.md draws other imports (-want +got):\n%s", diff)
	}
}

// TestPackagesNamed: docs/architecture.md says of every package what it is for.
func TestPackagesNamed(t *testing.T) {
	t.Parallel()
	text := doc(t, "architecture.md")
	for pkg := range packages(t) {
		if !strings.HasPrefix(pkg, "internal/testenv/") && !strings.Contains(text, "\n"+pkg+"/ ") {
			t.Errorf("docs/architecture.md does not name %s", pkg)
		}
	}
}

// TestNamedTestsExist: the tests that docs, ADRs and the Makefile name are there: a page that names a test which was
// renamed promises something that nobody tests any more.
func TestNamedTestsExist(t *testing.T) {
	t.Parallel()
	root := os.DirFS(filepath.Join("..", ".."))
	there := map[string]bool{}
	var pages []string
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "node_modules" || d.Name() == ".git"):
			return fs.SkipDir
		case path.Ext(name) == ".md" && name != "CHANGELOG.md" || name == "Makefile":
			pages = append(pages, name)
		case strings.HasSuffix(name, "_test.go"):
			b, err := fs.ReadFile(root, name)
			for _, m := range regexp.MustCompile(`(?m)^func (\w+)\(`).FindAllSubmatch(b, -1) {
				there[string(m[1])] = true
			}
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range pages {
		b, err := fs.ReadFile(root, page)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range regexp.MustCompile(`\b(Test|Fuzz|Benchmark)[A-Z]\w+`).FindAllString(string(b), -1) {
			if !there[name] {
				t.Errorf("%s names %s, which is no test", page, name)
			}
		}
	}
}

// packages returns the packages of this module, without the module's name, each with those of them that it imports.
func packages(t *testing.T) map[string][]string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-f", "{{.ImportPath}} {{join .Imports \" \"}}", "./...")
	cmd.Dir = filepath.Join("..", "..")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]string{}
	for line := range strings.Lines(string(out)) {
		var ours []string
		for pkg := range strings.FieldsSeq(line) {
			if name, ok := strings.CutPrefix(pkg, "clerksync/"); ok {
				ours = append(ours, name)
			}
		}
		all[ours[0]] = ours[1:]
	}
	return all
}

// rows returns the cells of each row of the tables in a page whose first column has that title.
func rows(t *testing.T, page, title string) [][]string {
	t.Helper()
	var all [][]string
	inside := false
	for line := range strings.Lines(doc(t, page)) {
		line, ok := strings.CutPrefix(strings.TrimSpace(line), "| ")
		cells := strings.Split(strings.TrimSuffix(line, " |"), " | ")
		switch {
		case !ok:
			inside = inside && strings.HasPrefix(line, "|--")
		case inside:
			all = append(all, cells)
		default:
			inside = cells[0] == title
		}
	}
	if len(all) == 0 {
		t.Fatalf("docs/%s has no table of %s", page, title)
	}
	return all
}

// code returns what a cell begins with if that is code, else "".
func code(cell string) string {
	if m := regexp.MustCompile("^`([^`]+)`").FindStringSubmatch(cell); m != nil {
		return m[1]
	}
	return ""
}

// doc returns a page of docs.
func doc(t *testing.T, page string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "docs", page))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestSourcesTable: docs/mapping.md has every source in its order, with its kind and what it needs care for.
func TestSourcesTable(t *testing.T) {
	t.Parallel()
	sources := mapping.Sources()
	for _, name := range []string{mapping.Public, mapping.Unsafe} {
		s, _ := mapping.LookUp(name)
		s.Note += ", all of it or what is at this path"
		sources = append(sources, s)
	}
	var got, want []string
	for _, s := range sources {
		meaning, kind := s.Note, string(s.Kind)
		if s.Warn != "" {
			meaning += "; " + s.Warn
		}
		if s.Optional {
			kind += "?"
		}
		want = append(want, s.Name+": "+meaning+": "+kind)
	}
	for _, cells := range rows(t, "mapping.md", "source") {
		got = append(got, code(cells[0])+": "+cells[1]+": "+cells[2])
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("docs/mapping.md has other sources (-want +got):\n%s", diff)
	}
}

// TestMapsInDocs: the maps that docs and README show can be used as they are, and the default map is what it is.
func TestMapsInDocs(t *testing.T) {
	t.Parallel()
	found := 0
	for _, page := range []string{"mapping.md", "adopt.md", "your-app.md", "../README.md"} {
		b, err := os.ReadFile(filepath.Join("..", "..", "docs", page))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(b), -1) {
			found++
			got, err := mapping.Parse(page, []byte(m[1]))
			if err != nil {
				t.Errorf("docs/%s: %v", page, err)
				continue
			}
			if got.Collection != "users" {
				continue
			}
			got.File = ""
			for i := range got.Fields {
				got.Fields[i].Line = 0
			}
			if diff := cmp.Diff(mapping.Default(), got); diff != "" {
				t.Errorf("docs/%s: the default map is another one (-want +got):\n%s", page, diff)
			}
		}
	}
	if found < 2 {
		t.Errorf("found %d maps, want those of docs/mapping.md", found)
	}
}
