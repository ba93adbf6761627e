package reconcile

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"clerksync/clerk"
	"clerksync/store"

	"github.com/cenkalti/backoff/v5"
)

const (
	// settle is how long the recent tier leaves a change to its webhook.
	settle = time.Minute
	// overlap is how far the recent tier looks back behind the last run: for clocks that differ, and for what Clerk
	// lists late.
	overlap = 5 * time.Minute
	// firstLook is how far it looks back when there was no run.
	firstLook = time.Hour
	// clocks is how far our clock and Clerk's may be apart.
	clocks = time.Minute
	// writeTime is how long a backfill tries to write a page while the database fails.
	writeTime = 30 * time.Second
)

// resume begins a backfill, or goes on where an earlier one was cut off.
func (r *Reconcile) resume(ctx context.Context, p Progress) (Progress, error) {
	p.Outcomes = map[store.Outcome]int{}
	if !r.Restart && !r.DryRun {
		at, err := load[Progress](ctx, r.State, backfillName)
		if err != nil {
			return p, err
		}
		if at.Phase == listing { // else there is none, or it is one of an older version: begin with the first user
			p.Next, p.Listed, p.Found = at.Next, at.Listed, at.Found
			maps.Copy(p.Outcomes, at.Outcomes)
		}
	}
	return r.toList(ctx, p)
}

// toList goes on to the list of all users.
func (r *Reconcile) toList(ctx context.Context, p Progress) (_ Progress, err error) {
	p.Phase = listing
	p.Had, err = r.API.Count(ctx)
	return p, err
}

// list repairs a page of all users. If it fails, also because the list has left users out, the same page is asked for
// again. While the page is written the next one is fetched, so the network and the database work at once.
func (s *step) list(ctx context.Context, p Progress) (Progress, error) {
	fetch := func(after string) func() (clerk.Page, error) {
		return sync.OnceValues(func() (clerk.Page, error) { return s.API.ListCreated(ctx, after) })
	}
	if s.next == nil {
		s.next = fetch(p.Next)
	}
	page, err := s.next()
	if s.next = nil; err != nil {
		return p, err
	}
	if page.Next != "" && time.Now().Before(s.until) {
		next := fetch(page.Next)
		s.next = next
		go func() { _, _ = next() }()
	}
	if _, err := s.repair(ctx, page, &p); err != nil {
		return p, err
	}
	p.Next, p.Listed = page.Next, p.Listed+len(page.Users)+len(page.Skipped)
	if p.Next == "" {
		p.Phase = done
	}
	switch {
	case p.Tier != Backfill || s.DryRun:
	case p.Done():
		err = s.State.Remove(ctx, backfillName)
	default:
		err = s.State.Save(ctx, backfillName, p)
	}
	if err == nil && p.Done() {
		err = s.missed(ctx, p)
	}
	return p, err
}

// missed returns ErrMissed if Clerk's list has left users out. Who was deleted meanwhile may not have been listed, nor
// who signed up behind the last page.
func (r *Reconcile) missed(ctx context.Context, p Progress) error {
	has, err := r.API.Count(ctx)
	if err != nil || p.Listed >= min(p.Had, has) {
		return err
	}
	created, err := r.API.CountCreated(ctx, p.StartedAt.Add(-clocks))
	if want := min(p.Had, has-created); err == nil && p.Listed < want {
		err = fmt.Errorf("%w: Clerk's list named %d users, and Clerk has had %d all the while: run it again; "+
			"if that does not help, ask Clerk", ErrMissed, p.Listed, want)
	}
	return err
}

// recent repairs a page of the users that changed last. No webhook has brought what it repairs.
func (r *Reconcile) recent(ctx context.Context, p Progress) (Progress, error) {
	page, err := r.API.ListChanged(ctx, p.Next)
	if err != nil {
		return p, err
	}
	from, to := clerk.Millis(p.Since.UnixMilli()), clerk.Millis(p.StartedAt.Add(-settle).UnixMilli())
	all := page.Users
	page.Users = nil
	for _, u := range all {
		if u.ChangedAt < from { // so are all that follow: the list is by updated_at, which is never newer than this
			page.Next = ""
		} else if u.ChangedAt <= to {
			page.Users = append(page.Users, u)
		}
	}
	n, err := r.repair(ctx, page, &p)
	if err == nil {
		err = r.noteSilence(ctx, n)
	}
	if p.Next = page.Next; p.Next == "" {
		p.Phase = done
	}
	return p, err
}

// noteSilence counts changes that no webhook has brought.
func (r *Reconcile) noteSilence(ctx context.Context, n int) error {
	if n == 0 || r.DryRun {
		return nil
	}
	s, err := ReadStatus(ctx, r.State)
	if err != nil {
		return err
	}
	if s.Silence.Changed += n; s.Silence.First.IsZero() {
		s.Silence.First = time.Now()
	}
	return r.State.Save(ctx, silenceName, s.Silence)
}

// repair writes those users of a page whose rows differ, and returns how many. A user who cannot be read or written is
// logged and counted, and stops no other; but if nobody can be written, it is the database, and an error.
func (r *Reconcile) repair(ctx context.Context, page clerk.Page, p *Progress) (int, error) {
	writes := make([]store.Write, len(page.Users))
	for i, u := range page.Users {
		writes[i] = answer(clerk.Fetched{User: u, Times: page.Times})
	}
	results := r.write(ctx, writes, p.Tier)
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	p.Outcomes = maps.Clone(p.Outcomes) // the caller's stay as they are, for it may do this page again
	failed := slices.Clone(page.Skipped)
	var passing error // of one of failed
	n := 0
	for i, res := range results {
		d, err := r.drift(ctx, writes[i], res, p.Tier)
		switch {
		case errors.Is(err, errAsk):
			return n, err
		case err != nil:
			failed = append(failed, clerk.Skipped{ID: writes[i].User.ID, Err: err})
			if mayPass(err) {
				passing = err
			}
			continue
		case p.Tier == Backfill:
			p.Outcomes[res.Outcome]++
			n++
			continue
		case d.Kind == "":
			continue
		case d.Kind != Buried:
			n++
		case len(p.Buried) < maxNamed:
			p.Buried = append(p.Buried, d.UserID)
		}
		r.note(p, d)
	}
	if n == 0 && passing != nil {
		return n, fmt.Errorf("write Clerk's users: %w", passing)
	}
	for _, f := range failed {
		r.Log.ErrorContext(ctx, "a user of Clerk's cannot be read or written", "user_id", f.ID, "error", f.Err)
	}
	p.Found.Failed += len(failed)
	p.Found.Users += len(page.Users)
	return n, nil
}

// write writes a page, and returns what became of each user. In a backfill, whose steps nobody repeats, those whom the
// database does not take are tried again for a while; their errors are in the results.
func (r *Reconcile) write(ctx context.Context, writes []store.Write, t Tier) (results []store.Result) {
	mode, tries := store.Differing, uint(1)
	if t == Backfill {
		mode, tries = store.All, 0 // as many as there is time for
	}
	if r.DryRun {
		mode = store.DryRun
	}
	_, _ = backoff.Retry(ctx, func() (_ struct{}, passing error) {
		now := r.Users.Write(ctx, writes, mode) // of those who are written already it changes nothing
		if results == nil {
			results = now
		}
		for i := range results {
			if mayPass(results[i].Err) {
				results[i] = now[i]
			}
			if mayPass(results[i].Err) {
				passing = results[i].Err
			}
		}
		return struct{}{}, passing
	}, backoff.WithMaxTries(tries), backoff.WithMaxElapsedTime(writeTime))
	return results
}

// mayPass tells whether a user who was not written may be written when that is tried again.
func mayPass(err error) bool { return err != nil && !errors.Is(err, store.ErrRefused) }

// errAsk says that Clerk could not be asked for one user: the page has to be done again.
var errAsk = errors.New("a page of users is not done")

// drift returns in what the row of a listed user differs from Clerk, or differed, by what became of its write. The zero
// Drift is no difference, or one that is to be left alone. It holds errAsk if Clerk could not be asked for the user.
func (r *Reconcile) drift(ctx context.Context, w store.Write, res store.Result, t Tier) (Drift, error) {
	d := Drift{UserID: w.User.ID, Kind: Stale, Fields: res.Fields}
	var err error
	switch {
	case res.Err != nil:
		return Drift{}, res.Err
	case res.Outcome == store.Created:
		d.Kind = Missing
	case res.Outcome == store.Updated:
	case t != Full:
		return Drift{}, nil
	case res.Outcome == store.Deleted:
		// Clerk's list may go on to name who is deleted: ask for that one.
		if _, err = r.ask(ctx, w.User.ID); errors.Is(err, clerk.ErrNotUser) {
			err = nil
		}
		d.Kind = Buried
	default:
		if d.Fields, err = r.overrule(ctx, w, res); d.Fields == nil && err == nil {
			return Drift{}, nil
		}
	}
	if errors.Is(err, clerk.ErrNoUser) { // deleted meanwhile
		return Drift{}, nil
	}
	return d, err
}

// ask asks Clerk for one user. All errors but clerk.ErrNoUser and clerk.ErrNotUser hold errAsk.
func (r *Reconcile) ask(ctx context.Context, id string) (clerk.Fetched, error) {
	f, err := r.API.User(ctx, id)
	if err != nil && !errors.Is(err, clerk.ErrNoUser) && !errors.Is(err, clerk.ErrNotUser) {
		err = fmt.Errorf("%w: %w", errAsk, err)
	}
	return f, err
}

// overrule repairs a row that is deaf: one that is newer than what Clerk lists, by a time that is wrong, or was right
// until what had that time was removed from the user. Every event and every tier takes such a row for newer. It returns
// the fields in which the row differed, or nil if it is left as it is: it may well be newer than the list. Only what
// Clerk says of this one user is believed, and it is written only over the version that the row had before Clerk was
// asked.
func (r *Reconcile) overrule(ctx context.Context, w store.Write, was store.Result) ([]store.Field, error) {
	future := store.FromFuture(was.Version, w.AnsweredAt)
	if !future && (was.Outcome != store.Stale || len(was.Fields) == 0) {
		return nil, nil
	}
	f, err := r.ask(ctx, w.User.ID)
	if err != nil {
		return nil, err
	}
	one := answer(f)
	now := r.Users.Write(ctx, []store.Write{one}, store.DryRun)[0]
	isBehind := !future && !slices.Equal(now.Fields, was.Fields) // Clerk's list
	if now.Err != nil || now.Version != was.Version || isBehind {
		return nil, now.Err
	}
	fields := now.Fields
	if future {
		version := store.Field{Name: "clerk.version", Row: was.Version, Clerk: fmt.Sprintf("%013d", f.User.ChangedAt)}
		fields = append(fields, version)
	}
	if !r.DryRun {
		o, err := r.Users.Overrule(ctx, one, was.Version)
		if err != nil || o == store.Stale || o == store.Deleted {
			return nil, err
		}
	}
	return fields, nil
}
