package reconcile

import (
	"context"
	"fmt"
	"slices"
	"time"

	"clerksync/clerk"
	"clerksync/store/database"
)

// keptRuns is how many runs of each tier are saved, besides the last ones that succeeded.
const keptRuns = 10

// Run is one run of a tier, which may not have ended.
type Run struct {
	ID        string    `bson:"id"                 json:"id"`
	StartedAt time.Time `bson:"started_at"         json:"started_at"`
	EndedAt   time.Time `bson:"ended_at,omitempty" json:"-"` // the zero time if it has not ended, or has failed
	Found     Found     `bson:"found"              json:"found"`
	Buried    []string  `bson:"buried,omitempty"   json:"buried,omitempty"` // at most maxNamed of these users
	Error     string    `bson:"error,omitempty"    json:"-"`                // why it, or its last attempt, failed
	// SeenSince is set in the recent tier: this run and those before it, with no gap between them, have looked at
	// every change since then.
	SeenSince time.Time `bson:"seen_since,omitempty" json:"seen_since,omitzero"`
	Map       string    `bson:"map,omitempty"        json:"map,omitempty"` // the store's MapID
	// Young is how many users the recent tier repaired whose change was younger than a minute.
	Young int `bson:"young,omitempty" json:"young,omitempty"`
	// Moving says of a run of the recent tier that until its end users moved from page to page. It may have missed some
	// who changed twice.
	Moving bool `bson:"moving,omitempty" json:"moving,omitempty"`
}

// ended tells whether the run succeeded.
func (r Run) ended() bool { return !r.EndedAt.IsZero() }

// wroteAll tells whether the run succeeded for every user that it looked at.
func (r Run) wroteAll() bool { return r.ended() && r.Found.Failed == 0 }

// last returns the last of the runs that is such, and whether there is one. runs are newest first.
func last(runs []Run, such func(Run) bool) (Run, bool) {
	if i := slices.IndexFunc(runs, such); i >= 0 {
		return runs[i], true
	}
	return Run{}, false
}

// lastGood returns the last run that succeeded, and whether there is one. runs are newest first.
func lastGood(runs []Run) (Run, bool) { return last(runs, Run.ended) }

// Found counts what a run has compared, and the drift that it has found.
type Found struct {
	Users   int `bson:"users"   json:"users"`   // Clerk's users that were compared
	Rows    int `bson:"rows"    json:"rows"`    // rows for whose users Clerk was asked
	Missing int `bson:"missing" json:"missing"` // users without a row
	Stale   int `bson:"stale"   json:"stale"`   // rows that differed
	Extra   int `bson:"extra"   json:"extra"`   // rows of users that Clerk does not have
	Buried  int `bson:"buried"  json:"buried"`  // users who have a tombstone although Clerk has them
	Unknown int `bson:"unknown" json:"unknown"` // rows that clerksync never wrote, of users that Clerk does not have
	Failed  int `bson:"failed"  json:"failed"`  // users that cannot be read or written
}

// counts returns the numbers by their names.
func (f *Found) counts() map[string]*int {
	return map[string]*int{
		"users": &f.Users, "rows": &f.Rows, "missing": &f.Missing, "stale": &f.Stale,
		"extra": &f.Extra, "buried": &f.Buried, "unknown": &f.Unknown, "failed": &f.Failed,
	}
}

// Silence counts the changes at Clerk that no webhook has brought.
type Silence struct {
	Since   time.Time `bson:"since"`   // when the last webhook came; the zero time if none has come
	First   time.Time `bson:"first"`   // when the first such change was found
	Changed int       `bson:"changed"` // how many users changed
}

// alarmAfter is how long a change may wait for its webhook before there is an alarm. Clerk's first three attempts take
// 5 minutes.
const alarmAfter = 15 * time.Minute

// Alarm returns a line that says that Clerk's webhooks do not arrive and what to do, or "" if there is no alarm.
func (s Silence) Alarm(now time.Time) string {
	if s.Changed == 0 || now.Sub(s.First) < alarmAfter {
		return ""
	}
	since := "yet"
	if !s.Since.IsZero() {
		since = "for " + Span(now.Sub(s.Since))
	}
	users := "users"
	if s.Changed == 1 {
		users = "user"
	}
	return fmt.Sprintf("no webhook %s although Clerk changed %d %s: check the endpoint in Clerk's dashboard "+
		"(enabled, its URL, its events) and CLERK_WEBHOOK_SIGNING_SECRET", since, s.Changed, users)
}

// Span formats a duration of a minute or more for people: "40 min", "3 h", "12 days".
func Span(d time.Duration) string {
	switch {
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours())/24)
}

// Names of the documents in State.
const (
	leaseName    = "reconcile_lease"
	backfillName = "backfill"
	instanceName = "clerk_instance"
	webhookName  = "last_webhook"
	silenceName  = "silence"
)

func runsName(t Tier) string { return "reconcile_" + string(t) }

// Types of the documents in State that nothing else uses.
type (
	savedRuns     struct{ Runs []Run } // newest first
	savedWebhook  struct{ At time.Time }
	savedInstance struct{ ID string }
)

// load reads a document from State. It returns the zero value if there is none.
func load[T any](ctx context.Context, state database.Checkpoints, name string) (v T, err error) {
	_, err = state.Load(ctx, name, &v)
	return v, err
}

// Status is what the database says about the sync as a whole.
type Status struct {
	LastWebhook time.Time      // the zero time if none has come
	Runs        map[Tier][]Run // newest first
	Silence     Silence        // since LastWebhook
	Backfill    Run            // the last one that has ended; the zero Run if none has
}

// Buried returns the ids of users who had a tombstone although Clerk had them, as the last successful full run found.
// It returns at most maxNamed of them.
func (s Status) Buried() []string {
	run, _ := lastGood(s.Runs[Full])
	return run.Buried
}

// heard notes that the last webhook came at a time, which ends a silence.
func (s *Status) heard(at time.Time) {
	if s.LastWebhook = at; at.After(s.Silence.Since) {
		s.Silence = Silence{Since: at}
	}
}

// ReadStatus reads the status from the database.
func ReadStatus(ctx context.Context, state database.Checkpoints) (s Status, err error) {
	if s.Silence, err = load[Silence](ctx, state, silenceName); err != nil {
		return s, err
	}
	hook, err := load[savedWebhook](ctx, state, webhookName)
	if err != nil {
		return s, err
	}
	s.heard(hook.At)
	s.Runs = map[Tier][]Run{}
	for _, t := range Tiers() {
		runs, err := load[savedRuns](ctx, state, runsName(t))
		if err != nil {
			return s, err
		}
		s.Runs[t] = runs.Runs
	}
	runs, err := load[savedRuns](ctx, state, runsName(Backfill))
	s.Backfill, _ = lastGood(runs.Runs)
	return s, err
}

// keepRun saves a run, and replaces what was saved of the same run before.
func keepRun(ctx context.Context, state database.Checkpoints, t Tier, r Run) error {
	saved, err := load[savedRuns](ctx, state, runsName(t))
	if err != nil {
		return err
	}
	runs := slices.DeleteFunc(saved.Runs, func(o Run) bool { return o.ID == r.ID })
	runs = append([]Run{r}, runs...)
	kept, older := runs[:min(len(runs), keptRuns)], runs[min(len(runs), keptRuns):]
	// The recent tier looks back to them, however many runs have failed since.
	for _, such := range []func(Run) bool{Run.ended, Run.wroteAll} {
		if _, there := last(kept, such); !there {
			if run, ok := last(older, such); ok {
				kept = append(slices.Clip(kept), run)
			}
		}
	}
	return state.Save(ctx, runsName(t), savedRuns{kept})
}

// forgetRuns removes what is saved of all runs, and where a backfill goes on, because that was about other users.
func forgetRuns(ctx context.Context, state database.Checkpoints) error {
	for _, t := range append(Tiers(), Backfill) {
		if err := state.Remove(ctx, runsName(t)); err != nil {
			return err
		}
	}
	return state.Remove(ctx, backfillName)
}

// CheckInstance makes sure that the secret key is of the Clerk instance whose users are in the collection, because
// otherwise it would add users of another instance to them. want is the instance that the operator has set. If it is
// "", the remembered instance counts: that of the first webhook or of the first key. The error is clerk.ErrKey and says
// what to do. It is no error if Clerk does not tell the instance. If remember is set and no instance is remembered yet,
// or the operator has set this one, CheckInstance remembers it.
func CheckInstance(ctx context.Context, api *clerk.API, state database.Checkpoints, want string, remember bool) error {
	got, err := api.Instance(ctx)
	if err != nil || got == "" {
		return err
	}
	if want != "" && want != got {
		return clerk.KeyError(fmt.Sprintf("CLERK_SECRET_KEY is of the instance %s, not of CLERK_INSTANCE_ID: "+
			"copy the secret key of that instance", got))
	}
	other, err := keepInstance(ctx, state, got, want, remember)
	if err == nil && other != "" {
		err = clerk.KeyError(fmt.Sprintf("CLERK_SECRET_KEY is of the instance %s, and the users here are of %s: "+
			"copy the secret key of that instance, or set CLERK_INSTANCE_ID if they are not", got, other))
	}
	return err
}

// KnowsInstance tells whether an instance is remembered, so that CheckInstance can tell that a key is of another one.
func KnowsInstance(ctx context.Context, state database.Checkpoints) (bool, error) {
	saved, err := load[savedInstance](ctx, state, instanceName)
	return saved.ID != "", err
}

// keepInstance returns the remembered instance, whose users are in the collection, if it differs from id, and otherwise
// "". If no instance is remembered, or the operator wants id, it returns "" and, if save is set, remembers id.
func keepInstance(ctx context.Context, state database.Checkpoints, id, want string, save bool) (string, error) {
	saved, err := load[savedInstance](ctx, state, instanceName)
	switch {
	case err != nil || saved.ID == id:
		return "", err
	case saved.ID != "" && want == "":
		return saved.ID, nil
	case !save:
		return "", nil
	}
	if saved.ID != "" {
		if err := forgetRuns(ctx, state); err != nil {
			return "", err
		}
	}
	return "", state.Save(ctx, instanceName, savedInstance{id})
}
