package deploy_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"clerksync/internal/child"
	"clerksync/internal/inngestserver"
	"clerksync/internal/testenv/program"

	"github.com/google/go-cmp/cmp"
)

// postgres is a PostgreSQL that ends with the test.
type postgres struct {
	dir string // of its programs
	to  []string
}

func startPostgres(t *testing.T) postgres {
	t.Helper()
	server := program.Find(t, program.Postgres())
	if path, err := filepath.EvalSymlinks(server); err == nil {
		server = path // its programs are beside it
	}
	data, err := os.MkdirTemp("", "postgres") // short, for the path of a socket; t.TempDir is closed to other users
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(data) })
	p := postgres{filepath.Dir(server), []string{"--host", data, "--username", "inngest", "--dbname", "postgres"}}
	initdb := exec.CommandContext(t.Context(), filepath.Join(p.dir, "initdb"), "--pgdata", filepath.Join(data, "db"),
		"--username", "inngest", "--auth", "trust", "--no-sync")
	initdb.SysProcAttr, initdb.Dir = program.Unprivileged(t, data), data
	if out, err := initdb.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	cmd := exec.Command(server, "-D", filepath.Join(data, "db"), "-c", "listen_addresses=", "-k", data, "-F")
	cmd.SysProcAttr, cmd.Dir = program.Unprivileged(t, data), data
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	running, err := child.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = running.Kill() })
	for {
		if _, err := p.psql(t, "", "--command", "SELECT 1"); err == nil {
			return p
		}
		select {
		case <-running.Done():
			t.Fatalf("PostgreSQL ended: %s\n%s", running.State(), log.String())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// psql runs psql with more arguments and the text on its standard input, and returns what it prints.
func (p postgres) psql(t *testing.T, stdin string, args ...string) (string, error) {
	t.Helper()
	all := slices.Concat([]string{"--no-psqlrc", "--quiet", "--tuples-only", "--no-align"}, p.to, args)
	cmd := exec.CommandContext(t.Context(), filepath.Join(p.dir, "psql"), all...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func (p postgres) must(t *testing.T, sql string) string {
	t.Helper()
	out, err := p.psql(t, sql, "--set", "ON_ERROR_STOP=1")
	if err != nil {
		t.Fatalf("%v\n%s\nof\n%.2000s", err, out, sql)
	}
	return out
}

// inngestTables makes the tables of the Inngest that the production file runs, by its own migrations.
func inngestTables(t *testing.T, p postgres) {
	t.Helper()
	download := exec.CommandContext(t.Context(), "go", "mod", "download", "-json",
		"github.com/inngest/inngest@"+inngestserver.Version)
	download.Dir = t.TempDir()
	out, err := download.Output()
	var module struct{ Dir string }
	if err != nil || json.Unmarshal(out, &module) != nil {
		t.Fatalf("go mod download: %v\n%s", err, out)
	}
	files, _ := filepath.Glob(filepath.Join(module.Dir, "pkg", "db", "postgres", "migrations", "*.sql"))
	if len(files) == 0 {
		t.Fatal("Inngest has no migrations where they were")
	}
	for _, file := range files { // by their numbers, as Glob sorts them
		_, up, _ := strings.Cut(read(t, file), "-- +goose Up")
		up, _, _ = strings.Cut(up, "-- +goose Down")
		p.must(t, up)
	}
}

// TestInngestRetention: of what is older than the days only what has ended goes, and nothing of what is younger. It
// runs on a PostgreSQL with the tables of the Inngest that the production file runs.
func TestInngestRetention(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it runs PostgreSQL")
	}
	p := startPostgres(t)
	inngestTables(t, p)
	const account = "00000000-0000-0000-0000-000000000000"
	event := func(id string, days int) string {
		return fmt.Sprintf(`INSERT INTO events (internal_id, received_at, event_id, event_name, event_ts)
			VALUES ('%[1]s', now() - interval '%[2]d days', '%[1]s', 'clerk/user.created', now());`, id, days)
	}
	// run is one that began on the event of its name, and ended so many days ago; if days is negative it goes on.
	run := func(id string, days int) string {
		status, ended, began := 300, fmt.Sprintf("extract(epoch FROM now() - interval '%d days') * 1000", days), days
		if days < 0 {
			status, ended, began = 200, "0", 90
		}
		sql := fmt.Sprintf(`
			INSERT INTO function_runs (run_id, run_started_at, function_version, event_id)
				VALUES ('%[1]s', now() - interval '%[5]d days', 1, '%[1]s');
			INSERT INTO history (created_at, run_started_at, function_version, run_id, event_id, idempotency_key, type,
				attempt) VALUES (now() - interval '%[5]d days', now(), 1, '%[1]s', '%[1]s', '', 'FunctionStarted', 0);
			INSERT INTO trace_runs (run_id, account_id, workspace_id, app_id, function_id, trace_id, queued_at,
				started_at, ended_at, status, source_id, trigger_ids, is_debounce)
				VALUES ('%[1]s', '%[2]s', '%[2]s', '%[2]s', '%[2]s', '', 0, 0, (%[4]s)::bigint, %[3]d, '', '', false);
			INSERT INTO spans (span_id, trace_id, name, start_time, end_time, account_id, app_id, function_id, run_id,
				env_id) VALUES ('%[1]s', '%[1]s', 'executor.run', now(), now(), '', '', '', '%[1]s', '');`,
			id, account, status, ended, began)
		if days >= 0 {
			sql += fmt.Sprintf(`INSERT INTO function_finishes (run_id, status, output, completed_step_count, created_at)
				VALUES ('%s', 'Completed', '{}', 1, now() - interval '%d days');`, id, days)
		}
		return sql
	}
	p.must(t, event("old", 40)+run("old", 40)+event("young", 5)+run("young", 5)+event("long", 90)+run("long", -1)+
		event("alone", 40)+event("young alone", 29))
	script := read(t, "inngest-retention.sql")
	for _, days := range []string{"0", "-1", "x", ""} {
		if out, err := p.psql(t, script, "--set", "days="+days); err == nil {
			t.Errorf("days=%s: it is not refused: %s", days, out)
		}
	}
	for range 2 { // the second time there is nothing to do
		out, err := p.psql(t, script, "--set", "days=30")
		if err != nil {
			t.Fatal(err, out)
		}
		got := map[string]string{}
		for table, id := range map[string]string{
			"events": "internal_id", "function_runs": "run_id", "history": "run_id", "function_finishes": "run_id",
			"trace_runs": "trim(run_id)::bytea", "spans": "run_id::bytea",
		} {
			got[table] = p.must(t, fmt.Sprintf(
				`SELECT string_agg(convert_from(%[1]s, 'UTF8'), ', ' ORDER BY %[1]s) FROM %[2]s;`, id, table))
		}
		want := map[string]string{
			"events": "long, young, young alone", "function_runs": "long, young", "history": "long, young",
			"function_finishes": "young", "trace_runs": "long, young", "spans": "long, young",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("what is left (-want +got):\n%s\n%s", diff, out)
		}
	}
}
