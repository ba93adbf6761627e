package status

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"clerksync/activity"
	"clerksync/freshness"
	"clerksync/functions"
	"clerksync/inbox"
	"clerksync/reconcile"
	"clerksync/store"
)

const (
	// readTime bounds how long the page waits for the database, Inngest and Clerk. What has not answered by then is
	// unknown.
	readTime = 3 * time.Second
	// readEvery is how old what the page shows may be, and readEveryDev in development. All viewers share it, so that
	// many cost no more than one.
	readEvery    = time.Second
	readEveryDev = 200 * time.Millisecond
	restAtMost   = 10 * time.Second
	// askClerkEvery is how old the number of Clerk's users may be, because Clerk's API is slow and limited.
	askClerkEvery = time.Minute
	// maxShown is how many dead letters are listed.
	maxShown = 50
	// maxError is how many characters of an error are shown.
	maxError = 500
)

// known is something that the page has asked for. If OK is false, there was no answer.
type known[T any] struct {
	Is T
	OK bool
}

func ask[T any](v T, err error) known[T] { return known[T]{v, err == nil} }

// users is how many users Clerk has.
type users struct {
	known[int]
	at time.Time // when Clerk was asked
}

// overview is what the page knows of the sync as a whole.
type overview struct {
	Now      time.Time // when it was read
	Database bool      // it answers
	Inngest  bool      // it can be reached
	Pending  known[inbox.Pending]
	Dead     known[int]                // how many dead letters there are
	Letters  known[[]inbox.DeadLetter] // the newest of them
	State    known[reconcile.Status]
	Rows     known[int] // about how many
	HasKey   bool       // of Clerk's API
	Clerk    known[int] // how many users Clerk has
	Off      []reconcile.Tier
	Fresh    known[freshness.Report] // as any process has saved it
	Activity known[activity.Summary] // if it is not OK, it has what this process knows itself
}

// overview returns what the page knows. It reads it again after p.readEvery, or after ten times as long as reading
// took, so that a busy database is not asked all the time because somebody watches; after restAtMost at the latest.
func (p *Page) overview(ctx context.Context) overview {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	if now.Sub(p.last.Now) < p.rest() {
		return p.last
	}
	defer func() { p.took = p.now().Sub(now) }()
	// Others may use it too, so it must not be cut off when this viewer leaves.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readTime)
	defer cancel()
	o := overview{Now: now, HasKey: p.ClerkUsers != nil, Off: p.off()}
	var all sync.WaitGroup
	all.Go(func() { o.Database = p.DB.Ping(ctx) == nil })
	all.Go(func() { o.Inngest = p.Inngest.Reach(ctx) == nil })
	all.Go(func() { o.Pending = ask(p.inbox.Pending(ctx)) })
	all.Go(func() { o.Dead = ask(p.inbox.CountDeadLetters(ctx)) })
	all.Go(func() { o.Letters = ask(p.inbox.NewestDeadLetters(ctx, maxShown)) })
	all.Go(func() { o.State = ask(reconcile.ReadStatus(ctx, p.state)) })
	all.Go(func() {
		r, there, err := freshness.Read(ctx, p.state)
		o.Fresh = known[freshness.Report]{r, err == nil && there && !r.Old(now)}
	})
	all.Go(func() { o.Activity = ask(p.Activity.Summary(ctx)) })
	all.Go(func() {
		rows, _, err := p.Users.Estimate(ctx)
		o.Rows = ask(rows, err)
	})
	all.Go(func() {
		if p.ClerkUsers != nil && now.Sub(p.clerk.at) >= askClerkEvery {
			p.clerk = users{ask(p.ClerkUsers(ctx)), now}
		}
		o.Clerk = p.clerk.known
	})
	all.Wait()
	p.last = o
	return o
}

// rest returns how old an overview may be. The caller has p.mu.
func (p *Page) rest() time.Duration { return max(p.readEvery, min(10*p.took, restAtMost)) }

// forget makes the next overview a new one, because something was changed.
func (p *Page) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = overview{}
}

// off returns the tiers that do not run.
func (p *Page) off() []reconcile.Tier {
	return slices.DeleteFunc(reconcile.Tiers(), func(t reconcile.Tier) bool { return slices.Contains(p.Tiers, t) })
}

// view is what the template page.html gets.
type view struct {
	overview
	verdict

	Login     bool   // somebody who is not let in may log in
	Refused   string // why somebody is not let in
	Session   bool   // there is a session to end
	Dev       bool   // there are the buttons of 'clerksync dev'
	Said      string // what was done
	Query     string // what was looked for
	Found     *found // nil if nothing was looked for
	Functions []string
	InngestAt string // the URL of Inngest's page
	Users     []row  // of those whose rows changed last, the newest first; only in development
}

// view returns the page as the visitor of the request sees it.
func (p *Page) view(r *http.Request) view {
	o := p.overview(r.Context())
	_, err := r.Cookie(cookieName)
	v := view{
		overview: o, verdict: judge(o), Session: err == nil, Dev: p.Play != nil, Said: words(r.URL.Query().Get("said")),
		Functions: p.Functions, InngestAt: p.Inngest.PageURL(),
	}
	if v.Dev {
		v.Users = p.changed(r.Context(), o.Activity.Is.Newest)
	}
	return v
}

// maxRows is how many rows are shown in development, and maxNewest how many events.
const (
	maxRows   = 8
	maxNewest = 10
)

// changed returns the rows of the users in events, each once. Of a user without a row it has only the id.
func (p *Page) changed(ctx context.Context, events []activity.Event) (rows []row) {
	had := map[string]bool{"": true}
	for _, e := range events {
		if had[e.UserID] || len(rows) == maxRows {
			continue
		}
		had[e.UserID] = true
		r, err := p.Users.Get(ctx, e.UserID)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			break // the page says so elsewhere
		}
		rows = append(rows, row{e.UserID, slices.DeleteFunc(r.Values(), func(v store.Value) bool {
			return v.Text == "" || v.Text == e.UserID || strings.HasPrefix(v.Path, p.Users.Map().State+".")
		})})
	}
	return rows
}

// row is a row as the page shows it in development.
type row struct {
	ID     string
	Fields []store.Value // without the id and clerksync's own state; nil if there is no row
}

// event is an event as the page shows it.
type event struct {
	activity.Event
	Became string
	Level  level
	Took   string // from the webhook, or from Clerk's change, to the row
}

// Newest returns what became of the newest events, the newest first. Errors are left out: what they quote is for the
// list of dead letters.
func (o overview) Newest() (all []event) {
	for _, e := range o.Activity.Is.Newest[:min(len(o.Activity.Is.Newest), maxNewest)] {
		shown := event{Event: e, Became: string(e.Outcome), Level: quiet}
		switch result := e.Result(); {
		case result == functions.Failed:
			shown.Became, shown.Level = "failed for good", bad
		case result == functions.Retried:
			shown.Became, shown.Level = "failed, and is tried again", warn
		case !e.Received.IsZero():
			shown.Took = span(e.Now.Sub(e.Received))
		}
		all = append(all, shown)
	}
	return all
}

// LastWebhook returns when the last webhook came: as the database says, which learns of it half a minute later, or as
// the processes know.
func (o overview) LastWebhook() time.Time {
	if last := o.Activity.Is.LastWebhook; last.After(o.State.Is.LastWebhook) {
		return last
	}
	return o.State.Is.LastWebhook
}

// tier is a tier as the page shows it.
type tier struct {
	Name, Does string
	State      string // what became of the last run
	Drift      string // what it found
	At         time.Time
	Level      level
}

// TierList returns the tiers with their last runs.
func (o overview) TierList() (all []tier) {
	does := map[reconcile.Tier]string{
		reconcile.Recent: "what Clerk has changed since the last run",
		reconcile.Absent: "rows of users whom Clerk no longer has",
		reconcile.Full:   "all rows and all users",
	}
	for _, name := range reconcile.Tiers() {
		t, runs := tier{Name: string(name), Does: does[name], Level: quiet}, o.State.Is.Runs[name]
		switch {
		case slices.Contains(o.Off, name):
			t.State = "off"
		case !o.State.OK:
			t.State = "unknown"
		case len(runs) == 0:
			t.State = "has not run yet"
		default:
			run := runs[0]
			t.At, t.Drift = run.StartedAt, drift(run.Found)
			switch {
			case run.EndedAt.IsZero() && run.Error != "":
				t.State, t.Level = "failed: "+run.Error, warn
			case run.EndedAt.IsZero():
				t.State = "under way"
			default:
				t.State, t.Level = "done", ok
			}
		}
		all = append(all, t)
	}
	return all
}

// Why says why an event failed. What a function that writes no row says may quote what is personal: its author may have
// put anything into the error, and a mail server names addresses. Its dead letters have SVIX-ID:FUNCTION as their id.
func (overview) Why(l inbox.DeadLetter) string {
	if strings.Contains(l.ID, ":") {
		return "Its error is not shown here, because it may hold personal data: 'clerksync deadletters show' has it."
	}
	if long := []rune(l.Error); len(long) > maxError {
		return string(long[:maxError]) + "…"
	}
	return l.Error
}

// HasTiers tells whether anybody looks for what webhooks do not bring, so that something is known of freshness.
func (o overview) HasTiers() bool {
	return o.Fresh.OK && !o.Fresh.Is.Off()
}

// Age says how old the oldest change may be that is not in the rows, and what it may become.
func (o overview) Age(s freshness.Scope) string {
	age, known := s.Age(o.Now)
	switch {
	case !o.Fresh.OK || s.State == freshness.Off:
		return "unknown"
	case !known:
		return "not proven yet"
	}
	return span(age)
}

// Ago says how long ago a time was.
func (o overview) Ago(t time.Time) string {
	if d := o.Now.Sub(t); d >= time.Second {
		return span(d) + " ago"
	}
	return "just now"
}

// Span says how long it has been since a time.
func (o overview) Span(t time.Time) string { return span(o.Now.Sub(t)) }

// Long, Number, Stamp, Clock and ISO write numbers and times for the template.
func (view) Long(d time.Duration) string { return span(d) }
func (view) Number(n int) string         { return number(n) }
func (view) Stamp(t time.Time) string    { return stamp(t) }
func (view) Clock(t time.Time) string    { return t.UTC().Format("15:04:05 UTC") }
func (view) ISO(t time.Time) string      { return t.UTC().Format(time.RFC3339) }
