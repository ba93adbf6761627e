// Package reconcile makes the rows equal to what Clerk's API says, for all users in tiers, or for a single user.
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

// Errors that a retry does not help with.
var (
	ErrBusy   = errors.New("another reconcile is running")
	ErrBrake  = errors.New("the brake RECONCILE_MAX_DELETE holds")
	ErrMissed = errors.New("users were passed over") // Clerk's list left them out
)

const (
	// leaseTime is how long after its last step a run still keeps others from running. It is longer than any step.
	leaseTime = 3 * time.Minute
	// maxNamed is how many buried users a run remembers by their ids.
	maxNamed = 10
	// leaseLook is the time between two tries of a run that waits for another run's lease.
	leaseLook = time.Second
)

// Tier says how much a run compares.
type Tier string

// The tiers.
const (
	Recent Tier = "recent" // the users that Clerk has changed since the last run
	Absent Tier = "absent" // all rows, to find those of users whom Clerk no longer has
	Full   Tier = "full"   // all rows and all users
	// Backfill writes all users. It removes nothing, so it needs no brake and may run beside other runs. If it is cut
	// off, the next backfill goes on from there.
	Backfill Tier = "backfill"
)

// Tiers returns the tiers that the service runs by itself.
func Tiers() []Tier { return []Tier{Recent, Absent, Full} }

// Drift is a difference between a row and Clerk.
type Drift struct {
	UserID string
	Kind   Kind
	Fields []store.Field // of a stale row
}

// Kind says how a row differs from Clerk.
type Kind string

// The kinds.
const (
	Missing Kind = "missing" // Clerk has the user, and there is no row
	Stale   Kind = "stale"   // the row has other values
	Extra   Kind = "extra"   // Clerk does not have the user
	Buried  Kind = "buried"  // Clerk has the user, but there is a tombstone: no run repairs that, see Restore
	Unknown Kind = "unknown" // Clerk does not have the user, and clerksync has never written the row
)

// Reconcile makes rows equal to what Clerk's API says. It writes by the store's rules, so webhooks may arrive at the
// same time: the newer change wins, and deleted users stay deleted. It sends no events.
type Reconcile struct {
	API   *clerk.API
	Users *store.Users
	State database.Checkpoints
	Log   *slog.Logger
	// InstanceID is the Clerk instance that the operator has set. If it is "", the remembered one counts, see
	// CheckInstance.
	InstanceID string
	// MaxDelete is the percentage of the rows that a run may remove. It may always remove minBrake rows.
	MaxDelete float64
	// StepTime is about how long a step takes: after it, no new page is begun.
	StepTime time.Duration
	// DryRun makes a run only report drift. It writes nothing.
	DryRun bool
	// RemoveUnknown makes a run also remove unknown rows.
	RemoveUnknown bool
	// Restart makes a backfill begin with the first user, although an earlier one was cut off.
	Restart bool
	// Report, if set, is called for each drift, repaired or not.
	Report func(Drift)
	// OnPage, if set, is called after each page of work.
	OnPage func(Progress)
}

// phase says what a run does next.
type phase string

const (
	begin    phase = ""
	counting phase = "counting" // count the rows whose users Clerk's list does not name
	deleting phase = "deleting" // remove those of them whom Clerk does not have
	listing  phase = "listing"  // repair all users
	changed  phase = "changed"  // repair users, the last changed first
	done     phase = "done"
)

// Progress says how far a run is. It is all that a step passes to the next. Of users it holds only ids.
type Progress struct {
	Run
	Tier    Tier      `json:"tier"`
	Phase   phase     `json:"phase"` // "" until the run has begun
	Next    string    `json:"next,omitempty"`
	Since   time.Time `json:"since,omitzero"`   // the recent tier looks back until then
	MayGo   int       `json:"may_go"`           // rows that the run may remove
	Unnamed int       `json:"unnamed"`          // rows among them whose users Clerk's list did not name
	Had     int       `json:"had,omitempty"`    // how many users Clerk had before the list
	Listed  int       `json:"listed,omitempty"` // how many users Clerk has listed so far
	// Readings is how often the recent tier has read the changed users already.
	Readings int       `json:"readings,omitempty"`
	Began    time.Time `json:"began,omitzero"` // when a backfill's first part, or a reading of the changed users, began
	// Outcomes counts the outcomes of a backfill's writes that did not fail.
	Outcomes map[store.Outcome]int `json:"outcomes,omitempty"`
}

// Start returns the progress of a run before its first step. id must be different for each run.
func Start(t Tier, id string) Progress {
	return Progress{Tier: t, Run: Run{ID: id, StartedAt: time.Now()}}
}

// Done tells whether the run has ended.
func (p Progress) Done() bool { return p.Phase == done }

// BusyError is an ErrBusy that says who holds the lease.
type BusyError struct{ database.Lease }

func (e *BusyError) Error() string {
	until := e.Until.UTC().Format(time.TimeOnly)
	return fmt.Sprintf("%v: %s, whose lease ends at %s UTC unless it goes on", ErrBusy, e.Holder, until)
}

// Unwrap returns ErrBusy.
func (*BusyError) Unwrap() error { return ErrBusy }

// Run does all steps of a run. If another run has the lease, Run calls busy and waits until the lease ends, because
// that run may have been killed. If that run goes on and extends its lease, the error is the BusyError.
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

// Step works on a run for about StepTime, and returns how far the run is then. If it fails, the same step may be done
// again. A run keeps its lease until it is done, or until leaseTime after its last step. The error is a BusyError if
// another run has the lease, ErrBrake if too many rows would be removed, and clerk.ErrKey if Clerk does not accept the
// key or the key is of another instance.
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

// step is a Step in progress.
type step struct {
	*Reconcile
	until time.Time
	// next returns the next page of all users, after it has waited for it if necessary. It is nil if no page is being
	// fetched.
	next func() (clerk.Page, error)
}

// isAlone tells whether a run needs the lease, and is remembered. A backfill and a dry run do not, because they cannot
// harm another run.
func (r *Reconcile) isAlone(p Progress) bool { return !r.DryRun && p.Tier != Backfill }

// claim takes or extends the lease of a run, or ends it if until is in the past. The error is a BusyError if another
// run has the lease.
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

// record saves how far a run is. If the run is done or has failed, record ends its lease.
func (r *Reconcile) record(ctx context.Context, p Progress, failure error) error {
	if !r.isAlone(p) {
		return nil
	}
	// ctx may have ended, but that the run was cut off is saved too.
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
		// If another run has taken the lease, because this step took longer than leaseTime, there is none to give back.
		if err = r.claim(ctx, p, time.Now()); errors.Is(err, ErrBusy) {
			err = nil
		}
	}
	return err
}

func (r *Reconcile) begin(ctx context.Context, p Progress) (Progress, error) {
	if err := CheckInstance(ctx, r.API, r.State, r.InstanceID, !r.DryRun); err != nil {
		return p, err
	}
	p.Map = r.Users.MapID()
	switch p.Tier {
	case Backfill:
		return r.resume(ctx, p)
	case Recent:
		runs, err := load[savedRuns](ctx, r.State, runsName(Recent))
		if err == nil {
			err = r.noteYoung(ctx, runs.Runs)
		}
		return lookBack(p, runs.Runs), err
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
