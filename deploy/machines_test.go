package deploy_test

import (
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"clerksync/config"

	"github.com/google/go-cmp/cmp"
)

// room is how much longer than SHUTDOWN_TIMEOUT the end may take before the process may be killed; docs/production.md
// says so.
const room = 10 * time.Second

// shutdownTimeout returns how long the end takes where nothing is set.
func shutdownTimeout(t *testing.T) time.Duration {
	t.Helper()
	i := slices.IndexFunc(config.Settings(), func(s config.Setting) bool { return s.Name == "SHUTDOWN_TIMEOUT" })
	if i < 0 {
		t.Fatal("there is no SHUTDOWN_TIMEOUT")
	}
	d, err := time.ParseDuration(config.Settings()[i].Default)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// selector is how an object of Kubernetes says which pods it means.
type selector struct {
	Labels map[string]string `yaml:"matchLabels"`
}

// security is the security context of a pod or a container.
type security struct {
	NonRoot      bool                  `yaml:"runAsNonRoot"`
	Seccomp      struct{ Type string } `yaml:"seccompProfile"`
	Escalate     *bool                 `yaml:"allowPrivilegeEscalation"`
	ReadOnly     bool                  `yaml:"readOnlyRootFilesystem"`
	Capabilities struct{ Drop, Add []string }
}

// deployment is what the tests ask of kubernetes/base/deployment.yaml.
type deployment struct {
	Selector selector
	Template struct {
		Metadata struct{ Labels map[string]string }
		Spec     struct {
			Security security `yaml:"securityContext"`
			Grace    int      `yaml:"terminationGracePeriodSeconds"`
			Spread   []struct {
				Selector selector `yaml:"labelSelector"`
			} `yaml:"topologySpreadConstraints"`
			Containers []struct {
				Security  security `yaml:"securityContext"`
				Lifecycle struct {
					PreStop struct{ Sleep struct{ Seconds int } } `yaml:"preStop"`
				}
			}
		}
	}
}

// readDeployment returns it; its pods have one container.
func readDeployment(t *testing.T) deployment {
	t.Helper()
	var file struct{ Spec deployment }
	decode(t, "kubernetes/base/deployment.yaml", &file)
	if n := len(file.Spec.Template.Spec.Containers); n != 1 {
		t.Fatalf("a pod has %d containers, want one", n)
	}
	return file.Spec
}

// TestSelectors: the Deployment, the Service, the disruption budget and the spread over nodes mean the pods that there
// are. A selector that is missing is valid, and means no pod at all.
func TestSelectors(t *testing.T) {
	t.Parallel()
	pods := readDeployment(t)
	var service struct {
		Spec struct{ Selector map[string]string }
	}
	var budget struct {
		Spec struct{ Selector selector }
	}
	decode(t, "kubernetes/base/service.yaml", &service)
	decode(t, "kubernetes/base/disruption.yaml", &budget)
	want := pods.Template.Metadata.Labels
	if len(want) == 0 || len(pods.Template.Spec.Spread) != 1 {
		t.Fatalf("got the pods %+v, want labels and one constraint of spread", pods)
	}
	for who, got := range map[string]map[string]string{
		"deployment": pods.Selector.Labels,
		"service":    service.Spec.Selector,
		"budget":     budget.Spec.Selector.Labels,
		"spread":     pods.Template.Spec.Spread[0].Selector.Labels,
	} {
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s selects other pods (-pods +selected):\n%s", who, d)
		}
	}
}

// TestRestricted: the pods are let into the namespace of the overlay, which enforces the Pod Security Standard
// "restricted" (https://kubernetes.io/docs/concepts/security/pod-security-standards/), and write to no disk.
func TestRestricted(t *testing.T) {
	t.Parallel()
	var namespace struct {
		Metadata struct{ Labels map[string]string }
	}
	decode(t, "kubernetes/production/namespace.yaml", &namespace)
	if got := namespace.Metadata.Labels["pod-security.kubernetes.io/enforce"]; got != "restricted" {
		t.Errorf("the namespace enforces %q, want restricted", got)
	}
	pod := readDeployment(t).Template.Spec
	if !pod.Security.NonRoot || pod.Security.Seccomp.Type != "RuntimeDefault" {
		t.Errorf("got the pod %+v, want no root, and the runtime's filter of system calls", pod)
	}
	c := pod.Containers[0].Security
	if c.Escalate == nil || *c.Escalate || !c.ReadOnly || !slices.Equal(c.Capabilities.Drop, []string{"ALL"}) ||
		c.Capabilities.Add != nil {
		t.Errorf("got the container %+v, want no privileges and nothing to write to", c)
	}
}

// TestStops: Kubernetes and systemd wait until the end is over before they kill.
func TestStops(t *testing.T) {
	t.Parallel()
	least := shutdownTimeout(t) + room
	pod := readDeployment(t).Template.Spec
	sleep := pod.Containers[0].Lifecycle.PreStop.Sleep.Seconds // counts into the time that a pod has
	if sleep == 0 {
		t.Errorf("got the pod %+v, want that it waits before it stops", pod)
	}
	if got := time.Duration(pod.Grace-sleep) * time.Second; got < least {
		t.Errorf("a pod has %s to end, want %s", got, least)
	}
	m := regexp.MustCompile(`(?m)^TimeoutStopSec=(\d+)$`).FindStringSubmatch(read(t, "systemd/clerksync@.service"))
	if m == nil {
		t.Fatal("the systemd unit has no TimeoutStopSec in seconds")
	}
	if got, err := time.ParseDuration(m[1] + "s"); err != nil || got < least {
		t.Errorf("a systemd service has %s to end (%v), want %s", got, err, least)
	}
}

// TestOutside: the ingress lets through what Clerk and Inngest call, as whole paths, and nothing else.
func TestOutside(t *testing.T) {
	t.Parallel()
	type path struct{ Path, PathType string }
	var ingress struct {
		Spec struct {
			DefaultBackend any `yaml:"defaultBackend"`
			Rules          []struct {
				Host string
				HTTP struct {
					Paths []struct {
						Path string
						Type string `yaml:"pathType"`
					}
				}
			}
		}
	}
	decode(t, "kubernetes/production/ingress.yaml", &ingress)
	var got []path
	for _, r := range ingress.Spec.Rules {
		if r.Host == "" {
			t.Error("a rule is for every host")
		}
		for _, p := range r.HTTP.Paths {
			got = append(got, path{p.Path, p.Type})
		}
	}
	if ingress.Spec.DefaultBackend != nil {
		t.Error("the ingress passes on whatever no rule matches")
	}
	want := []path{{"/webhooks/clerk", "Exact"}, {"/api/inngest", "Exact"}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("the ingress lets other paths through (-want +got):\n%s", d)
	}
}

// TestKnownSettings: the settings that the files for Kubernetes and systemd name, in comments too, are there.
func TestKnownSettings(t *testing.T) {
	t.Parallel()
	known := map[string]bool{}
	for _, s := range config.Settings() {
		known[s.Name] = true
	}
	for file, want := range map[string][]string{
		"kubernetes/base/kustomization.yaml": {"METRICS_ADDR"},
		"kubernetes/production/settings.env": {"INNGEST_BASE_URL", "INNGEST_SERVE_ORIGIN", "LOG_FORMAT"},
		"systemd/clerksync@.service":         {"HOST", "PORT"},
	} {
		var got []string
		for _, m := range regexp.MustCompile(`(?m)(?:^|[ =])([A-Z][A-Z_]+)=`).FindAllStringSubmatch(read(t, file), -1) {
			if m[1] == "NAME" { // stands for any
				continue
			}
			if !known[m[1]] {
				t.Errorf("%s names %s, which is no setting", file, m[1])
			}
			got = append(got, m[1])
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s has other settings (-want +got):\n%s", file, d)
		}
	}
}

// TestImagesHaveVersions: no file of ours takes whatever image is the latest one.
func TestImagesHaveVersions(t *testing.T) {
	t.Parallel()
	root := os.DirFS("..")
	image := regexp.MustCompile(`(?m)^[\s-]*image:[ "]*([^\s"#]+)|^FROM (?:--\S+ )?(\S+)`)
	version := regexp.MustCompile(`:(v?\d[\w.-]*|nonroot@sha256:[0-9a-f]{64})(@sha256:[0-9a-f]{64})?$`)
	found := map[string]int{}
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			if d != nil && slices.Contains([]string{".git", "node_modules", "data"}, d.Name()) {
				return fs.SkipDir
			}
			return err
		}
		if !strings.HasSuffix(name, ".yml") && !strings.HasSuffix(name, ".yaml") && d.Name() != "Dockerfile" {
			return nil
		}
		text, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		for _, m := range image.FindAllStringSubmatch(string(text), -1) {
			found[name]++
			asked := strings.HasPrefix(m[1], "${") && strings.Contains(m[1], ":?") // whoever starts it must say which
			if got := m[1] + m[2]; !asked && !version.MatchString(got) {
				t.Errorf("%s takes the image %s, want one with a version", name, got)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"Dockerfile", "docker-compose.yml", "deploy/kubernetes/base/deployment.yaml"} {
		if found[name] == 0 {
			t.Errorf("found no image in %s", name)
		}
	}
}

// TestBuildArguments: what the Dockerfile's build is told is declared there. Without its ARG a variable is empty, so
// that the image would have no version, or the binary of another processor, and no tool says so.
func TestBuildArguments(t *testing.T) {
	t.Parallel()
	_, stage, _ := strings.Cut(read(t, "../Dockerfile"), "\nFROM ")
	stage, _, _ = strings.Cut(stage, "\nFROM ")
	var used []string
	for _, m := range regexp.MustCompile(`\$([A-Z_]+)`).FindAllStringSubmatch(stage, -1) {
		if m[1] == "BUILDPLATFORM" { // is there before the first FROM
			continue
		}
		used = append(used, m[1])
		if !regexp.MustCompile(`(?m)^ARG ` + m[1] + `\b`).MatchString(stage) {
			t.Errorf("the build uses %s, which no ARG declares", m[1])
		}
	}
	if d := cmp.Diff([]string{"RENDER_GIT_COMMIT", "TARGETOS", "TARGETARCH", "TAGS", "VERSION"}, used); d != "" {
		t.Errorf("the build uses other arguments (-want +got):\n%s", d)
	}
}
