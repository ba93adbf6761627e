// Package deploy_test checks the alert rules and the dashboard. That the rules fire when they have to is tested where
// the service is, in app.
package deploy_test

import (
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"clerksync/internal/testenv/program"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

const alertsFile = "prometheus/alerts.yml"

type alert struct {
	Alert       string            `yaml:"alert"`
	Expr        string            `yaml:"expr"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

func alerts(t *testing.T) (all []alert) {
	t.Helper()
	var file struct {
		Groups []struct{ Rules []alert }
	}
	decode(t, alertsFile, &file)
	for _, g := range file.Groups {
		all = append(all, g.Rules...)
	}
	return all
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.FromSlash(name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// decode reads the one YAML document of a file.
func decode(t *testing.T, name string, into any) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(read(t, name)), into); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// TestRunbook: docs/operations.md has a section for each alert and no other alert, and each alert says how bad it is,
// what is wrong, and where its section is.
func TestRunbook(t *testing.T) {
	t.Parallel()
	var got, want []string
	for _, m := range regexp.MustCompile(`(?m)^### (Clerksync\w+)\n`).FindAllStringSubmatch(
		read(t, "../docs/operations.md"), -1) {
		want = append(want, m[1])
	}
	for _, a := range alerts(t) {
		got = append(got, a.Alert)
		section := "docs/operations.md#" + strings.ToLower(a.Alert)
		if a.Annotations["runbook_url"] != section || a.Annotations["summary"] == "" {
			t.Errorf("%s: got %v, want a summary and the runbook_url %s", a.Alert, a.Annotations, section)
		}
		if s := a.Labels["severity"]; s != "critical" && s != "warning" {
			t.Errorf("%s: the severity is %q", a.Alert, s)
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("alerts.yml has other alerts than docs/operations.md, or in another order (-documented +got):\n%s", d)
	}
}

// TestRules: promtool accepts the rules.
func TestRules(t *testing.T) {
	t.Parallel()
	promtool := program.Find(t, program.Promtool())
	cmd := exec.CommandContext(t.Context(), promtool, "check", "rules", "--lint-fatal", alertsFile)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestKnownMetrics: the alerts and the dashboard ask for metrics that there are, with labels that they have.
// docs/metrics.md is compared with a running service by another test.
func TestKnownMetrics(t *testing.T) {
	t.Parallel()
	labels := map[string][]string{}
	row := regexp.MustCompile("(?m)^\\| `(clerksync_\\w+)(?:{([\\w,]*)})?` \\| (\\w+) \\|")
	for _, m := range row.FindAllStringSubmatch(read(t, "../docs/metrics.md"), -1) {
		names := append(strings.FieldsFunc(m[2], func(r rune) bool { return r == ',' }), "job", "instance")
		if m[3] != "histogram" {
			labels[m[1]] = names
			continue
		}
		labels[m[1]+"_bucket"] = append(slices.Clone(names), "le")
		labels[m[1]+"_sum"], labels[m[1]+"_count"] = names, names
	}
	asked := 0
	for where, expr := range queries(t) {
		for _, m := range regexp.MustCompile(`(clerksync_\w+)(?:{([^}]*)})?`).FindAllStringSubmatch(expr, -1) {
			asked++
			if labels[m[1]] == nil {
				t.Errorf("%s asks for %s, which docs/metrics.md does not have", where, m[1])
			}
			for _, l := range regexp.MustCompile(`(\w+)\s*[=!]`).FindAllStringSubmatch(m[2], -1) {
				if !slices.Contains(labels[m[1]], l[1]) {
					t.Errorf("%s asks for the label %s, which %s does not have", where, l[1], m[1])
				}
			}
		}
	}
	if asked < 40 {
		t.Errorf("found %d metrics in the queries, want all", asked)
	}
}

// queries returns the queries of the alerts and of the dashboard, by where they stand.
func queries(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, a := range alerts(t) {
		all[a.Alert] = a.Expr
	}
	maps.Copy(all, panels(t))
	return all
}

// panels returns the queries of the dashboard.
func panels(t *testing.T) map[string]string {
	t.Helper()
	var dashboard struct {
		Panels []struct {
			ID          int
			Title, Type string
			GridPos     struct{ H, W, X, Y int }
			Targets     []struct{ RefID, Expr string }
		}
		Templating struct {
			List []struct {
				Name  string
				Query any
			}
		}
	}
	if err := json.Unmarshal([]byte(read(t, "grafana/clerksync.json")), &dashboard); err != nil {
		t.Fatal(err)
	}
	all, ids := map[string]string{}, map[int]bool{}
	for _, p := range dashboard.Panels {
		if g := p.GridPos; ids[p.ID] || p.Title == "" || p.Type == "" || g.W < 1 || g.H < 1 || g.X+g.W > 24 {
			t.Errorf("the panel %d %q of type %q at %+v is none", p.ID, p.Title, p.Type, g)
		}
		ids[p.ID] = true
		for _, target := range p.Targets {
			all["the panel "+p.Title+", "+target.RefID] = target.Expr
		}
	}
	for _, v := range dashboard.Templating.List {
		if q, ok := v.Query.(map[string]any); ok {
			text, _ := q["query"].(string)
			all["the variable "+v.Name] = strings.TrimSuffix(strings.TrimPrefix(text, "label_values("), ", job)")
		}
	}
	return all
}

// TestQueriesAreValid: promtool can parse every query of the dashboard.
func TestQueriesAreValid(t *testing.T) {
	t.Parallel()
	promtool := program.Find(t, program.Promtool())
	type rule struct {
		Record string `yaml:"record"`
		Expr   string `yaml:"expr"`
	}
	var rules []rule
	for _, expr := range panels(t) {
		rules = append(rules, rule{"x:x", strings.ReplaceAll(expr, "$job", "clerksync")})
	}
	text, err := yaml.Marshal(map[string]any{"groups": []any{map[string]any{"name": "dashboard", "rules": rules}}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "rules.yml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), promtool, "check", "rules", "--lint=none", file)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
