package deploy_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"clerksync/internal/child"
	"clerksync/internal/testenv"
	"clerksync/internal/testenv/program"

	"github.com/google/go-cmp/cmp"
)

// composed is what the tests ask of a service in compose.production.yml.
type composed struct {
	Image       string
	Restart     string
	Entrypoint  []string
	Command     []string
	Environment map[string]string
	Secrets     []string
	Ports       []string
	HealthCheck struct{ Test []string }
	Logging     any
}

type production struct {
	Services map[string]composed
	Secrets  map[string]struct{ File string }
	Configs  map[string]struct{ Content string }
}

func readProduction(t *testing.T) (p production) {
	t.Helper()
	decode(t, "compose.production.yml", &p)
	return p
}

// makeSecrets has secrets.sh make a folder of secrets, and writes the two that are a person's.
func makeSecrets(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	folder := filepath.Join(dir, "clerk_secret_key") // as Docker makes where a file to mount is missing
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "bash", "secrets.sh", dir)
	out, err := cmd.CombinedOutput()
	const want = "write %/clerk_webhook_signing_secret: the endpoint's Signing Secret, whsec_…, " +
		"from Clerk's dashboard (Webhooks)\n" +
		"write %/clerk_secret_key: the secret key of Clerk's API, sk_live_…, from Clerk's dashboard (API keys)\n"
	if got := strings.ReplaceAll(string(out), dir, "%"); err == nil || got != want {
		t.Fatalf("secrets.sh without Clerk's two: %v\n%s", err, cmp.Diff(want, got))
	}
	if err := os.Remove(folder); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"clerk_webhook_signing_secret", "clerk_secret_key"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("from Clerk\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestSecretsAfterAccidents: what a run that was cut off has left is no obstacle, nothing goes elsewhere, and nothing
// is made of what is no secret.
func TestSecretsAfterAccidents(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	script, err := filepath.Abs("secrets.sh")
	if err != nil {
		t.Fatal(err)
	}
	run := func(folder string) string {
		cmd := exec.CommandContext(t.Context(), "bash", script, folder)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "CDPATH="+filepath.Join(dir, "elsewhere"))
		out, err := cmd.CombinedOutput()
		if err == nil {
			t.Fatalf("secrets.sh %s did not fail:\n%s", folder, out)
		}
		return strings.ReplaceAll(string(out), dir, "%")
	}
	for _, folder := range []string{"cut off", "elsewhere/cut off", "docker/mongo_password"} {
		if err := os.MkdirAll(filepath.Join(dir, folder), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	// What nobody can write to, not even root.
	if err := os.Symlink("nowhere/x", filepath.Join(dir, "cut off", ".admin_token")); err != nil {
		t.Fatal(err)
	}
	if got := run("cut off"); strings.Count(got, "\n") != 2 || strings.Count(got, "write %/cut off/clerk_") != 2 {
		t.Errorf("after a run that was cut off: got\n%s\nwant that Clerk's two are missing", got)
	}
	if got := readDir(t, filepath.Join(dir, "elsewhere", "cut off")); len(got) > 0 {
		t.Errorf("elsewhere it has made %v", got)
	}
	if got, want := run("docker"), "remove %/docker/mongo_password: it is no file, or it is empty\n"; got != want {
		t.Errorf("with a folder for a password: got %q, want %q", got, want)
	}
	if _, err := os.Stat(filepath.Join(dir, "docker", "mongodb_uri")); err == nil {
		t.Error("it has made mongodb_uri without the password")
	}
}

// TestComposeSecrets: secrets.sh makes exactly the files that the production file names, keeps them at the next run,
// and lets nobody else on the machine read them.
func TestComposeSecrets(t *testing.T) {
	t.Parallel()
	dir := makeSecrets(t)
	before := map[string]string{}
	for name := range readDir(t, dir) {
		before[name] = read(t, filepath.Join(dir, name))
	}
	out, err := exec.CommandContext(t.Context(), "bash", "secrets.sh", dir).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Fatalf("secrets.sh with all of them: %v\n%s", err, out)
	}
	after := readDir(t, dir)
	p := readProduction(t)
	want := slices.Sorted(maps.Keys(p.Secrets))
	if d := cmp.Diff(want, slices.Sorted(maps.Keys(after))); d != "" {
		t.Errorf("the files of secrets.sh (-named in the production file +made):\n%s", d)
	}
	for name, mode := range after {
		if mode != 0o444 {
			t.Errorf("%s has the mode %o, want 444: the users in the containers read it", name, mode)
		}
		if s := read(t, filepath.Join(dir, name)); s != before[name] || len(s) < 11 {
			t.Errorf("%s was %q and is now %q", name, before[name], s)
		}
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder: %v %v, want the mode 700", info.Mode(), err)
	}
	uri := "mongodb://clerksync:" + before["mongo_password"] + "@mongo:27017/clerksync?replicaSet=rs0"
	if before["mongodb_uri"] != uri {
		t.Errorf("mongodb_uri is %q, want %q", before["mongodb_uri"], uri)
	}
	if !regexp.MustCompile(`^[0-9a-f]{64}$`).MatchString(before["inngest_signing_key"]) {
		t.Errorf("inngest_signing_key is %q, want hexadecimal digits", before["inngest_signing_key"])
	}
	if k := before["mongo_keyfile"]; !regexp.MustCompile(`^[A-Za-z0-9+/]{6,}$`).MatchString(k) || len(k) > 1024 {
		t.Errorf("mongo_keyfile has %d characters; mongod takes 6 to 1024 of base64", len(k))
	}
	for name, s := range p.Secrets {
		if s.File != "secrets/"+name {
			t.Errorf("the secret %s is the file %s", name, s.File)
		}
	}
}

// readDir returns the modes of the files in a folder.
func readDir(t *testing.T, dir string) map[string]os.FileMode {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	modes := map[string]os.FileMode{}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		modes[e.Name()] = info.Mode().Perm()
	}
	return modes
}

// TestComposeServices: every service is there again after a crash and says whether it is healthy, images have versions,
// only Caddy is open to the machine, and secrets come from files that there are.
func TestComposeServices(t *testing.T) {
	t.Parallel()
	p := readProduction(t)
	settings := read(t, "../docs/settings.md")
	image := regexp.MustCompile(
		`^(inngest/inngest:v\d+\.\d+\.\d+|[a-z]+:\d+\.\d+(\.\d+)?@sha256:[0-9a-f]{64}|\$\{CLERKSYNC_IMAGE:\?.*})$`)
	used := map[string]bool{}
	for name, s := range p.Services {
		if s.Restart != "unless-stopped" || len(s.HealthCheck.Test) == 0 || s.Logging == nil {
			t.Errorf("%s: restart %q, health check %q, logging %v", name, s.Restart, s.HealthCheck.Test, s.Logging)
		}
		if !image.MatchString(s.Image) {
			t.Errorf("%s: the image is %s, want a version", name, s.Image)
		}
		if (len(s.Ports) > 0) != (name == "caddy") {
			t.Errorf("%s: its ports on the machine are %v", name, s.Ports)
		}
		for _, secret := range s.Secrets {
			used[secret] = true
		}
		environment := slices.Sorted(maps.Values(s.Environment))
		text := strings.Join(slices.Concat(s.Command, s.HealthCheck.Test, environment), "\n")
		if s.Image == p.Services["mongo"].Image {
			text += p.Configs["mongo_user"].Content
		}
		for _, m := range regexp.MustCompile(`/run/secrets/(\w+)`).FindAllStringSubmatch(text, -1) {
			if !slices.Contains(s.Secrets, m[1]) {
				t.Errorf("%s reads %s, which is not among its secrets %v", name, m[0], s.Secrets)
			}
		}
		for _, secret := range s.Secrets {
			if !strings.Contains(text, "/run/secrets/"+secret) {
				t.Errorf("%s does not read its secret %s", name, secret)
			}
		}
	}
	for secret := range p.Secrets {
		if !used[secret] {
			t.Errorf("nothing uses the secret %s", secret)
		}
	}
	if d := cmp.Diff(p.Services["clerksync-1"], p.Services["clerksync-2"]); d != "" {
		t.Errorf("the replicas differ:\n%s", d)
	}
	for name := range p.Services["clerksync-1"].Environment {
		if !strings.Contains(settings, "\n| `"+strings.TrimSuffix(name, "_FILE")+"` |") {
			t.Errorf("docs/settings.md has no %s", name)
		}
	}
}

// TestComposeRedis: the production file's commands for Redis, with a server of this machine: it is healthy when it
// answers to the password, refuses who has none, and has after a SIGKILL what it acknowledged a second before.
func TestComposeRedis(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it runs Redis")
	}
	program.Find(t, program.Redis())
	s := readProduction(t).Services["redis"]
	dir, secrets := t.TempDir(), makeSecrets(t)
	port := strconv.Itoa(testenv.FreePort(t))
	here := strings.NewReplacer(
		"$$", "$", "/run/secrets", secrets, "docker-entrypoint.sh ", "", "/data", dir, "appendonly",
		"port "+port+"\nbind 127.0.0.1\nappendonly", "redis-cli ping", "redis-cli -p "+port+" ping")
	shell := func(text string) *exec.Cmd {
		return exec.CommandContext(t.Context(), "sh", "-ec", here.Replace(text))
	}
	healthy := func() bool { return shell(s.HealthCheck.Test[1]).Run() == nil }
	start := func() *child.Process {
		t.Helper()
		p, err := child.Start(shell(s.Command[0]))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = p.Kill() })
		for !healthy() {
			select {
			case <-p.Done():
				t.Fatalf("Redis ended: %s", p.State())
			case <-time.After(20 * time.Millisecond):
			}
		}
		return p
	}
	ask := func(password string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "redis-cli", append([]string{"-p", port}, args...)...)
		cmd.Env = append(os.Environ(), "REDISCLI_AUTH="+password)
		out, _ := cmd.CombinedOutput()
		return strings.TrimSpace(string(out))
	}
	if healthy() {
		t.Fatal("it is healthy before it runs")
	}
	p := start()
	password := read(t, filepath.Join(secrets, "redis_password"))
	if got := ask("", "GET", "a"); !strings.Contains(got, "NOAUTH") {
		t.Errorf("without the password: %q", got)
	}
	if got := ask(password, "CONFIG", "GET", "maxmemory-policy"); got != "maxmemory-policy\nnoeviction" {
		t.Errorf("got %q", got)
	}
	if got := ask(password, "SET", "a", "b"); got != "OK" {
		t.Fatal(got)
	}
	if got := ask(password, "WAITAOF", "1", "0", "5000"); strings.HasPrefix(got, "ERR") { // Redis before 7.2
		time.Sleep(1100 * time.Millisecond) // the file is synced every second; that is what is tested
	}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	if healthy() {
		t.Error("it is healthy when it has ended")
	}
	start()
	if got := ask(password, "GET", "a"); got != "b" {
		t.Errorf("after a SIGKILL: got %q, want b", got)
	}
}

// TestComposeInngest: the production file's shell commands give Inngest its secrets.
func TestComposeInngest(t *testing.T) {
	t.Parallel()
	dir, secrets := t.TempDir(), makeSecrets(t)
	stand := "#!/bin/sh\necho \"$0 $*\"; env | grep ^INNGEST_ | sort\n"
	if err := os.WriteFile(filepath.Join(dir, "inngest"), []byte(stand), 0o700); err != nil {
		t.Fatal(err)
	}
	s := readProduction(t).Services["inngest"]
	cmd := exec.CommandContext(t.Context(), "sh", "-ec",
		strings.NewReplacer("$$", "$", "/run/secrets", secrets).Replace(s.Command[0]))
	cmd.Env = []string{"PATH=" + dir + ":" + os.Getenv("PATH")}
	got, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, got)
	}
	secret := func(name string) string { return read(t, filepath.Join(secrets, name)) }
	want := filepath.Join(dir, "inngest") + " start --log-level warn\n" +
		"INNGEST_EVENT_KEY=" + secret("inngest_event_key") + "\n" +
		"INNGEST_POSTGRES_URI=postgres://inngest:" + secret("postgres_password") +
		"@postgres:5432/inngest?sslmode=disable\n" +
		"INNGEST_REDIS_URI=redis://:" + secret("redis_password") + "@redis:6379\n" +
		"INNGEST_SIGNING_KEY=" + secret("inngest_signing_key") + "\n"
	if d := cmp.Diff(want, string(got)); d != "" {
		t.Error(d)
	}
}

// TestComposeMongo: the JavaScript in the production file makes the replica set once, says healthy when it has a
// primary, and makes clerksync's user. Node.js stands in for MongoDB's shell, which can't be had everywhere.
func TestComposeMongo(t *testing.T) {
	t.Parallel()
	node := program.Find(t, program.Program{Names: []string{"node"}, Get: "on Debian: apt-get install nodejs"})
	secrets := makeSecrets(t)
	p := readProduction(t)
	check := p.Services["mongo"].HealthCheck.Test
	if d := cmp.Diff([]string{"CMD", "mongosh", "--quiet", "--eval"}, check[:4]); d != "" {
		t.Fatal(d)
	}
	password := func(name string) string { return read(t, filepath.Join(secrets, name)) }
	auth := `admin.auth("root","` + password("mongo_root_password") + `")`
	initiate := `rs.initiate({"_id":"rs0","members":[{"_id":0,"host":"mongo:27017"}]})`
	tests := map[string]struct {
		script        string
		made, primary bool
		want          []string
	}{
		"the first time":    {script: check[4], want: []string{auth, initiate, "quit(1)"}},
		"with a primary":    {script: check[4], made: true, primary: true, want: []string{auth, "quit(0)"}},
		"while it has none": {script: check[4], made: true, want: []string{auth, "quit(1)"}},
		"clerksync's user": {script: p.Configs["mongo_user"].Content, want: []string{
			`clerksync.createUser({"user":"clerksync","pwd":"` + password("mongo_password") +
				`","roles":[{"role":"readWrite","db":"clerksync"}]})`,
		}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			state, err := json.Marshal(map[string]bool{"made": tt.made, "primary": tt.primary})
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), node, "-")
			cmd.Stdin = strings.NewReader(`
				const state = ` + string(state) + `
				const say = (name) => (...args) =>
					console.log(name + "(" + args.map((a) => JSON.stringify(a)).join() + ")")
				const db = {
					getSiblingDB: (name) => ({ auth: say(name + ".auth"), createUser: say(name + ".createUser") }),
					hello: () => ({ isWritablePrimary: state.primary }),
				}
				const status = () => { if (!state.made) throw new Error("not yet") }
				const rs = { initiate: say("rs.initiate"), status }
				const quit = say("quit")
				` + strings.ReplaceAll(tt.script, "/run/secrets", secrets))
			var out bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &out
			if err := cmd.Run(); err != nil {
				t.Fatalf("%v\n%s", err, out.String())
			}
			if d := cmp.Diff(strings.Join(tt.want, "\n")+"\n", out.String()); d != "" {
				t.Error(d)
			}
		})
	}
	// What the shell before mongod does needs the image's users; that it is a shell's at least:
	script := strings.ReplaceAll(p.Services["mongo"].Command[0], "$$", "$")
	if out, err := exec.CommandContext(t.Context(), "bash", "-nc", script).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
