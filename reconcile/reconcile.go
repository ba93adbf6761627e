package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"time"

	"clerksync/clerk"
	"clerksync/store"
	"clerksync/store/database"
)

// Errors that no retry mends.
var (
	ErrBusy  = errors.New("another reconcile is running")
	ErrBrake = errors.New("the brake RECONCILE_MAX_DELETE holds")
)

const (
	// settle is how long the recent tier leaves a change to its webhook.
	settle = time.Minute
	// overlap is how far the recent tier looks back behind the last run: for clocks that differ, and for what Clerk
	// lists late.
	overlap = 5 * time.Minute
	// firstLook is how far it looks back when there was no run.
	firstLook = time.Hour
	// newborn is how old a user's id must be before Clerk's 404 makes a deletion, which is for ever: Clerk does not say
	// that a user is to be found by id at once.
	newborn = 10 * time.Minute
	// minBrake is how many rows a run may always remove.
	minBrake = 5
	// maxNamed is how many users a run remembers by their ids.
	maxNamed = 10
	// lease is how long a run that does nothing keeps others from running: longer than any step.
	lease = 3 * time.Minute
)

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
	Unknown Kind = "unknown" // neither does Clerk have the user, nor has clerksync ever written the row
)

// Reconcile makes rows equal to what Clerk's API says. All it writes goes through the store's rules, so that webhooks
// may arrive all the while. It sends no events.
type Reconcile struct {
	API interface { // a clerk.API
		Instance(ctx context.Context) (string, error)
		counter
		ListCreated(ctx context.Context, after string) (clerk.Page, error)
		ListChanged(ctx context.Context, after string) (clerk.Page, error)
		ListIDs(ctx context.Context, ids []string) (clerk.Page, error)
		User(ctx context.Context, id string) (clerk.Fetched, error)
	}
	Users interface { // a store.Users
		IDs(ctx context.Context, after string, limit int) ([]store.RowID, error)
		Get(ctx context.Context, id string) (store.Row, error)
		Write(ctx context.Context, writes []store.Write, mode store.Mode) []store.Result
		Overrule(ctx context.Context, w store.Write, was string) (store.Outcome, error)
	}
	State State
	Log   *slog.Logger
	// InstanceID is what CLERK_INSTANCE_ID says; "" is the instance that the first run met.
	InstanceID string
	// MaxDelete is how many in a hundred rows a run may remove; minBrake it always may.
	MaxDelete float64
	// StepTime is about how long a step takes: a page is begun before it is over.
	StepTime time.Duration
	// DryRun only finds drift, and remembers nothing.
	DryRun bool
	// RemoveUnknown also removes rows with Clerk's ids that clerksync has never written and whose users Clerk does not
	// have.
	RemoveUnknown bool
	// Report, if set, is called for each drift, repaired or not.
	Report func(Drift)
}

// phase is what a run does next.
type phase string

const (
	begin    phase = ""
	counting phase = "counting" // rows that Clerk does not name
	deleting phase = "deleting" // those of them whom it does not have
	listing  phase = "listing"  // all users
	changed  phase = "changed"  // users, last changed first
	done     phase = "done"
)

// Progress is how far a run is: the one thing that its steps hand on. It holds nothing of users but ids.
type Progress struct {
	Tier      Tier      `json:"tier"`
	ID        string    `json:"id"` // of the run
	StartedAt time.Time `json:"started_at"`
	Phase     phase     `json:"phase"`
	Next      string    `json:"next,omitempty"`
	Since     time.Time `json:"since,omitzero"`   // the recent tier looks back so far
	MayGo     int       `json:"may_go"`           // rows that the run may remove
	Unnamed   int       `json:"unnamed"`          // those of them whom Clerk's list did not name
	Had       int       `json:"had,omitempty"`    // users whom Clerk had before it listed them
	Listed    int       `json:"listed,omitempty"` // how many of them it has listed
	Found     Found     `json:"found"`
	Buried    []string  `json:"buried,omitempty"` // the first of those who are
}

// Start returns the progress of a run before its first step; id tells it from all others.
func Start(t Tier, id string) Progress { return Progress{Tier: t, ID: id, StartedAt: time.Now()} }

// Done tells whether the run has ended.
func (p Progress) Done() bool { return p.Phase == done }

// Step goes on with a run for about StepTime, and returns how far it is then. If it fails, the same step may be done
// again. A run that is neither done nor stepped on for 3 minutes lets others run. The error is a BusyError while
// another runs, ErrBrake if too many rows would go, and clerk.ErrKey if the key is not accepted or is of another
// instance.
func (r *Reconcile) Step(ctx context.Context, p Progress) (Progress, error) {
	until := time.Now().Add(r.StepTime)
	if err := r.claim(ctx, p, time.Now().Add(lease)); err != nil {
		return p, err
	}
	var err error
	for first := true; err == nil && !p.Done() && (first || time.Now().Before(until)); first = false {
		p, err = r.page(ctx, p)
	}
	return p, errors.Join(err, r.record(ctx, p, err))
}

// record remembers how far a run is, and ends its lease with it.
func (r *Reconcile) record(ctx context.Context, p Progress, err error) error {
	if r.DryRun {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second) // that it was cut off is worth remembering
	defer cancel()
	run := Run{ID: p.ID, StartedAt: p.StartedAt, Found: p.Found, Buried: p.Buried}
	switch {
	case err != nil:
		run.Error = err.Error()
	case p.Done():
		run.EndedAt = time.Now()
	}
	if err := keep(ctx, r.State, p.Tier, run); err != nil {
		return err
	}
	if err != nil || p.Done() {
		return r.claim(ctx, p, time.Now())
	}
	return nil
}

func (r *Reconcile) claim(ctx context.Context, p Progress, until time.Time) error {
	if r.DryRun {
		return nil
	}
	holder := fmt.Sprintf("%s tier, run %s", p.Tier, p.ID)
	l, err := r.State.Claim(ctx, leaseName, database.Lease{Holder: holder, Until: until})
	if err == nil && l.Holder != holder {
		return &BusyError{l}
	}
	return err
}

// page does one page of work, or goes on to the next phase.
func (r *Reconcile) page(ctx context.Context, p Progress) (Progress, error) {
	switch p.Phase {
	case begin:
		return r.begin(ctx, p)
	case counting, deleting:
		return r.absent(ctx, p)
	case listing:
		return r.list(ctx, p)
	case changed:
		return r.recent(ctx, p)
	}
	return p, fmt.Errorf("the reconcile has no phase %q", p.Phase)
}

func (r *Reconcile) begin(ctx context.Context, p Progress) (Progress, error) {
	if err := (Instance{API: r.API, State: r.State, Want: r.InstanceID}).Check(ctx, !r.DryRun); err != nil {
		return p, err
	}
	if p.Phase = counting; p.Tier != Recent {
		return p, nil
	}
	p.Phase, p.Since = changed, p.StartedAt.Add(-firstLook)
	status, err := ReadStatus(ctx, r.State)
	if run, ok := lastGood(status.Runs[Recent]); ok {
		p.Since = run.StartedAt.Add(-overlap)
	}
	return p, err
}

// absent asks Clerk for a page of rows: counts those whom it does not name and then, on the second way through, removes
// those whom it does not have. The brake is between the two.
func (r *Reconcile) absent(ctx context.Context, p Progress) (Progress, error) {
	rows, err := r.Users.IDs(ctx, p.Next, clerk.MaxIDs)
	if err != nil {
		return p, err
	}
	whole := len(rows) == clerk.MaxIDs
	if len(rows) > 0 {
		p.Next = rows[len(rows)-1].ID
	}
	rows = slices.DeleteFunc(rows, func(row store.RowID) bool { return !clerk.IsUserID(row.ID) })
	named, err := r.named(ctx, rows)
	if err != nil {
		return p, err
	}
	for _, row := range rows {
		switch mayGo := row.Ours || r.RemoveUnknown; {
		case p.Phase == deleting && (named[row.ID] || !mayGo):
		case p.Phase == deleting:
			if err := r.remove(ctx, &p, row); err != nil {
				return p, err
			}
		case time.Since(clerk.UserIDMadeAt(row.ID)) < newborn:
		case mayGo:
			if p.MayGo++; !named[row.ID] {
				p.Unnamed++
			}
		case !named[row.ID]:
			p.Found.Unknown++
			r.report(Drift{UserID: row.ID, Kind: Unknown})
		}
	}
	if p.Phase == counting {
		p.Found.Rows += len(rows)
	}
	if whole {
		return p, nil
	}
	p.Next = ""
	switch {
	case p.Phase == counting && p.Unnamed > 0:
		p.Phase = deleting
		return p, r.brake(p)
	case p.Tier == Full:
		p.Phase = listing
	default:
		p.Phase = done
	}
	return p, nil
}

// named returns the ids of those rows whose users Clerk has, as its list says.
func (r *Reconcile) named(ctx context.Context, rows []store.RowID) (map[string]bool, error) {
	named := map[string]bool{}
	if len(rows) == 0 {
		return named, nil
	}
	ids := make([]string, len(rows))
	for i, row := range rows {
		ids[i] = row.ID
	}
	page, err := r.API.ListIDs(ctx, ids)
	for _, u := range page.Users {
		named[u.ID] = true
	}
	for _, u := range page.Skipped { // Clerk has whom we cannot read
		named[u.ID] = true
	}
	return named, err
}

// most returns how many rows the run may remove.
func (r *Reconcile) most(p Progress) int {
	return max(minBrake, int(math.Ceil(r.MaxDelete/100*float64(p.MayGo))))
}

// brake refuses to remove too many rows, or all there are: that is what a wrong key looks like. Rows that the run would
// not remove in any case count for nothing.
func (r *Reconcile) brake(p Progress) error {
	if r.MaxDelete >= 100 || p.Unnamed <= r.most(p) && p.Unnamed < p.MayGo {
		return nil
	}
	return fmt.Errorf("%w: Clerk does not have the users of %d of %d rows, and nothing was removed; check that CLERK_SECRET_KEY is of the instance whose users these are, or raise RECONCILE_MAX_DELETE", ErrBrake, p.Unnamed, p.MayGo)
}

// remove removes the row of a user if Clerk says, asked for that one user, that there is none.
func (r *Reconcile) remove(ctx context.Context, p *Progress, row store.RowID) error {
	if time.Since(clerk.UserIDMadeAt(row.ID)) < newborn {
		return nil
	}
	_, err := r.API.User(ctx, row.ID)
	if !errors.Is(err, clerk.ErrNoUser) {
		if errors.Is(err, clerk.ErrNotUser) { // listed, and not to be read
			p.Found.Failed++
			return nil
		}
		return err
	}
	removed := p.Found.Extra
	if r.RemoveUnknown {
		removed += p.Found.Unknown
	}
	switch _, err := r.Users.Get(ctx, row.ID); {
	case errors.Is(err, store.ErrNotFound): // meanwhile
		return nil
	case err != nil:
		return err
	case removed >= r.most(*p) && r.MaxDelete < 100:
		return fmt.Errorf("%w: more users go while they are counted; %d rows were removed", ErrBrake, removed)
	}
	kind, n := Extra, &p.Found.Extra
	if !row.Ours {
		kind, n = Unknown, &p.Found.Unknown
	}
	if !r.DryRun {
		dead := []store.Write{{User: clerk.User{ID: row.ID}, Deleted: true}}
		if err := r.Users.Write(ctx, dead, store.All)[0].Err; err != nil {
			return err
		}
	}
	*n++
	r.report(Drift{UserID: row.ID, Kind: kind})
	return nil
}

func (r *Reconcile) report(d Drift) {
	if r.Report != nil {
		r.Report(d)
	}
}

// list repairs a page of all users. Where it fails, also because the list has left users out, the same page is asked
// for again.
func (r *Reconcile) list(ctx context.Context, p Progress) (Progress, error) {
	if p.Next == "" {
		var err error
		if p.Had, err = r.API.Count(ctx); err != nil {
			return p, err
		}
	}
	page, err := r.API.ListCreated(ctx, p.Next)
	if err != nil {
		return p, err
	}
	if _, err := r.repair(ctx, page, &p); err != nil {
		return p, err
	}
	listed := p.Listed + len(page.Users) + len(page.Skipped)
	if page.Next == "" {
		if err := missed(ctx, r.API, p.StartedAt, p.Had, listed); err != nil {
			return p, err
		}
		p.Phase = done
	}
	p.Next, p.Listed = page.Next, listed
	return p, nil
}

// recent repairs a page of the users that changed last. What it repairs no webhook has brought.
func (r *Reconcile) recent(ctx context.Context, p Progress) (Progress, error) {
	page, err := r.API.ListChanged(ctx, p.Next)
	if err != nil {
		return p, err
	}
	from, to := clerk.Millis(p.Since.UnixMilli()), clerk.Millis(p.StartedAt.Add(-settle).UnixMilli())
	all := page.Users
	page.Users = nil
	for _, u := range all {
		if u.ChangedAt < from { // a user's updated_at is no newer than this, and those of all that follow neither
			page.Next = ""
		} else if u.ChangedAt <= to {
			page.Users = append(page.Users, u)
		}
	}
	n, err := r.repair(ctx, page, &p)
	if err != nil {
		return p, err
	}
	if err := r.noteUnbrought(ctx, n); err != nil {
		return p, err
	}
	if p.Next = page.Next; p.Next == "" {
		p.Phase = done
	}
	return p, nil
}

// noteUnbrought counts changes that no webhook has brought, and begins anew if a webhook has come since.
func (r *Reconcile) noteUnbrought(ctx context.Context, n int) error {
	s, err := ReadStatus(ctx, r.State)
	if err != nil || r.DryRun {
		return err
	}
	was := s.Silence
	if s.LastWebhook.After(s.Silence.Since) {
		s.Silence = Silence{Since: s.LastWebhook}
	}
	if s.Silence.Changed += n; n > 0 && s.Silence.First.IsZero() {
		s.Silence.First = time.Now()
	}
	if s.Silence == was {
		return nil
	}
	return r.State.Save(ctx, silenceName, s.Silence)
}

// repair writes those users of a page whose rows differ, and returns how many.
func (r *Reconcile) repair(ctx context.Context, page clerk.Page, p *Progress) (int, error) {
	writes := make([]store.Write, len(page.Users))
	for i, u := range page.Users {
		writes[i] = store.Write{User: u, When: store.When{Clerk: page.At}, AnsweredAt: page.AnsweredAt}
	}
	mode := store.Differing
	if r.DryRun {
		mode = store.DryRun
	}
	var failed []error
	n := 0
	for i, res := range r.Users.Write(ctx, writes, mode) {
		drift := Drift{UserID: writes[i].User.ID, Kind: Stale, Fields: res.Fields}
		var err error
		switch {
		case res.Err != nil:
			err = res.Err
		case res.Outcome == store.Created:
			drift.Kind = Missing
		case res.Outcome == store.Updated:
		case p.Tier == Full && res.Outcome == store.Deleted:
			if err := r.noteBuried(ctx, drift.UserID, p); err != nil {
				return n, err
			}
			continue
		case p.Tier == Full:
			if drift.Fields, err = r.overrule(ctx, writes[i], res); drift.Fields == nil && err == nil {
				continue
			}
		default: // equal, or newer, or deleted
			continue
		}
		if errors.Is(err, errAsk) {
			return n, err
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("user %s: %w", drift.UserID, err))
			continue
		}
		if drift.Kind == Missing {
			p.Found.Missing++
		} else {
			p.Found.Stale++
		}
		n++
		r.report(drift)
	}
	worthRepeating := func(err error) bool { return !errors.Is(err, store.ErrRefused) }
	if i := slices.IndexFunc(failed, worthRepeating); i >= 0 && n == 0 { // it is the database
		return n, fmt.Errorf("repair users: %w", failed[i])
	}
	for _, err := range failed {
		r.Log.ErrorContext(ctx, "a user cannot be repaired", "error", err)
	}
	for _, s := range page.Skipped {
		r.Log.ErrorContext(ctx, "a user of Clerk's cannot be read", "user_id", s.ID, "error", s.Err)
	}
	p.Found.Failed += len(page.Skipped) + len(failed)
	p.Found.Users += len(page.Users)
	return n, nil
}

// noteBuried reports a user who has a tombstone, if Clerk, asked for that one, has the user: its list may go on to name
// who is deleted.
func (r *Reconcile) noteBuried(ctx context.Context, id string, p *Progress) error {
	switch _, err := r.API.User(ctx, id); {
	case errors.Is(err, clerk.ErrNoUser):
		return nil
	case err != nil && !errors.Is(err, clerk.ErrNotUser):
		return err
	}
	if p.Found.Buried++; p.Found.Buried <= maxNamed {
		p.Buried = append(p.Buried, id)
	}
	r.report(Drift{UserID: id, Kind: Buried})
	return nil
}
