package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"clerksync/internal/testenv"

	"golang.org/x/sync/errgroup"
)

// TestHistories: the rows of 200 users with one to six webhooks each are equal to Clerk, however the webhooks arrive.
func TestHistories(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		shuffled    bool // and a fifth of them doubled
		killInngest bool
	}{
		"once and in order":    {},
		"shuffled and doubled": {shuffled: true},
		"Inngest killed":       {shuffled: true, killInngest: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testenv.EachApp(t, func(t *testing.T, app testenv.App) {
				t.Parallel()
				users := 200
				if app.Extra {
					users = 40
					if !tc.shuffled || tc.killInngest {
						t.Skip("TestChaos kills it")
					}
				}
				w := newWorld(t, options{app: app, env: []string{manyEvents}})
				seed := uint64(time.Now().UnixNano())
				t.Logf("seed %d", seed)
				rng := rand.New(rand.NewPCG(seed, 0))
				histories := app.Histories(t, rng, users)
				if tc.shuffled {
					w.deliverAll(shuffled(rng, histories), tc.killInngest)
				} else {
					var g errgroup.Group
					g.SetLimit(16)
					for _, h := range histories {
						g.Go(func() error {
							for _, hook := range h.Webhooks {
								w.deliver(hook)
							}
							return nil
						})
					}
					_ = g.Wait() // deliver fails the test
				}
				w.drained()
				w.compare(histories)
			})
		})
	}
}

// TestOrder: in whatever order the webhooks arrive, some twice, the row is as the newest one says.
func TestOrder(t *testing.T) {
	t.Parallel()
	testenv.EachApp(t, func(t *testing.T, app testenv.App) {
		t.Parallel()
		inOrder(t, app)
	})
}

func inOrder(t *testing.T, app testenv.App) {
	t.Helper()
	// what comes twice is sent again, after that time
	w := newWorld(t, options{app: app, env: []string{"INBOX_RESEND_AFTER=1s"}})
	var created, updated, deleted testenv.Webhook
	for name, tc := range map[string]struct {
		hooks func() []testenv.Webhook
		want  string // full name, or "" for no row
	}{
		"created": {func() []testenv.Webhook { return []testenv.Webhook{created} }, "Ada Byron"},
		"updated": {func() []testenv.Webhook { return []testenv.Webhook{created, updated} }, "Ada King"},
		"deleted": {func() []testenv.Webhook { return []testenv.Webhook{created, updated, deleted} }, ""},
		"the duplicate": {
			func() []testenv.Webhook {
				return []testenv.Webhook{created, created, updated, created, updated}
			}, "Ada King",
		},
		"update before create": {func() []testenv.Webhook { return []testenv.Webhook{updated, created} }, "Ada King"},
		"delete before create": {func() []testenv.Webhook { return []testenv.Webhook{deleted, created, updated} }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			id := "user_" + strings.ReplaceAll(name, " ", "")
			created, updated, deleted = life(t, id)
			for _, hook := range tc.hooks() {
				w.deliver(hook)
				w.drained() // so that they are written in this order
			}
			got := ""
			if r := w.row(id); r != nil {
				got = r.Text(app.FullName)
			}
			if got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
	for _, outcome := range []string{"created", "updated", "stale", "deleted"} {
		w.until("a run has the outcome "+outcome+" on Inngest's page", func() bool {
			return strings.Contains(strings.Join(w.outputs(), " "), `"outcome":"`+outcome+`"`)
		})
	}
}

// outputs returns what each run returned, as Inngest's page shows it.
func (w *world) outputs() []string {
	w.t.Helper()
	type run struct{ ID, Output string }
	var list struct {
		Runs struct{ Edges []struct{ Node run } }
	}
	w.graphql(`{runs(first:100,orderBy:[{field:QUEUED_AT,direction:DESC}],`+
		`filter:{from:"2020-01-01T00:00:00Z"}){edges{node{id}}}}`, &list)
	var ask strings.Builder // for each by itself: the list has them without their outputs, from v1.18 on
	for i, e := range list.Runs.Edges {
		fmt.Fprintf(&ask, "r%d:run(runID:%q){id output}", i, e.Node.ID)
	}
	var runs map[string]run
	w.graphql("{"+ask.String()+"}", &runs)
	var outputs []string
	for _, r := range runs {
		outputs = append(outputs, r.Output)
	}
	return outputs
}

// graphql sends Inngest a query of the kind that its page sends.
func (w *world) graphql(query string, data any) {
	w.t.Helper()
	body, err := json.Marshal(map[string]string{"query": query})
	if err != nil {
		w.t.Fatal(err)
	}
	res, err := http.Post(w.inngestURL()+"/v0/gql", "application/json", bytes.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	answer := struct{ Data any }{data} // its errors name the runs that have not ended
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		w.t.Fatalf("%s: %v", query, err)
	}
}

// TestBothSources: the same changes through Inngest's integration, through the webhook, and through both, flat, nested
// and enveloped, write the same rows.
func TestBothSources(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	rng := rand.New(rand.NewPCG(1, 2))
	// What differs in the envelope's time alone comes in the order of arrival by the integration alone.
	histories := slices.DeleteFunc(testenv.Histories(t, rng, 60), func(h testenv.History) bool { return h.Tie })
	for i, h := range histories {
		for _, hook := range h.Webhooks {
			if i%4 < 3 {
				data := []any{
					hook.Data,
					map[string]any{"data": hook.Data, "headers": map[string]string{}},
					json.RawMessage(hook.Body),
				}[i%4]
				w.integrate("clerk/"+hook.Type, data)
			}
			if i%2 == 1 {
				w.deliver(hook)
			}
		}
	}
	w.drained()
	// nothing but the rows tells when those without an inbox row are written
	w.until("the rows are right", func() bool {
		return len(testenv.CheckAll(histories, w.row)) == 0
	})
}
