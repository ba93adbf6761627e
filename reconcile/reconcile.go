// Package reconcile makes the rows equal to what Clerk's API says: tier by tier, or for one user at a time.
package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"clerksync/clerk"
	"clerksync/store"
	"clerksync/store/database"
)

// Errors that no retry mends.
var (
	ErrBusy   = errors.New("another reconcile is running")
	ErrBrake  = errors.New("the brake RECONCILE_MAX_DELETE holds")
	ErrMissed = errors.New("users were passed over") // by Clerk's list
)

const (
	// leaseTime is how long a run that does nothing keeps others from running: longer than any step.
	leaseTime = 3 * time.Minute
	// maxNamed is how many users a run remembers by their ids.
	maxNamed = 10
	// leaseLook is how often a run that waits looks whether it may begin.
	leaseLook = time.Second
)

// Tier is how much a run compares.
type Tier string

// The tiers.
const (
	Recent Tier = "recent" // the users that Clerk has changed since the last run
	Absent Tier = "absent" // the rows of users that Clerk may not have any more
	Full   Tier = "full"   // all rows and all users
	// Backfill is all users. It removes nothing, so it needs no brake and may run beside others. Cut off, it goes on
	// where it was.
	Backfill Tier = "backfill"
)

// Tiers returns those that the service runs by itself.
func Tiers() []Tier { return []Tier{Recent, Absent, Full} }

// Drift is a row that is not as Clerk has it.
type Drift struct {
	UserID string
	Kind   Kind
	Fields []store.Field // of a stale row
}

// Kind is in what a row differs.
type Kind string

// The kinds.
const (
	Missing Kind = "missing" // Clerk has the user, and there is no row
	Stale   Kind = "stale"   // the row has other values
	Extra   Kind = "extra"   // Clerk does not have the user
	Buried  Kind = "buried"  // Clerk has the user, and there is a tombstone: no run repairs that, see Restore
	Unknown Kind = "unknown" // Clerk does not have the user, and clerksync has never written the row
)

// Reconcile makes rows equal to what Clerk's API says. All that it writes goes through the store's rules, so webhooks
// may arrive meanwhile: the newer change wins, and who is deleted stays so. It sends no events.
type Reconcile struct {
	API   *clerk.API
	Users *store.Users
	State database.Checkpoints
	Log   *slog.Logger
	// InstanceID is the Clerk instance that the operator has set; "" is the one that is remembered.
	InstanceID string
	// MaxDelete is how many rows in a hundred a run may remove; it may always remove minBrake.
	MaxDelete float64
	// StepTime is about how long a step takes: no page is begun after it.
	StepTime time.Duration
	// DryRun only finds drift, and remembers nothing.
	DryRun bool
	// RemoveUnknown also removes unknown rows.
	RemoveUnknown bool
	// Restart makes a backfill begin with the first user, although an earlier one was cut off.
	Restart bool
	// Report, if set, is called for each drift, repaired or not.
	Report func(Drift)
	// OnPage, if set, is called after each page of work.
	OnPage func(Progress)
}

// phase is what a run does next.
type phase string

const (
	begin    phase = ""
	counting phase = "counting" // rows whose users Clerk's list does not name
	deleting phase = "deleting" // those of them whom Clerk does not have
	listing  phase = "listing"  // all users
	changed  phase = "changed"  // users, last changed first
	done     phase = "done"
)

// Progress is how far a run is: the one thing that a step hands to the next. It holds nothing of users but ids.
type Progress struct {
	Run
	Tier    Tier      `json:"tier"`
	Phase   phase     `json:"phase"` // "" until the run has begun
	Next    string    `json:"next,omitempty"`
	Since   time.Time `json:"since,omitzero"`   // the recent tier looks back so far
	MayGo   int       `json:"may_go"`           // rows that the run may remove
	Unnamed int       `json:"unnamed"`          // those of them whom Clerk's list did not name
	Had     int       `json:"had,omitempty"`    // users whom Clerk had before it listed them
	Listed  int       `json:"listed,omitempty"` // users whom Clerk has listed so far
	// Outcomes counts what a backfill did with the users that it could read and write.
	Outcomes map[store.Outcome]int `json:"outcomes,omitempty"`
}

// Start returns the progress of a run before its first step; id tells the run from all others.
func Start(t Tier, id string) Progress {
	return Progress{Tier: t, Run: Run{ID: id, StartedAt: time.Now()}}
}

// Done tells whether the run has ended.
func (p Progress) Done() bool { return p.Phase == done }

// BusyError is ErrBusy, and says whose lease it is.
type BusyError struct{ database.Lease }

func (e *BusyError) Error() string {
	until := e.Until.UTC().Format(time.TimeOnly)
	return fmt.Sprintf("%v: %s, whose lease ends at %s UTC unless it goes on", ErrBusy, e.Holder, until)
}

// Unwrap makes it ErrBusy.
func (*BusyError) Unwrap() error { return ErrBusy }

// Run does all steps of a run, for who waits for its end. If it meets the lease of another run, it calls busy and waits
// until the lease ends: the other may have been killed. If the other goes on instead, the error is the BusyError.
func (r *Reconcile) Run(ctx context.Context, p Progress, busy func(*BusyError)) (Progress, error) {
	var first *BusyError
	for !p.Done() {
		var err error
		p, err = r.Step(ctx, p)
		b, isBusy := errors.AsType[*BusyError](err)
		switch {
		case err == nil:
			continue
		case !isBusy, first != nil && *b != *first:
			return p, err
		case first == nil:
			first = b
			busy(b)
		}
		select {
		case <-time.After(min(leaseLook, max(time.Until(b.Until), 0)+time.Millisecond)):
		case <-ctx.Done():
			return p, ctx.Err()
		}
	}
	return p, nil
}

// Step goes on with a run for about StepTime, and returns how far it is then. If it fails, the same step may be done
// again. A run that is neither done nor stepped on for leaseTime lets others run. The error is a BusyError while
// another runs, ErrBrake if too many rows would go, and clerk.ErrKey if the key is not accepted or is of another
// instance.
func (r *Reconcile) Step(ctx context.Context, p Progress) (Progress, error) {
	if err := r.claim(ctx, p, time.Now().Add(leaseTime)); err != nil {
		return p, err
	}
	ctx, cancel := context.WithCancel(ctx)
	s := &step{Reconcile: r, until: time.Now().Add(r.StepTime)}
	defer func() {
		if cancel(); s.next != nil { // this ends what is still being fetched
			_, _ = s.next()
		}
	}()
	do := map[phase]func(context.Context, Progress) (Progress, error){
		begin: s.begin, counting: s.absent, deleting: s.absent, listing: s.list, changed: s.recent,
	}
	var err error
	for first := true; err == nil && !p.Done() && (first || time.Now().Before(s.until)); first = false {
		if do[p.Phase] == nil {
			return p, fmt.Errorf("the reconcile has no phase %q", p.Phase)
		}
		if p, err = do[p.Phase](ctx, p); err == nil && r.OnPage != nil {
			r.OnPage(p)
		}
	}
	return p, errors.Join(err, r.record(ctx, p, err))
}

// step is a Step that is being done.
type step struct {
	*Reconcile
	until time.Time
	// next fetches the next page of all users, or waits for it. It is nil if the page is not known.
	next func() (clerk.Page, error)
}

// isAlone tells whether a run keeps others from running and is remembered. Not so a backfill, which harms no other, nor
// one that writes nothing.
func (r *Reconcile) isAlone(p Progress) bool { return !r.DryRun && p.Tier != Backfill }

// claim takes or prolongs the lease of a run; with a time that is past it gives the lease back.
func (r *Reconcile) claim(ctx context.Context, p Progress, until time.Time) error {
	if !r.isAlone(p) {
		return nil
	}
	holder := fmt.Sprintf("%s tier, run %s", p.Tier, p.ID)
	l, err := r.State.Claim(ctx, leaseName, database.Lease{Holder: holder, Until: until})
	if err == nil && l.Holder != holder {
		return &BusyError{l}
	}
	return err
}

// record remembers how far a run is, and ends its lease with it.
func (r *Reconcile) record(ctx context.Context, p Progress, failure error) error {
	if !r.isAlone(p) {
		return nil
	}
	// That a run was cut off is worth remembering too.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	switch {
	case failure != nil:
		p.Error = failure.Error()
	case p.Done():
		p.EndedAt = time.Now()
	}
	err := keepRun(ctx, r.State, p.Tier, p.Run)
	if err == nil && (failure != nil || p.Done()) {
		err = r.claim(ctx, p, time.Now())
	}
	return err
}

func (r *Reconcile) begin(ctx context.Context, p Progress) (Progress, error) {
	if err := CheckInstance(ctx, r.API, r.State, r.InstanceID, !r.DryRun); err != nil {
		return p, err
	}
	switch p.Tier {
	case Backfill:
		return r.resume(ctx, p)
	case Recent:
		p.Phase, p.Since = changed, p.StartedAt.Add(-firstLook)
		runs, err := load[savedRuns](ctx, r.State, runsName(Recent))
		if run, ok := lastGood(runs.Runs); ok {
			p.Since = run.StartedAt.Add(-overlap)
		}
		return p, err
	}
	p.Phase = counting
	return p, nil
}

// note counts and reports a drift.
func (r *Reconcile) note(p *Progress, d Drift) {
	*p.Found.counts()[string(d.Kind)]++
	if r.Report != nil {
		r.Report(d)
	}
}
