package e2e_test

import (
	"flag"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"clerksync/internal/child"
)

var stackFlag = flag.Int("stack", 0, "how many rounds of faults TestStackChaos has; 0 leaves out the tests of the "+
	"self-hosted stack")

// wantsStack leaves the test out if -stack does not ask for it.
func wantsStack(t *testing.T) {
	t.Helper()
	if *stackFlag < 1 {
		t.Skip("the self-hosted stack is left out: go test ./e2e -run Stack -stack 1 has it")
	}
}

// TestStackChaos: TestChaos on two or three replicas and a self-hosted Inngest, with checkpoints and without. Replicas
// are killed in turn and restarted one after the other, Caddy, Inngest, Redis and PostgreSQL are killed, Inngest loses
// its database, or that and its queue, the keys are changed, and all replicas are killed at once. While Caddy is there,
// and a replica, no webhook is refused more than twice.
func TestStackChaos(t *testing.T) {
	wantsStack(t)
	for name, checkpoints := range map[string]bool{"without checkpoints": false, "with checkpoints": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rng := seeded(t, fmt.Sprintf("go test ./e2e -run 'StackChaos/%s' -stack %d", name, *stackFlag))
			s := newStack(t, stackOptions{
				replicas: 2 + rng.IntN(2), checkpoints: checkpoints, env: []string{manyEvents},
			})
			t.Logf("%d replicas", len(s.replicas))
			o := ordeal{
				users: 150, span: 50 * time.Second, // while most of the faults happen
				rounds: *stackFlag, pause: 5 * time.Second, // as Svix
			}
			for _, r := range s.replicas {
				o.service = append(o.service, r.supervisor)
			}
			o.faults = s.faults(o.service)
			if c := s.undergo(rng, o); c.refused > 2 {
				t.Errorf("a webhook was refused %d times, want 2 at the most: a restart must not cost more:\n%s",
					c.refused, strings.Join(c.refusals, "\n"))
			}
			s.suffered(int64(*stackFlag))
		})
	}
}

// suffered checks that in each round of faults each program was killed and restarted as often as faults says.
func (s *stack) suffered(rounds int64) {
	s.t.Helper()
	check := func(name string, p *supervisor, kills, restarts int64) {
		if got := p.kills.Load(); got != rounds*kills {
			s.t.Errorf("%s was killed %d times, want %d", name, got, rounds*kills)
		}
		if got, want := p.starts.Load(), 1+rounds*(kills+restarts); got < want { // more if it ended by itself
			s.t.Errorf("%s was started %d times, want %d at the least", name, got, want)
		}
	}
	check("Caddy", s.caddy, 1, 0)
	check("PostgreSQL", s.postgres, 1, 0)
	check("Redis", s.redis, 3, 0)
	check("Inngest", s.server, 4, 3)
	for i, r := range s.replicas {
		check(fmt.Sprint("replica ", i), r.supervisor, 2, 3)
	}
}

// faults returns everything that goes wrong during TestStackChaos. At any time at most one replica is away, but for the
// one fault in which all are: it kills service, their processes.
func (s *stack) faults(service []*supervisor) []fault {
	const moment = time.Millisecond
	now := func(f func()) func() func() { return func() func() { f(); return func() {} } }
	held := func(p *supervisor, more ...func()) func() func() {
		return func() func() {
			p.crash()
			return func() {
				for _, f := range more {
					f()
				}
				p.release()
			}
		}
	}
	lose := func() { s.psql("DROP DATABASE inngest WITH (FORCE)"); s.psql("CREATE DATABASE inngest") }
	all := []fault{
		{"Caddy killed", time.Second, s.outage(s.caddy)},
		{"all replicas killed", moment, s.outage(service...)},
		{"replicas restarted, one after the other", moment, now(s.restartReplicas)},
		{"Inngest killed", time.Second, held(s.server)},
		{"Inngest killed", time.Second, held(s.server)},
		{"Inngest restarted", moment, now(func() { s.restart(s.server); s.awaitInngest() })},
		{"Redis killed", time.Second, held(s.redis)},
		{"Redis killed", moment, now(s.redis.kill)},
		{"PostgreSQL killed", time.Second, held(s.postgres)},
		{"Inngest's database lost", time.Second, held(s.server, lose)},
		{"Inngest's database and queue lost", time.Second, held(s.server, lose, s.loseQueue)},
		{"keys changed", moment, now(s.changeKeys)},
	}
	for i, r := range s.replicas {
		all = append(all, fault{fmt.Sprintf("replica %d killed", i), moment, now(func() {
			r.kill()
			s.awaitReplicas(r)
		})})
	}
	return all
}

// outage kills programs without which no webhook can be taken, and starts them again when one has been refused. Without
// replicas that takes ten seconds, in which Caddy waits for one to come back.
func (s *stack) outage(programs ...*supervisor) func() func() {
	taken := func() bool {
		res, err := http.Post(s.url+"/webhooks/clerk", "application/json", nil) // a replica refuses it: no signature
		return err == nil && res.Body.Close() == nil && res.StatusCode == http.StatusBadRequest
	}
	return func() func() {
		s.outages.Add(1)
		for _, p := range programs {
			p.crash()
		}
		s.until("webhooks are refused", func() bool { return !taken() })
		return func() {
			for _, p := range programs {
				p.release()
			}
			s.until("webhooks are taken", taken)
			s.awaitReplicas(s.replicas...)
			s.outages.Add(1)
		}
	}
}

// restartReplicas restarts each replica when the one before it is back.
func (s *stack) restartReplicas() {
	for _, r := range s.replicas {
		s.restart(r.supervisor)
		s.awaitReplicas(r)
	}
}

// awaitReplicas waits until replicas are back, and until the proxy has seen that: two looks, see deploy/Caddyfile. Else
// all of them would be away for the proxy.
func (s *stack) awaitReplicas(replicas ...replica) {
	for _, r := range replicas {
		s.until("the replica is back", func() bool { return answers(r.url + "/healthz") })
	}
	<-time.After(2 * time.Second)
}

// restart ends a program as a container's end does, with ten seconds' patience, and starts it again.
func (s *stack) restart(p *supervisor) {
	p.hold(func(c *child.Process) error {
		if err := c.Terminate(); err != nil {
			return err
		}
		select {
		case <-c.Done():
			return nil
		case <-time.After(10 * time.Second):
			return c.Kill()
		}
	})
	p.release()
}

// loseQueue empties Redis.
func (s *stack) loseQueue() {
	s.redis.crash()
	if err := os.RemoveAll(s.redisDir); err != nil {
		s.t.Error(err)
	}
	s.redis.release()
}

// changeKeys gives Inngest other keys as docs/inngest.md says it: first the replicas take both signing keys, then
// Inngest has the new one, then the replicas forget the old one.
func (s *stack) changeKeys() {
	generation := s.server.starts.Load()
	oldSigning, newSigning := s.keys.signing, fmt.Sprintf("%s%04x", signingKey, generation)
	oldEvent, newEvent := s.keys.event, fmt.Sprint(eventKey, "-", generation)
	change := func(f func()) {
		s.mu.Lock()
		defer s.mu.Unlock()
		f()
	}
	change(func() { s.keys.event = append(oldEvent, newEvent) })
	s.restart(s.server)
	s.awaitInngest()
	change(func() {
		s.keys.replicas = []string{
			"INNGEST_EVENT_KEY=" + newEvent, "INNGEST_SIGNING_KEY=" + newSigning,
			"INNGEST_SIGNING_KEY_FALLBACK=" + oldSigning,
		}
	})
	s.restartReplicas()
	// The first event key is the integration's.
	change(func() { s.keys.signing, s.keys.event = newSigning, []string{eventKey, newEvent} })
	s.restart(s.server)
	s.awaitInngest()
	change(func() {
		s.keys.replicas = []string{"INNGEST_EVENT_KEY=" + newEvent, "INNGEST_SIGNING_KEY=" + newSigning}
	})
	s.restartReplicas()
}
