package status

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"time"

	"clerksync/inbox"
	"clerksync/reconcile"
)

const (
	// readTime bounds how long the page waits for the database, Inngest and Clerk. What has not answered by then is
	// unknown.
	readTime = 3 * time.Second
	// readEvery is how old what the page shows may be. All viewers share it, so that many cost no more than one.
	readEvery = time.Second
	// askClerkEvery is how old the number of Clerk's users may be, because Clerk's API is slow and limited.
	askClerkEvery = time.Minute
	// maxShown is how many dead letters are listed.
	maxShown = 50
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
	Dead     known[[]inbox.DeadLetter]
	State    known[reconcile.Status]
	Rows     known[int] // about how many
	HasKey   bool       // of Clerk's API
	Clerk    known[int] // how many users Clerk has
	Off      []reconcile.Tier
}

// overview returns what the page knows, which is at most readEvery old.
func (p *Page) overview(ctx context.Context) overview {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	if now.Sub(p.last.Now) < readEvery {
		return p.last
	}
	// Others may use it too, so it must not be cut off when this viewer leaves.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readTime)
	defer cancel()
	o := overview{Now: now, HasKey: p.ClerkUsers != nil, Off: p.off()}
	var all sync.WaitGroup
	all.Go(func() { o.Database = p.DB.Ping(ctx) == nil })
	all.Go(func() { o.Inngest = p.Inngest.Reach(ctx) == nil })
	all.Go(func() { o.Pending = ask(p.inbox.Pending(ctx)) })
	all.Go(func() { o.Dead = ask(p.inbox.DeadLetters(ctx, false)) })
	all.Go(func() { o.State = ask(reconcile.ReadStatus(ctx, p.state)) })
	all.Go(func() { o.Rows = ask(p.Users.Count(ctx)) })
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
}

// view returns the page as the visitor of the request sees it.
func (p *Page) view(r *http.Request) view {
	o := p.overview(r.Context())
	_, err := r.Cookie(cookieName)
	return view{
		overview: o, verdict: judge(o), Session: err == nil, Dev: p.Play != nil, Said: words(r.URL.Query().Get("said")),
		Functions: p.Functions, InngestAt: p.Inngest.PageURL(),
	}
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

// ShownDead returns the dead letters that are listed, the newest failure first.
func (o overview) ShownDead() []inbox.DeadLetter {
	all := slices.Clone(o.Dead.Is)
	slices.Reverse(all)
	return all[:min(len(all), maxShown)]
}

// Ago says how long ago a time was.
func (o overview) Ago(t time.Time) string { return span(o.Now.Sub(t)) + " ago" }

// Span says how long it has been since a time.
func (o overview) Span(t time.Time) string { return span(o.Now.Sub(t)) }

// Number, Stamp, Clock and ISO write numbers and times for the template.
func (view) Number(n int) string      { return number(n) }
func (view) Stamp(t time.Time) string { return stamp(t) }
func (view) Clock(t time.Time) string { return t.UTC().Format("15:04:05 UTC") }
func (view) ISO(t time.Time) string   { return t.UTC().Format(time.RFC3339) }
