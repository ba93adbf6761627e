package doctor

import (
	"cmp"
	"strings"
	"testing"
	"time"

	"clerksync/inngest"
	"clerksync/internal/testenv"
	"clerksync/replicas"
	"clerksync/store/database"

	"github.com/prometheus/client_golang/prometheus"
)

// TestReplicas: processes that do not register their functions are counted, and a process alone needs no line.
func TestReplicas(t *testing.T) {
	t.Parallel()
	server := inngest.Server{URL: "http://inngest.example:8288", AppID: "clerksync"}
	for name, tc := range map[string]struct {
		functions []string // of the processes, in the order of their starts
		app       string   // of theirs
		later     time.Duration
		want      string
	}{
		"none": {want: ""},
		"one":  {functions: []string{"old"}, want: ""},
		"the same": {
			functions: []string{"old", "old"},
			want:      "ok    replicas   2 are alive, with the same functions\n",
		},
		"an upgrade": {
			functions: []string{"old", "old", "new"},
			want: "warn  replicas   2 of 3 processes do not register their functions, because newer ones " +
				"have others: finish the upgrade, or give all of them the same version and settings\n",
		},
		"of another Inngest": {
			functions: []string{"old", "new"},
			app:       inngest.Server{URL: "http://another.example", AppID: "clerksync"}.App(),
		},
		"of another app": {
			functions: []string{"old", "new"}, app: inngest.Server{URL: server.URL, AppID: "another"}.App(),
		},
		"long ago": {functions: []string{"old", "new"}, later: 3 * time.Minute, want: ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := testenv.NewMemory().Connect(t, "test", nil, nil)
			for _, functions := range tc.functions {
				r := replicas.New(replicas.Options{
					State: database.NewCheckpoints(db), App: cmp.Or(tc.app, server.App()),
					Registerer: prometheus.NewRegistry(),
				})
				if _, err := r.Beat(t.Context(), functions); err != nil {
					t.Fatal(err)
				}
			}
			var out strings.Builder
			d := &doctor{Options: Options{Inngest: server}, found: printTo(&out), now: time.Now().Add(tc.later), db: db}
			d.on("replicas")(d.replicas(t.Context(), nil))
			if got := out.String(); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}
