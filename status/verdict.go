package status

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"clerksync/freshness"
	"clerksync/inbox"
	"clerksync/reconcile"
)

// level says how good or bad something is.
type level string

// The levels, which are also classes in style.css.
const (
	quiet level = "quiet" // neither good nor bad
	ok    level = "ok"
	warn  level = "warn" // it works, but somebody should look
	bad   level = "bad"  // rows do not become as Clerk has the users
)

// verdict says whether the sync works.
type verdict struct {
	Level    level
	Headline string
	Reasons  []reason // the worst first
}

// reason is a sentence that says what is wrong and what to do.
type reason struct {
	Level level
	Text  string
}

const (
	// lateAfter is how long an event may wait until somebody should look: by then it was sent a second time.
	lateAfter = 2 * time.Minute
	// fewMissing is how many of Clerk's users may have no row without a word: their webhooks may be on the way.
	fewMissing = 10
)

// judge decides whether the sync works, and says why not.
func judge(o overview) verdict {
	var all []reason
	say := func(when bool, l level, text string, args ...any) {
		if when {
			all = append(all, reason{l, fmt.Sprintf(text, args...)})
		}
	}
	say(!o.Database, bad, "The database does not answer: webhooks are refused, and Clerk sends them again. "+
		"Look at the database, and at MONGODB_URI.")
	say(!o.Inngest, bad, "Inngest cannot be reached: webhooks are kept, and their rows are written when it is back. "+
		"Look at Inngest, at the network, and at INNGEST_BASE_URL or INNGEST_DEV.")

	s := o.State.Is
	if alarm := s.Silence.Alarm(o.Now); alarm != "" {
		say(true, bad, "%s.", upper(alarm))
	} else {
		say(o.State.OK && o.LastWebhook().IsZero(), quiet,
			"No webhook has come yet: send one from Clerk's dashboard (Webhooks, Testing), or by 'clerksync send'.")
	}
	waits := o.Now.Sub(o.Pending.Is.Oldest)
	if n := o.Pending.Is.Events; n > 0 {
		text := count(n, "event waits", "events wait") + " for their functions, the oldest for " + span(waits)
		stuck := waits > inbox.StuckAfter
		say(stuck, bad,
			"%s: the functions do not run. See Inngest's page, and check INNGEST_SERVE_ORIGIN.", text)
		say(waits > lateAfter && !stuck, warn, "%s: they are sent again until they are written.", text)
	}
	if n := o.Dead.Is; n > 0 {
		say(true, warn, "%s for good: see below why, and replay or drop.", count(n, "event failed", "events failed"))
	}
	for _, name := range reconcile.Tiers() {
		if runs := s.Runs[name]; len(runs) > 0 && !slices.Contains(o.Off, name) {
			r := runs[0]
			say(r.EndedAt.IsZero() && r.Error != "", warn, "The comparison %q failed: see below why.", name)
			say(r.Found.Failed > 0, warn, "The comparison %q could not read or write %s: the service's log names them.",
				name, count(r.Found.Failed, "user", "users"))
			say(r.Found.Buried > 0, warn,
				"Clerk has %s whom clerksync holds to be deleted: 'clerksync doctor' names them.",
				count(r.Found.Buried, "user", "users"))
		}
	}
	if r := o.Fresh.Is; o.HasTiers() {
		late := r.Changes.State == freshness.Proven && r.Changes.Late(o.Now)
		say(late, bad, "Rows may lack changes that are %s old, more than FRESHNESS_TARGET (%s): see below why.",
			o.Age(r.Changes), span(r.Changes.Target()))
		say(!late && !r.Trusted, warn, "An app may not trust the collection: see below why.")
	}
	if missing := o.Clerk.Is - o.Rows.Is - o.Pending.Is.Events; o.Clerk.OK && o.Rows.OK {
		say(missing > max(fewMissing, o.Clerk.Is/100), warn,
			"Clerk has %s more than there are rows: run 'clerksync backfill' for those from before the first webhook.",
			count(missing, "user", "users"))
	}
	for what, unknown := range map[string]bool{
		"which events wait": !o.Pending.OK, "which events failed": !o.Dead.OK,
		"what the comparisons found": !o.State.OK,
	} {
		say(unknown && o.Database, warn, "The database does not say %s: see the service's log.", what)
	}

	worst := func(r reason) int { return slices.Index([]level{bad, warn, quiet}, r.Level) }
	slices.SortStableFunc(all, func(a, b reason) int { return cmp.Compare(worst(a), worst(b)) })
	v := verdict{ok, "It works", all}
	if len(all) > 0 {
		v.Level = all[0].Level
		v.Headline = map[level]string{
			bad: "It does not work", warn: "It works, but somebody should look", quiet: "It is ready",
		}[v.Level]
	}
	return v
}

// drift says what a run compared and found.
func drift(f reconcile.Found) string {
	text := fmt.Sprintf("%s and %s compared", count(f.Users, "user", "users"), count(f.Rows, "row", "rows"))
	var found []string
	for _, kind := range []struct {
		n    int
		name string
	}{
		{f.Missing, "missing"},
		{f.Stale, "stale"},
		{f.Extra, "extra"},
		{f.Buried, "buried"},
		{f.Unknown, "unknown"},
		{f.Failed, "failed"},
	} {
		if kind.n > 0 {
			found = append(found, number(kind.n)+" "+kind.name)
		}
	}
	if found == nil {
		return text + ", no drift"
	}
	return text + ": " + strings.Join(found, ", ")
}

// count returns a number with the word for it.
func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return number(n) + " " + many
}

// number writes a number with a comma before each three digits.
func number(n int) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// span writes how long something took or is ago.
func span(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", max(d, 0).Milliseconds())
	case d < 9950*time.Millisecond: // more is rounded to 10
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()+.05))
	}
	return reconcile.Span(d)
}

func upper(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
