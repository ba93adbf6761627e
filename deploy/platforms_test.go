package deploy_test

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"clerksync/app"
	"clerksync/config"

	"github.com/BurntSushi/toml"
	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

// platform is what a platform's file says of the service, in the words of this test.
type platform struct {
	health    string
	killAfter time.Duration
	replicas  int               // 0: by hand
	set       map[string]string // settings with their values; "" is one that the platform asks for, or makes
}

// fly has the keys of https://fly.io/docs/reference/configuration/ that the file uses.
type fly struct {
	App         string            `toml:"app"`
	Region      string            `toml:"primary_region"`
	KillSignal  string            `toml:"kill_signal"`
	KillTimeout int               `toml:"kill_timeout"` // seconds
	Env         map[string]string `toml:"env"`
	Deploy      struct {
		Strategy       string `toml:"strategy"`
		MaxUnavailable int    `toml:"max_unavailable"`
	} `toml:"deploy"`
	HTTP struct {
		Port        int    `toml:"internal_port"`
		ForceHTTPS  bool   `toml:"force_https"`
		AutoStop    string `toml:"auto_stop_machines"`
		AutoStart   bool   `toml:"auto_start_machines"`
		Concurrency struct {
			Type      string `toml:"type"`
			SoftLimit int    `toml:"soft_limit"`
		} `toml:"concurrency"`
		Checks []struct {
			Method   string `toml:"method"`
			Path     string `toml:"path"`
			Grace    string `toml:"grace_period"`
			Interval string `toml:"interval"`
			Timeout  string `toml:"timeout"`
		} `toml:"checks"`
	} `toml:"http_service"`
	Metrics struct {
		Port int    `toml:"port"`
		Path string `toml:"path"`
	} `toml:"metrics"`
	Restart []struct {
		Policy string `toml:"policy"`
	} `toml:"restart"`
	VM []struct {
		Size   string `toml:"size"`
		Memory string `toml:"memory"`
	} `toml:"vm"`
}

func readFly(t *testing.T) platform {
	t.Helper()
	var f fly
	meta, err := toml.Decode(read(t, "fly.toml"), &f)
	if err != nil || len(meta.Undecoded()) > 0 {
		t.Fatalf("fly.toml: %v, and keys that are unknown: %v", err, meta.Undecoded())
	}
	if len(f.HTTP.Checks) != 1 || f.HTTP.AutoStop != "off" || !f.HTTP.ForceHTTPS || f.KillSignal != "SIGTERM" {
		t.Fatalf("fly.toml: got %+v", f)
	}
	if f.HTTP.Port != 3000 || f.Env["METRICS_ADDR"] != ":9090" || f.Metrics.Port != 9090 {
		t.Error("fly.toml: the ports are not those on which the service listens")
	}
	return platform{
		health: f.HTTP.Checks[0].Path, killAfter: time.Duration(f.KillTimeout) * time.Second, set: f.Env,
	}
}

// renderFile has the keys of https://render.com/docs/blueprint-spec that the file uses.
type renderFile struct {
	Services []struct {
		Type, Name, Runtime, Plan, Region string
		Instances                         int    `yaml:"numInstances"`
		AutoDeploy                        string `yaml:"autoDeployTrigger"`
		Dockerfile                        string `yaml:"dockerfilePath"`
		Context                           string `yaml:"dockerContext"`
		Health                            string `yaml:"healthCheckPath"`
		Shutdown                          int    `yaml:"maxShutdownDelaySeconds"`
		Env                               []struct {
			Key, Value string
			Sync       *bool
			Generate   bool `yaml:"generateValue"`
		} `yaml:"envVars"`
	}
}

func readRender(t *testing.T) platform {
	t.Helper()
	var f renderFile
	d := yaml.NewDecoder(strings.NewReader(read(t, "render.yaml")))
	d.KnownFields(true)
	if err := d.Decode(&f); err != nil || len(f.Services) != 1 {
		t.Fatalf("render.yaml: %v: %+v", err, f)
	}
	s, set := f.Services[0], map[string]string{}
	if s.Type != "web" || s.Runtime != "docker" || s.Plan == "free" {
		t.Errorf("render.yaml: got %+v", s)
	}
	for _, e := range s.Env {
		ways := []bool{e.Value != "", e.Sync != nil && !*e.Sync, e.Generate}
		if n := len(slices.DeleteFunc(ways, func(is bool) bool { return !is })); n != 1 {
			t.Errorf("render.yaml: %s comes in %d ways, want one", e.Key, n)
		}
		set[e.Key] = e.Value
	}
	return platform{s.Health, time.Duration(s.Shutdown) * time.Second, s.Instances, set}
}

// readRailway reads the variables in docs/deploy/railway.md: new services have no file. Those of Railway's own are of
// https://docs.railway.com/variables/reference.
func readRailway(t *testing.T) platform {
	t.Helper()
	page := read(t, "../docs/deploy/railway.md")
	block := regexp.MustCompile("(?s)```sh\n( *PORT=.*?)```").FindStringSubmatch(page)
	if block == nil {
		t.Fatal("docs/deploy/railway.md has no block of variables")
	}
	set := map[string]string{}
	for line := range strings.Lines(block[1]) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		set[key] = value
	}
	delete(set, "") // the last line, which has only the fence
	overlap, err := strconv.Atoi(set["RAILWAY_DEPLOYMENT_OVERLAP_SECONDS"])
	draining, err2 := strconv.Atoi(set["RAILWAY_DEPLOYMENT_DRAINING_SECONDS"])
	if err != nil || err2 != nil || overlap == 0 || !strings.Contains(page, "port "+set["PORT"]) {
		t.Errorf("docs/deploy/railway.md: got %v", set)
	}
	delete(set, "RAILWAY_DEPLOYMENT_OVERLAP_SECONDS")
	delete(set, "RAILWAY_DEPLOYMENT_DRAINING_SECONDS")
	health := regexp.MustCompile(`\*\*Healthcheck Path\*\* ` + "`(.*?)`").FindStringSubmatch(page)
	if health == nil {
		t.Fatal("docs/deploy/railway.md has no health check path")
	}
	return platform{health: health[1], killAfter: time.Duration(draining) * time.Second, set: set}
}

// TestPlatforms: what the platforms are given names settings that there are and hold no secret, let the service end in
// peace, and ask for its health where an Inngest that is away does not count. Their own validators cannot be had here:
// a key that their documentation does not have is found by the types above.
func TestPlatforms(t *testing.T) {
	t.Parallel()
	settings := map[string]config.Setting{}
	for _, s := range config.Settings() {
		settings[s.Name] = s
	}
	for name, p := range map[string]platform{
		"fly.toml": readFly(t), "render.yaml": readRender(t), "docs/deploy/railway.md": readRailway(t),
	} {
		if p.health != "/healthz" {
			t.Errorf("%s: asks %s for the health, want /healthz", name, p.health)
		}
		if least := shutdownTimeout(t) + room; p.killAfter < least {
			t.Errorf("%s: kills after %s, want %s or more", name, p.killAfter, least)
		}
		if p.replicas == 1 {
			t.Errorf("%s: one replica, which is away while it is replaced", name)
		}
		for key, value := range p.set {
			s, known := settings[key]
			if !known {
				t.Errorf("%s: %s is no setting", name, key)
			}
			if s.File != "" && value != "" {
				t.Errorf("%s: %s is secret, and has a value", name, key)
			}
		}
	}
}

// TestEnvOfGuide: with the settings that docs/deploy/README.md has everybody write down, and no others, the service
// starts, and Render asks for the same.
func TestEnvOfGuide(t *testing.T) {
	t.Parallel()
	values := map[string]string{
		"CLERK_WEBHOOK_SIGNING_SECRET": "whsec_Y2xlcmtzeW5jIHRlc3Qgc2VjcmV0IDE=", "CLERK_SECRET_KEY": "sk_live_x",
		"CLERK_INSTANCE_ID": "ins_x", "MONGODB_URI": "mongodb://c:p@h/app", "INNGEST_EVENT_KEY": "x",
		"INNGEST_SIGNING_KEY": "signkey-prod-00ff", "INNGEST_SERVE_ORIGIN": "https://hooks.example.com",
		"ADMIN_TOKEN": "0123456789abcdef",
	}
	var environ, names []string
	block := regexp.MustCompile("(?s)```sh\n(CLERK_.*?)```").FindStringSubmatch(read(t, "../docs/deploy/README.md"))
	if block == nil {
		t.Fatal("docs/deploy/README.md has no block of settings")
	}
	for line := range strings.Lines(block[1]) {
		name, _, _ := strings.Cut(line, "=")
		if values[name] == "" {
			t.Errorf("%s: the test has no value for it", name)
		}
		names, environ = append(names, name), append(environ, name+"="+values[name])
	}
	cfg, mistakes := config.Read(environ, nil)
	if err := append(mistakes, app.Check(cfg)...).Err(); err != nil {
		t.Errorf("with these settings it does not start: %v", err)
	}
	var asked []string
	for key := range readRender(t).set {
		if key != "METRICS_ADDR" { // which the file sets
			asked = append(asked, key)
		}
	}
	slices.Sort(names)
	slices.Sort(asked)
	if diff := cmp.Diff(names, asked); diff != "" {
		t.Errorf("render.yaml asks for other settings than docs/deploy/README.md has (-guide +file):\n%s", diff)
	}
}

// TestEnvStaysHere: the file of settings that the guides have everybody make in the project's root goes neither into
// Git nor to the machine that builds the image, which keeps what it gets.
func TestEnvStaysHere(t *testing.T) {
	t.Parallel()
	for _, name := range []string{".gitignore", ".dockerignore"} {
		lines := strings.Fields(read(t, "../"+name))
		if !slices.Contains(lines, "clerksync.env") && !slices.Contains(lines, "**/clerksync.env") {
			t.Errorf("%s does not have clerksync.env", name)
		}
	}
}

// TestCaddyfileOfGuide: the Caddyfile in docs/deploy/vm.md passes on what Clerk, Inngest Cloud and the page need, and
// nothing else.
func TestCaddyfileOfGuide(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it runs Caddy")
	}
	block := regexp.MustCompile("(?s)```caddyfile\n(.*?)```").FindStringSubmatch(read(t, "../docs/deploy/vm.md"))
	if block == nil {
		t.Fatal("docs/deploy/vm.md has no Caddyfile")
	}
	here := strings.NewReplacer("hooks.example.com {", "{$SITE_ADDRESS} {",
		"127.0.0.1:3000 127.0.0.1:3001", "{$CLERKSYNC_REPLICAS}",
		"{\n\tauto_https", "{\n\tadmin off\n\tdefault_bind 127.0.0.1\n\tauto_https")
	r := newReplica(t)
	outside, _ := startCaddy(t, here.Replace(block[1])+"{$CALLS_ADDRESS} {\n\trespond /health 200\n}\n", r.addr)
	for request, passes := range map[string]bool{
		"POST /webhooks/clerk": true, "GET /webhooks/clerk": false, "POST /webhooks/clerk/x": false,
		"POST /api/inngest?fnId=x": true, "PUT /api/inngest": true, "GET /status": true, "POST /status/login": true,
		"GET /": false, "GET /metrics": false, "GET /readyz": false, "POST /users/user_1/ensure": false,
		"GET /statusx": false,
	} {
		method, path, _ := strings.Cut(request, " ")
		status, got := send(t, outside, method, path), r.last()
		if passes != (status == 200 && got == request+" body") || !passes && (status != 404 || got != "") {
			t.Errorf("%s: got %d, and the replica got %q; want that it passes: %t", request, status, got, passes)
		}
	}
}
