package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"testing"

	"clerksync/internal/child"
	"clerksync/internal/testenv"

	"go.yaml.in/yaml/v3"
)

// composed is a service in docker-compose.yml.
type composed struct {
	Command     []string
	HealthCheck struct{ Test []string }
}

// check returns the command of the service's health check, to be run without a shell; binaries has the programs that
// its image holds.
func (c composed) check(t *testing.T, binaries map[string]string) (path string, args []string) {
	t.Helper()
	test := c.HealthCheck.Test
	if len(test) < 2 || test[0] != "CMD" || binaries[test[1]] == "" {
		t.Fatalf("the health check %q runs no program of the image, want CMD and one of %v", test, binaries)
	}
	return binaries[test[1]], test[2:]
}

// TestCompose: the commands in docker-compose.yml work with the programs in its images: a service that waits for
// another one to be healthy must not wait for ever. The commands are run without Docker; those of MongoDB are not run.
func TestCompose(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{ownDatabase: true})
	b, err := os.ReadFile("../docker-compose.yml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Services map[string]composed }
	if err := yaml.Unmarshal(b, &file); err != nil {
		t.Fatal(err)
	}
	healthy := func(env []string, path string, args []string) bool {
		cmd := exec.Command(path, args...)
		cmd.Env = env
		out, err := cmd.CombinedOutput()
		_, _ = fmt.Fprintf(w.log, "%s", out)
		return err == nil
	}

	inngest := map[string]string{"inngest": programs.inngest.Path}
	path, args := file.Services["inngest"].check(t, inngest)
	command := file.Services["inngest"].Command
	if len(command) == 0 || inngest[command[0]] == "" {
		t.Fatalf("the command %q is not the image's", command)
	}
	dir := t.TempDir()
	env := []string{"DO_NOT_TRACK=1", "HOME=" + dir} // and other ports than those that may be taken here
	for _, name := range []string{
		"PORT", "CONNECT_GATEWAY_PORT", "CONNECT_GATEWAY_GRPC_PORT",
		"CONNECT_EXECUTOR_GRPC_PORT",
	} {
		env = append(env, fmt.Sprintf("INNGEST_%s=%d", name, testenv.FreePort(t)))
	}
	cmd := exec.Command(inngest[command[0]], command[1:]...)
	cmd.Dir, cmd.Env = dir, env
	if healthy(env, path, args) {
		t.Error("Inngest is healthy before it runs")
	}
	server, err := child.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kill(server) })
	w.until("Inngest is healthy", func() bool { return healthy(env, path, args) })
	kill(server)
	if healthy(env, path, args) {
		t.Error("Inngest is healthy when it has ended")
	}

	path, args = file.Services["clerksync"].check(t, map[string]string{"/clerksync": programs.clerksync})
	// Each check has 4 s, which a busy machine may not leave it, as a container's does not end with one that fails.
	w.until("clerksync is healthy", func() bool { return healthy(w.env, path, args) })
	if err := w.inngest.Kill(); err != nil {
		t.Fatal(err)
	}
	w.until("clerksync is healthy while Inngest is away, for it takes webhooks", func() bool {
		return healthy(w.env, path, args)
	})
	kill(w.db)
	if healthy(w.env, path, args) {
		t.Error("clerksync is healthy without its database")
	}
	w.startDatabase()
	w.until("clerksync is healthy again", func() bool { return healthy(w.env, path, args) })
	kill(w.service)
	if healthy(w.env, path, args) {
		t.Error("clerksync is healthy when it has ended")
	}
}
