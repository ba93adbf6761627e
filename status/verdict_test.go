package status

import (
	"strings"
	"testing"
	"time"

	"clerksync/activity"
	"clerksync/freshness"
	"clerksync/inbox"
	"clerksync/reconcile"
)

// TestVerdict: green, amber and red, with the reason in words; the worst reason first.
func TestVerdict(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	ran := func(tier reconcile.Tier, r reconcile.Run) func(*overview) {
		return func(o *overview) { o.State.Is.Runs = map[reconcile.Tier][]reconcile.Run{tier: {r}} }
	}
	waits := func(n int, since time.Duration) func(*overview) {
		return func(o *overview) { o.Pending.Is = inbox.Pending{Events: n, Oldest: now.Add(-since)} }
	}
	fresh := func(trusted bool, state freshness.State, age time.Duration) func(*overview) {
		return func(o *overview) {
			s := freshness.Scope{State: state, Until: now.Add(-age), TargetSeconds: 600}
			o.Fresh = known[freshness.Report]{freshness.Report{
				At: now, Trusted: trusted, Changes: s, Deletions: s, All: s,
			}, true}
		}
	}
	never := func(o *overview) { o.State.Is.LastWebhook = time.Time{} }
	dead := func(n int) func(*overview) { return func(o *overview) { o.Dead.Is = n } }
	users := func(atClerk, here int) func(*overview) {
		return func(o *overview) { o.Clerk.Is, o.Rows.Is = atClerk, here }
	}
	found := func(tier reconcile.Tier, f reconcile.Found) func(*overview) {
		return ran(tier, reconcile.Run{EndedAt: now, Found: f})
	}
	failed := ran(reconcile.Full, reconcile.Run{Error: "no"})
	silent := reconcile.Silence{Since: now.Add(-time.Hour), First: now.Add(-time.Hour), Changed: 2}
	type is []func(*overview)
	for name, tc := range map[string]struct {
		is    is
		level level
		want  []string // what the reasons contain, in this order
	}{
		"all is well":    {nil, ok, nil},
		"no database":    {is{func(o *overview) { o.Database = false }}, bad, []string{"database"}},
		"no Inngest":     {is{func(o *overview) { o.Inngest = false }}, bad, []string{"Inngest cannot"}},
		"no webhook yet": {is{never}, quiet, []string{"No webhook has"}},
		"the first has just come": {
			is{never, func(o *overview) { o.Activity.Is.LastWebhook = now }}, ok, nil,
		},
		"webhooks do not arrive": {
			is{func(o *overview) { o.State.Is.Silence = silent }},
			bad,
			[]string{"No webhook for 1 h although Clerk changed 2 users"},
		},
		"events have just come": {is{waits(7, lateAfter)}, ok, nil},
		"an event is late": {
			is{waits(1, 3*time.Minute)}, warn, []string{"1 event waits for their functions, the oldest for 3 min"},
		},
		"functions do not run": {is{waits(1200, 11*time.Minute)}, bad, []string{"1,200 events wait"}},
		"a dead letter":        {is{dead(1)}, warn, []string{"1 event failed"}},
		"a tier failed":        {is{failed}, warn, []string{`"full" failed`}},
		"a tier is under way":  {is{ran(reconcile.Full, reconcile.Run{})}, ok, nil},
		"a tier that is off failed": {
			is{failed, func(o *overview) { o.Off = []reconcile.Tier{reconcile.Full} }}, ok, nil,
		},
		"users that could not be read": {
			is{found(reconcile.Recent, reconcile.Found{Failed: 2})}, warn, []string{"2 users"},
		},
		"buried":                     {is{found(reconcile.Full, reconcile.Found{Buried: 1})}, warn, []string{"holds"}},
		"a few users are on the way": {is{users(110, 100)}, ok, nil},
		"never backfilled":           {is{users(5000, 3)}, warn, []string{"clerksync backfill"}},
		"many wait":                  {is{waits(400, time.Second), users(500, 100)}, ok, nil},
		"how many users Clerk has is unknown": {
			is{users(5000, 3), func(o *overview) { o.Clerk.OK = false }}, ok, nil,
		},
		"what waits is unknown": {
			is{func(o *overview) { o.Pending.OK = false }}, warn, []string{"which events wait"},
		},
		"trusted":               {is{fresh(true, freshness.Proven, time.Minute)}, ok, nil},
		"not trusted":           {is{fresh(false, freshness.Proven, time.Minute)}, warn, []string{"may not trust"}},
		"changes are late":      {is{fresh(false, freshness.Proven, 11*time.Minute)}, bad, []string{"11 min old"}},
		"nothing is proven yet": {is{fresh(false, freshness.Unproven, 0)}, warn, []string{"may not trust"}},
		"nothing is compared":   {is{fresh(false, freshness.Off, 0)}, ok, nil},
		"the report is old": {
			is{fresh(false, freshness.Proven, time.Hour), func(o *overview) { o.Fresh.OK = false }}, ok, nil,
		},
		"several, the worst first": {
			is{waits(1, 11*time.Minute), dead(2), never},
			bad,
			[]string{"1 event waits", "2 events failed", "No webhook"},
		},
	} {
		o := overview{
			Now: now, Database: true, Inngest: true, HasKey: true,
			Pending: known[inbox.Pending]{OK: true}, Dead: known[int]{OK: true},
			State: known[reconcile.Status]{reconcile.Status{LastWebhook: now.Add(-time.Hour)}, true},
			Rows:  known[int]{100, true}, Clerk: known[int]{100, true}, Activity: known[activity.Summary]{OK: true},
		}
		for _, set := range tc.is {
			set(&o)
		}
		v := judge(o)
		if v.Level != tc.level || v.Headline == "" || len(v.Reasons) != len(tc.want) {
			t.Errorf("%s: got %+v, want %s with %d reasons", name, v, tc.level, len(tc.want))
			continue
		}
		for i, want := range tc.want {
			if !strings.Contains(v.Reasons[i].Text, want) {
				t.Errorf("%s: got %q, want %q", name, v.Reasons[i].Text, want)
			}
		}
	}
}

// TestWords: durations and numbers as a person writes them.
func TestWords(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		-time.Second: "0 ms", 0: "0 ms", 999 * time.Millisecond: "999 ms", time.Second: "1.0 s",
		9949 * time.Millisecond: "9.9 s", 9950 * time.Millisecond: "10 s",
		59 * time.Second: "59 s", time.Minute: "1 min",
		59*time.Minute + 59*time.Second: "59 min", time.Hour: "1 h", 47 * time.Hour: "47 h", 48 * time.Hour: "2 days",
	} {
		if got := span(d); got != want {
			t.Errorf("span(%d): got %s, want %s", d, got, want)
		}
	}
	for n, want := range map[int]string{
		0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -100: "-100", -1000: "-1,000",
	} {
		if got := number(n); got != want {
			t.Errorf("number(%d): got %s, want %s", n, got, want)
		}
	}
}

// TestChart: a minute's bar is as high as its webhooks are many, what is there can be seen, and the words say it too.
func TestChart(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 11, 26, 11, 0, 0, 0, time.UTC)
	minutes := make([]activity.Minute, 60)
	for i := range minutes {
		minutes[i].Start = start.Add(time.Duration(i) * time.Minute)
	}
	minutes[5].Taken, minutes[7].Taken, minutes[7].Refused = 1, 900, 100
	o := overview{Activity: known[activity.Summary]{activity.Summary{Minutes: minutes}, true}}
	bars := o.Chart()
	if b := bars[7]; b.Taken+b.Refused < chartHeight-4 || b.RefusedAt < 0 || b.Taken < 8*b.Refused {
		t.Errorf("the highest bar is %+v", b)
	}
	if b := bars[5]; b.Taken != 2 || b.Refused != 0 || b.TakenAt != chartHeight-2 {
		t.Errorf("the lowest bar is %+v", b)
	}
	if last := bars[59]; last.X+last.Width > chartWidth || last.Taken != 0 {
		t.Errorf("the last bar is %+v", last)
	}
	want := "901 webhooks in the last hour, at most 1,000 in a minute, at 11:07 UTC; 100 more were refused."
	if got := o.ChartText(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := (overview{}).ChartText(); got != "No webhook came in the last hour." {
		t.Errorf("nothing: got %q", got)
	}
	_ = (overview{}).Chart() // it divides by nothing
}
