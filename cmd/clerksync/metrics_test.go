package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"clerksync/internal/testenv"
	programs "clerksync/internal/testenv/program"

	"github.com/google/go-cmp/cmp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// worked returns the metrics of a service that has had everything happen to it: webhooks of all kinds, each outcome, a
// dead letter, a run of each tier, and a mail.
func worked(t *testing.T) string {
	t.Helper()
	fake, mails := testenv.NewClerkAPI(t), testenv.NewSMTP(t, testenv.SMTPOptions{})
	now := time.Now()
	people := testenv.People(3)
	for i := range people {
		people[i].ID = testenv.UserID(now, int64(i))
		people[i].Created, people[i].Updated = now.UnixMilli(), now.UnixMilli()
	}
	people[2].Updated = now.Add(-2 * time.Hour).UnixMilli() // longer ago than the recent tier looks back
	people[2].Created = people[2].Updated
	fake.Put(people[0], people[2])
	settings := good(t)
	maps.Copy(settings, map[string]string{
		"INNGEST_DEV": newFakeInngest(t).URL, "CLERK_SECRET_KEY": testenv.ClerkKey, "CLERK_API_URL": fake.URL,
		"SMTP_URL": "smtp://" + mails.Addr + "?tls=off", "MAIL_FROM": "app@app.example", "WELCOME_UNVERIFIED": "true",
		"METRICS_ADDR": "127.0.0.1:0",
	})
	s := serve(t, settings)
	target, err := url.Parse(s.url)
	if err != nil {
		t.Fatal(err)
	}
	inngest := testenv.Executor{Handler: httputil.NewSingleHostReverseProxy(target), AppID: "clerksync"}

	n := 0
	// event posts a signed webhook without an instance, and returns what Inngest gets of it.
	event := func(typ, data string, code int) testenv.Event {
		t.Helper()
		n++
		id, ts := fmt.Sprint("msg_", n), time.Now().UnixMilli()
		body := fmt.Sprintf(`{"type":%q,"object":"event","timestamp":%d,"data":%s}`, typ, ts, data)
		hook := testenv.Signed(t, s.url+"/webhooks/clerk", testenv.Secret, id, time.Now(), []byte(body))
		if got, text := do(t, hook); got != code {
			t.Fatalf("%s: got %d %s, want %d", typ, got, text, code)
		}
		return testenv.Event{ID: id, Name: "clerk/" + typ, Data: json.RawMessage(data), TS: ts, V: "clerk-time"}
	}
	run := func(fn string, e testenv.Event, outcome string) {
		t.Helper()
		if r := inngest.Run(t, fn, e); !strings.Contains(string(r.Output)+r.Error, outcome) {
			t.Fatalf("%s: got %s %s, want %s", fn, r.Output, r.Error, outcome)
		}
	}
	ada, gone := string(people[0].JSON()), `{"id":"`+people[1].ID+`","object":"user","deleted":true}`
	older := event("user.updated", ada, 202)
	signUp := event("user.created", ada, 202)
	run("sync-user-from-clerk", signUp, "created")
	run("sync-user-from-clerk", signUp, "unchanged")
	run("update-user-from-clerk", older, "stale")
	run("send-welcome-email", signUp, "sent")
	people[0].FirstName, people[0].Updated = "Augusta", time.Now().UnixMilli()
	fake.Put(people[0])
	run("update-user-from-clerk", event("user.updated", string(people[0].JSON()), 202), "updated")
	run("delete-user-with-clerk", event("user.deleted", gone, 202), "deleted")
	run("update-user-from-clerk", event("user.updated", string(people[1].JSON()), 202), "deleted")
	bad := event("user.updated", `{"id":"","object":"user"}`, 202)
	run("update-user-from-clerk", bad, "not a Clerk user")
	failed, err := json.Marshal(map[string]any{
		"function_id": "clerksync-update-user-from-clerk", "run_id": "01J", "event": bad,
		"error": map[string]string{"message": "the data is not a user"},
	})
	if err != nil {
		t.Fatal(err)
	}
	run("mark-failed-event", testenv.Event{Name: "inngest/function.failed", Data: failed}, "looked at 1")
	event("session.created\"} 1\n", `{"id":"sess_1"}`, 204) // a type that nobody knows
	do(t, testenv.Signed(t, s.url+"/webhooks/clerk", testenv.Secret, "msg_list", time.Now(), []byte("[]")))
	do(t, request(t, http.MethodPost, s.url+"/webhooks/clerk", "{}"))
	for _, tier := range []string{"-recent", "-absent", ""} {
		timer := testenv.Event{Name: "inngest/scheduled.timer", Data: []byte("{}")}
		run("reconcile-users-with-clerk"+tier, timer, "found")
	}
	// With the first webhook that names its instance, the state of the sync is read at once, not after half a minute.
	body := fmt.Sprintf(`{"type":"user.created","timestamp":1,"instance_id":%q,"data":%s}`, testenv.ClerkInstance, ada)
	do(t, testenv.Signed(t, s.url+"/webhooks/clerk", testenv.Secret, "msg_last", time.Now(), []byte(body)))

	_, rest, _ := strings.Cut(s.log.String(), `"msg":"serving the metrics","address":"`)
	address, _, _ := strings.Cut(rest, `"`)
	text := ""
	until(t, "the runs of the tiers are shown", func() bool {
		var code int
		if code, text = do(t, request(t, http.MethodGet, "http://"+address+"/metrics", "")); code != http.StatusOK {
			t.Fatalf("got %d %s", code, text)
		}
		return strings.Contains(text, `clerksync_reconcile_last_users{kind="missing",tier="full"}`) &&
			strings.Contains(text, "\nclerksync_users ")
	})
	for _, line := range []string{
		`clerksync_outcomes_total{outcome="created",type="user.created"} 1`,
		`clerksync_outcomes_total{outcome="unchanged",type="user.created"} 1`,
		`clerksync_outcomes_total{outcome="stale",type="user.updated"} 1`,
		`clerksync_outcomes_total{outcome="updated",type="user.updated"} 1`,
		`clerksync_outcomes_total{outcome="deleted",type="user.deleted"} 1`,
		`clerksync_outcomes_total{outcome="deleted",type="user.updated"} 1`,
		`clerksync_outcomes_total{outcome="failed",type="user.updated"} 1`,
		`clerksync_webhook_to_row_seconds_count{type="user.created"} 1`, // the second time it was not in the inbox
		`clerksync_webhook_duration_seconds_count{code="204"} 1`,
		`clerksync_inbox_failed_total 1`, `clerksync_mails_total{result="sent"} 1`,
		`clerksync_reconcile_last_users{kind="missing",tier="full"} 1`,
		`clerksync_clerk_request_duration_seconds_count{endpoint="count",status="2xx"}`,
		`clerksync_database_command_duration_seconds_count{command="insert",result="ok"}`,
	} {
		if !strings.Contains(text, "\n"+line) {
			t.Errorf("the metrics lack %s", line)
		}
	}
	return text
}

// TestMetricsTable: docs/metrics.md has every metric that a service has which has worked, with its type, its labels and
// their values, and no other metric.
func TestMetricsTable(t *testing.T) {
	t.Parallel()
	documented := map[string][]string{} // values by metric and label
	for _, cells := range rows(t, "metrics.md", "label") {
		values := codes(cells[2])
		if code(cells[0]) == "reason" {
			for _, cells := range rows(t, "metrics.md", "reason") {
				values = append(values, codes(cells[0])...)
			}
		}
		for _, metric := range codes(cells[1]) {
			documented[metric+" "+code(cells[0])] = values
		}
	}
	var want []string
	for _, cells := range rows(t, "metrics.md", "name") {
		name, labels, _ := strings.Cut(strings.TrimSuffix(code(cells[0]), "}"), "{")
		split := strings.FieldsFunc(labels, func(r rune) bool { return r == ',' })
		slices.Sort(split)
		want = append(want, fmt.Sprint(name, " ", cells[1], " ", split))
		for _, label := range split {
			if documented[name+" "+label] == nil {
				t.Errorf("docs/metrics.md does not say which values the label %s of %s has", label, name)
			}
		}
	}
	p := expfmt.NewTextParser(model.UTF8Validation)
	families, err := p.TextToMetricFamilies(strings.NewReader(worked(t)))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for name, f := range families {
		if !strings.HasPrefix(name, "clerksync_") {
			continue
		}
		got = append(got, fmt.Sprint(name, " ", strings.ToLower(f.GetType().String()), " ", labelsOf(f)))
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if !slices.Contains(documented[name+" "+l.GetName()], l.GetValue()) {
					t.Errorf("docs/metrics.md does not have %s{%s=%q}", name, l.GetName(), l.GetValue())
				}
			}
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("docs/metrics.md has other metrics, types or labels (-documented +got):\n%s", diff)
	}
}

// labelsOf returns the sorted names of the labels of a metric.
func labelsOf(f *dto.MetricFamily) []string {
	names := []string{}
	for _, l := range f.GetMetric()[0].GetLabel() {
		names = append(names, l.GetName())
	}
	slices.Sort(names)
	return names
}

// codes returns all that is code in a cell.
func codes(cell string) (all []string) {
	for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cell, -1) {
		all = append(all, m[1])
	}
	return all
}

// TestPromtool: promtool finds nothing to say about the names, types and help texts of the metrics.
func TestPromtool(t *testing.T) {
	t.Parallel()
	promtool := programs.Find(t, programs.Promtool())
	text := worked(t)
	cmd := exec.CommandContext(t.Context(), promtool, "check", "metrics")
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil || len(bytes.TrimSpace(out)) > 0 {
		t.Errorf("%v\n%s", err, out)
	}
}
