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
	"clerksync/store/database"

	"github.com/cenkalti/backoff/v5"
)

const (
	// settle is how old a change must be for the recent tier: before that it is left to its webhook.
	settle = time.Minute
	// overlap is how far before the start of its last run the recent tier looks back, because clocks may differ and
	// Clerk may list changes late.
	overlap = 5 * time.Minute
	// firstLook is how far the recent tier looks back if it has never run.
	firstLook = time.Hour
	// readings is how often the recent tier reads the changed users before it gives up to find nobody moving: while it
	// reads, no other tier can run.
	readings = 4
	// tryAgain is how long the recent tier looks at users again whom it could not write. After that they are left to
	// the full tier, because with every run it would read more.
	tryAgain = 24 * time.Hour
	// clocks is how far our clock and Clerk's may differ.
	clocks = time.Minute
	// writeTime is how long a backfill tries to write a page if the database fails.
	writeTime = 30 * time.Second
)

// resume begins a backfill, or goes on where an earlier backfill was cut off.
func (r *Reconcile) resume(ctx context.Context, p Progress) (Progress, error) {
	p.Outcomes, p.Began = map[store.Outcome]int{}, p.StartedAt
	if !r.Restart && !r.DryRun {
		at, err := load[Progress](ctx, r.State, backfillName)
		if err != nil {
			return p, err
		}
		if at.Phase == listing { // else there is none, or only of an older version: begin anew
			p.Next, p.Listed, p.Found, p.Began = at.Next, at.Listed, at.Found, at.Began
			if at.Map != p.Map { // another map, or an older version, wrote the users of its first part
				p.Began = time.Time{}
			}
			maps.Copy(p.Outcomes, at.Outcomes)
		}
	}
	return r.toList(ctx, p)
}

// toList sets the phase to listing, after it has asked for the number of users.
func (r *Reconcile) toList(ctx context.Context, p Progress) (_ Progress, err error) {
	p.Phase = listing
	p.Had, err = r.API.Count(ctx)
	return p, err
}

// list repairs the next page of Clerk's list of all users. If it fails, also with ErrMissed, the next attempt asks for
// the same page again. While a page is written, the next one is fetched, so that the network and the database work at
// the same time.
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
	if err == nil && p.Done() && p.Tier == Backfill && !s.DryRun {
		err = s.noteBackfill(ctx, p)
	}
	return p, err
}

// noteBackfill saves that a backfill has ended. Its users are as Clerk had them when its first part began, or later.
func (r *Reconcile) noteBackfill(ctx context.Context, p Progress) error {
	if p.Began.IsZero() {
		return nil
	}
	p.StartedAt, p.EndedAt = p.Began, time.Now()
	return keepRun(ctx, r.State, Backfill, p.Run)
}

// missed returns ErrMissed if Clerk's list has left users out. The list need not name users who were deleted or created
// during the run, so missed compares the number of listed users with the smaller of two numbers: Clerk's users before
// the list, and Clerk's users now without those created since.
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

// lookBack returns the progress of a recent run that looks back to the last run that succeeded, or to the last one that
// could write every user, if that is not long ago. runs are those before it, newest first. A run that began after now
// was made by a machine with a wrong clock: it has not seen what changes until then.
func lookBack(p Progress, runs []Run) Progress {
	runs = slices.DeleteFunc(slices.Clone(runs), func(r Run) bool { return r.StartedAt.After(p.StartedAt.Add(clocks)) })
	p.Phase, p.Since = changed, p.StartedAt.Add(-firstLook)
	run, ok := lastGood(runs)
	if all, there := last(runs, Run.wroteAll); there && run.StartedAt.Sub(all.StartedAt) < tryAgain {
		run = all
	}
	if ok {
		p.Since = run.StartedAt.Add(-overlap)
	}
	p.SeenSince = p.Since
	if run.wroteAll() && run.Map == p.Map && !run.SeenSince.IsZero() {
		p.SeenSince = run.SeenSince
	}
	return p
}

// recent repairs a page of Clerk's list of users, the last changed first. It counts the users whom it repairs as
// changes that no webhook has brought. Users who have changed in the last minute are repaired too, because an older
// change of theirs may be missing. The next run counts them (noteYoung), because their webhook may be under way.
func (r *Reconcile) recent(ctx context.Context, p Progress) (Progress, error) {
	if p.Next == "" {
		p.Began = time.Now()
	}
	page, err := r.API.ListChanged(ctx, p.Next)
	if err != nil {
		return p, err
	}
	from, to := clerk.Millis(p.Since.UnixMilli()), clerk.Millis(p.StartedAt.Add(-settle).UnixMilli())
	all, young := page.Users, page
	page.Users, young.Users, young.Skipped = nil, nil, nil
	for _, u := range all {
		// The list is sorted by updated_at, which is never newer than ChangedAt. So the users that follow were updated
		// before from, too.
		if u.ChangedAt < from {
			page.Next = ""
		} else if u.ChangedAt <= to {
			page.Users = append(page.Users, u)
		} else {
			young.Users = append(young.Users, u)
		}
	}
	n, err := r.repair(ctx, page, &p)
	if err == nil {
		err = r.noteSilence(ctx, n)
	}
	if err == nil {
		uncounted := Progress{Tier: p.Tier}
		n, err = r.quietly().repair(ctx, young, &uncounted)
		p.Found.Failed += uncounted.Found.Failed
		p.Young += n
	}
	switch {
	case page.Next == "" && p.Next != "" && p.Readings == readings-1:
		p.Moving, p.Phase = true, done // the next run reads those who have moved, because it looks back far enough
	case page.Next == "" && p.Next != "":
		p.Readings++
		// Who changes while there are still pages to read goes from one of them to the first one. So the changes since
		// the first page are read too, until they are a single page.
		p.Since = p.Began.Add(-settle)
	case page.Next == "":
		p.Phase = done
	}
	p.Next = page.Next
	return p, err
}

// noteYoung counts the changes that the last run repaired when they were young, unless a webhook has come since they
// were made. runs are those before this one, newest first.
func (r *Reconcile) noteYoung(ctx context.Context, runs []Run) error {
	if len(runs) == 0 || runs[0].Young == 0 {
		return nil
	}
	heard, err := load[savedWebhook](ctx, r.State, webhookName)
	if err != nil || heard.At.After(runs[0].StartedAt.Add(-settle)) {
		return err
	}
	return r.noteSilence(ctx, runs[0].Young)
}

// quietly returns r without its reports.
func (r *Reconcile) quietly() *Reconcile {
	q := *r
	q.Report, q.OnPage = nil, nil
	return &q
}

// noteSilence adds n to the number of changes that no webhook has brought.
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

// repair writes the users of a page whose rows differ. It returns how many they are, without those rows that another
// map has written, which say nothing about webhooks. A user who cannot be read or written is logged and counted, and
// the others go on. But if no user can be written, and one of the errors may pass, repair fails, because then the
// database is the reason.
func (r *Reconcile) repair(ctx context.Context, page clerk.Page, p *Progress) (int, error) {
	writes := make([]store.Write, len(page.Users))
	for i, u := range page.Users {
		writes[i] = answer(clerk.Fetched{User: u, Times: page.Times}, string(p.Tier))
	}
	results := r.write(ctx, writes, p.Tier)
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	if err := r.untangle(ctx, writes, results, p); err != nil {
		return 0, err
	}
	p.Outcomes = maps.Clone(p.Outcomes) // the caller's map stays as it is, because the caller may do this page again
	failed := slices.Clone(page.Skipped)
	var passing error // an error of one of failed, which may pass
	n, behind := 0, 0
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
			if n++; res.Behind {
				behind++
			}
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
	return n - behind, nil
}

// write writes a page and returns the result for each user. Nobody repeats the steps of a backfill, so there it tries
// the users whom it could not write again, for at most writeTime. The errors that remain are in the results.
func (r *Reconcile) write(ctx context.Context, writes []store.Write, t Tier) (results []store.Result) {
	mode, tries := r.mode(t), uint(1)
	if t == Backfill {
		tries = 0 // as many as writeTime allows
	}
	_, _ = backoff.Retry(ctx, func() (_ struct{}, passing error) {
		now := r.Users.Write(ctx, writes, mode) // users who are written already do not change again
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

// mode returns which writes a tier carries out.
func (r *Reconcile) mode(t Tier) store.Mode {
	switch {
	case r.DryRun:
		return store.DryRun
	case t == Backfill:
		return store.All
	}
	return store.Differing
}

// mayPass tells whether a write that failed with err may succeed when it is tried again.
func mayPass(err error) bool {
	final := errors.Is(err, store.ErrRefused) || errors.Is(err, store.ErrUnfit) || database.RefusesRow(err)
	return err != nil && !final
}

// errAsk says that Clerk could not be asked for one user, so the page has to be done again.
var errAsk = errors.New("a page of users is not done")

// drift returns how the row of a listed user differs from Clerk, or differed before res, which is the result of its
// write. It returns the zero Drift if there is no difference, or one that must be left alone. The error is errAsk if
// Clerk could not be asked for the user.
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
		// Clerk's list may still name a deleted user, so ask for this one user.
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

// ask asks Clerk for one user. The error is clerk.ErrNoUser, clerk.ErrNotUser or else errAsk.
func (r *Reconcile) ask(ctx context.Context, id string) (clerk.Fetched, error) {
	f, err := r.API.User(ctx, id)
	if err != nil && !errors.Is(err, clerk.ErrNoUser) && !errors.Is(err, clerk.ErrNotUser) {
		err = fmt.Errorf("%w: %w", errAsk, err)
	}
	return f, err
}

// overrule repairs a row that is deaf: its version is newer than anything that Clerk says, so the row would ignore
// every event and every tier. That happens with a wrong time, or if the newest time disappears from the user. But the
// row may also really be newer than Clerk's list. So overrule asks Clerk for this one user, and writes the answer only
// if the row still has the version that it had before the question. It returns the fields in which the row differed, or
// nil if it left the row as it is.
func (r *Reconcile) overrule(ctx context.Context, w store.Write, was store.Result) ([]store.Field, error) {
	future := store.FromFuture(was.Version, w.AnsweredAt)
	if !future && (was.Outcome != store.Stale || len(was.Fields) == 0) {
		return nil, nil
	}
	f, err := r.ask(ctx, w.User.ID)
	if err != nil {
		return nil, err
	}
	one := answer(f, w.Source.Kind)
	now := r.Users.Write(ctx, []store.Write{one}, store.DryRun)[0]
	isBehind := !future && !slices.Equal(now.Fields, was.Fields) // Clerk's list is only behind
	if now.Err != nil || now.Version != was.Version || isBehind {
		return nil, now.Err
	}
	fields := now.Fields
	if future {
		fields = append(fields, store.Field{
			Name: r.Users.Map().State + ".version", Row: was.Version, Clerk: fmt.Sprintf("%013d", f.User.ChangedAt),
		})
	}
	if !r.DryRun {
		o, err := r.Users.Overrule(ctx, one, was.Version)
		if err != nil || o == store.Stale || o == store.Deleted {
			return nil, err
		}
	}
	return fields, nil
}
