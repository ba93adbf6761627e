package reconcile

import (
	"context"
	"fmt"
	"slices"
	"time"

	"clerksync/store/database"
)

// State is what runs leave for each other: a database.Checkpoints.
type State interface {
	Checkpoints
	Claim(ctx context.Context, name string, l database.Lease) (database.Lease, error)
}

// Tier is how much a run compares.
type Tier string

// The tiers.
const (
	Recent Tier = "recent" // the users that Clerk has changed since the last run
	Absent Tier = "absent" // the rows of users that Clerk may not have any more
	Full   Tier = "full"   // all rows and all users
)

// Tiers are all of them.
func Tiers() []Tier { return []Tier{Recent, Absent, Full} }

// keptRuns is how many runs of each tier are remembered.
const keptRuns = 10

// Run is one run of a tier, as far as it is.
type Run struct {
	ID        string    `bson:"id"`
	StartedAt time.Time `bson:"started_at"`
	EndedAt   time.Time `bson:"ended_at,omitempty"` // absent while it goes on, and if it failed
	Found     Found     `bson:"found"`
	Buried    []string  `bson:"buried,omitempty"` // the first of those who are
	Error     string    `bson:"error,omitempty"`  // why it failed, or its last attempt did
}

// lastGood returns the last of the runs that succeeded.
func lastGood(runs []Run) (Run, bool) {
	for _, r := range runs {
		if !r.EndedAt.IsZero() {
			return r, true
		}
	}
	return Run{}, false
}

// Found is what a run has seen, and the drift that it has repaired, or would repair.
type Found struct {
	Users   int `bson:"users"   json:"users"`   // of Clerk's that were compared
	Rows    int `bson:"rows"    json:"rows"`    // whose ids Clerk was asked for
	Missing int `bson:"missing" json:"missing"` // users without a row
	Stale   int `bson:"stale"   json:"stale"`   // rows that differed
	Extra   int `bson:"extra"   json:"extra"`   // rows of users that Clerk does not have
	Buried  int `bson:"buried"  json:"buried"`  // users who have a tombstone though Clerk has them
	Unknown int `bson:"unknown" json:"unknown"` // rows that neither Clerk knows nor clerksync has written
	Failed  int `bson:"failed"  json:"failed"`  // users that cannot be read or written
}

// Silence is what Clerk changed and no webhook brought.
type Silence struct {
	Since   time.Time `bson:"since"`   // when the last webhook came; the zero time if none has
	First   time.Time `bson:"first"`   // when the first such change was found
	Changed int       `bson:"changed"` // how many users
}

// alarmAfter is how long a change may wait for its webhook: longer than Clerk's first three attempts, 5 minutes.
const alarmAfter = 15 * time.Minute

// Alarm returns a line that says that Clerk's webhooks do not arrive and what to do, or "".
func (s Silence) Alarm(now time.Time) string {
	if s.Changed == 0 || now.Sub(s.First) < alarmAfter {
		return ""
	}
	since := "yet"
	if !s.Since.IsZero() {
		since = "for " + ago(now.Sub(s.Since))
	}
	users := "users"
	if s.Changed == 1 {
		users = "user"
	}
	return fmt.Sprintf("no webhook %s although Clerk changed %d %s: check the endpoint in Clerk's dashboard (enabled, its URL, its events) and CLERK_WEBHOOK_SIGNING_SECRET", since, s.Changed, users)
}

// ago writes a time that has passed as people say it: "40 min", "3 h", "12 days".
func ago(d time.Duration) string {
	switch {
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours())/24)
}

// Names in State.
const (
	leaseName    = "reconcile_lease"
	instanceName = "clerk_instance"
	webhookName  = "last_webhook"
	silenceName  = "silence"
)

func runsName(t Tier) string { return "reconcile_" + string(t) }

// saved is how a value of its own is kept in State.
type (
	savedRuns    struct{ Runs []Run }
	savedWebhook struct{ At time.Time }
)

// Status is what is known of the sync as a whole.
type Status struct {
	LastWebhook time.Time      // the zero time if none has come
	Runs        map[Tier][]Run // newest first
	Silence     Silence        // its Alarm says whether webhooks are missing
}

// Buried returns users, some of them if there are many, who had a tombstone although Clerk had them, when the full tier
// last looked.
func (s Status) Buried() []string {
	run, _ := lastGood(s.Runs[Full])
	return run.Buried
}

// ReadStatus reads it from the database.
func ReadStatus(ctx context.Context, state Checkpoints) (Status, error) {
	s := Status{Runs: map[Tier][]Run{}}
	var hook savedWebhook
	if _, err := state.Load(ctx, webhookName, &hook); err != nil {
		return s, err
	}
	s.LastWebhook = hook.At
	if _, err := state.Load(ctx, silenceName, &s.Silence); err != nil {
		return s, err
	}
	for _, t := range Tiers() {
		var runs savedRuns
		if _, err := state.Load(ctx, runsName(t), &runs); err != nil {
			return s, err
		}
		s.Runs[t] = runs.Runs
	}
	return s, nil
}

// keep remembers a run: it takes the place of what was remembered of it before.
func keep(ctx context.Context, state Checkpoints, t Tier, r Run) error {
	var runs savedRuns
	if _, err := state.Load(ctx, runsName(t), &runs); err != nil {
		return err
	}
	if i := slices.IndexFunc(runs.Runs, func(o Run) bool { return o.ID == r.ID }); i >= 0 {
		runs.Runs[i] = r
	} else {
		runs.Runs = append([]Run{r}, runs.Runs...)
	}
	runs.Runs = runs.Runs[:min(len(runs.Runs), keptRuns)]
	return state.Save(ctx, runsName(t), runs)
}
