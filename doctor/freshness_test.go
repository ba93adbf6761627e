package doctor

import (
	"testing"
	"time"

	"clerksync/freshness"
	"clerksync/internal/testenv"
	"clerksync/store/database"

	"github.com/google/go-cmp/cmp"
)

// TestFreshness: what a running service has said last, or that none has.
func TestFreshness(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	report := func(age time.Duration, reasons ...string) *freshness.Report {
		return &freshness.Report{
			At: now.Add(-age), Trusted: reasons == nil, Since: now.Add(-26 * time.Hour), Reasons: reasons,
			Changes: freshness.Scope{State: freshness.Proven, Until: now.Add(-4 * time.Minute), TargetSeconds: 600},
		}
	}
	for name, tc := range map[string]struct {
		report *freshness.Report
		want   []string
	}{
		"no service has run": {nil, []string{"-: not known yet: a running service says it every half minute"}},
		"none runs":          {report(3 * time.Hour), []string{"-: not known: no service has said it for 3h0m"}},
		"all is well": {
			report(20 * time.Second),
			[]string{"ok: the rows have every change that is older than 4m; so it is since 2026-11-25 10:00 UTC"},
		},
		"all is not well": {report(20*time.Second, "this", "that"), []string{"warn: this", "warn: that"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := testenv.NewMemory().Connect(t, "test", nil, nil)
			if tc.report != nil {
				if err := database.NewCheckpoints(db).Save(t.Context(), freshness.DocumentName, tc.report); err != nil {
					t.Fatal(err)
				}
			}
			var got []string
			d := &doctor{db: db, now: now, found: func(f Finding) { got = append(got, string(f.Level)+": "+f.Text) }}
			say := d.on("freshness")
			say(d.freshness(t.Context(), say))
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
