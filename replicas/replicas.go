// Package replicas knows which processes of the service are alive, and which of them register their functions with
// Inngest. A registration replaces the one before, so in a rolling upgrade old and new processes would take turns in
// removing what the others have, and the events that come meanwhile would be lost for a function that only the new ones
// have. Here the old ones stop.
package replicas

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"time"

	"clerksync/store/database"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

const (
	// savedPrefix begins the name of each process's document.
	savedPrefix = "replica_"
	// aliveFor is how long after its last heartbeat a process counts as alive. It has one before each registration.
	aliveFor = 2 * time.Minute
	// keptFor is how long another process sees no new heartbeat before it removes the document.
	keptFor = time.Hour
)

// replica is the heartbeat of a process.
type replica struct {
	// App is the app at Inngest whose functions it registers. Processes of different apps, or with different servers,
	// do not concern each other.
	App       string    `bson:"app"`
	Functions string    `bson:"functions"` // differs if the functions do
	Since     time.Time `bson:"since"`     // when the first process with these functions started
	Seen      time.Time `bson:"seen"`      // by its own clock
}

// before tells whether r has other functions than o, and older ones. Of two that started in the same millisecond both
// must decide for the same.
func (r replica) before(o replica) bool {
	return r.Functions != o.Functions &&
		(r.Since.Before(o.Since) || r.Since.Equal(o.Since) && r.Functions < o.Functions)
}

// Options is what New needs.
type Options struct {
	State database.Checkpoints
	App   string // names the app and Inngest's server; must hold no secret
	// Settle is how long a registration may take that another process has begun, and that must not come after ours.
	Settle     time.Duration
	Registerer prometheus.Registerer
}

// Replicas is this process among the others. It is not safe for concurrent use.
type Replicas struct {
	o        Options
	name     string // of this process's document
	now      func() time.Time
	outdated prometheus.Gauge

	me    replica
	from  time.Time           // when it may register its functions for the first time; zero before the first heartbeat
	known map[string]sighting // the other processes' documents at the last look; nil before the first
	last  time.Time           // of that look
}

// sighting is a heartbeat and when it was seen first, by the clock of this process, because those of others may be
// wrong.
type sighting struct {
	replica
	at time.Time
}

func (s sighting) alive(now time.Time) bool { return now.Sub(s.at) < aliveFor }

// New returns a process of which the others do not know until Beat.
func New(o Options) *Replicas {
	return &Replicas{
		o: o, name: savedPrefix + rand.Text(), now: time.Now,
		outdated: promauto.With(o.Registerer).NewGauge(prometheus.GaugeOpts{
			Name: "clerksync_functions_outdated",
			Help: "1 while a process that started later has other functions, so that this one registers none.",
		}),
	}
}

// Beat tells the others that this process is alive with these functions, and returns why it must not register them now,
// or "" if it may, within Settle. It may not while a process is alive that started later with other functions. If it
// has just started and others with other functions are alive, it waits until a registration that they have begun has
// ended.
func (r *Replicas) Beat(ctx context.Context, functions string) (why string, err error) {
	if r.known == nil {
		if err := r.enter(ctx, functions); err != nil {
			return "", err
		}
	}
	r.me.Seen = r.now()
	if err := r.o.State.Save(ctx, r.name, r.me); err != nil {
		return "", err
	}
	// The look comes after the save: of two that start at the same time one sees the other. And it comes just before
	// the registration: whoever does not see this process yet has registered when Settle is over.
	others, err := r.look(ctx)
	if err != nil {
		return "", err
	}
	older, newer := false, false
	for _, o := range others {
		older, newer = older || o.before(r.me), newer || r.me.before(o)
	}
	if r.from.IsZero() {
		if r.from = r.now(); older {
			r.from = r.from.Add(r.o.Settle)
		}
	}
	r.outdated.Set(0)
	switch wait := r.from.Sub(r.now()); {
	case newer:
		r.outdated.Set(1)
		return "a process that started later has other functions", nil
	case wait > 0:
		return fmt.Sprintf("processes with other functions get %s to stop registering theirs", r.o.Settle), nil
	}
	return "", nil
}

// enter decides since when this process counts. It joins those that are alive with the same functions: if one of the
// old processes is started again in a rolling upgrade, it is not newer than the new ones. Otherwise it is later than
// all others, whatever the clocks say.
func (r *Replicas) enter(ctx context.Context, functions string) error {
	others, err := r.look(ctx)
	if err != nil {
		return err
	}
	since := r.now().UTC().Truncate(time.Millisecond) // as the database keeps it
	for _, o := range r.known {
		if !o.Since.Before(since) {
			since = o.Since.Add(time.Millisecond)
		}
	}
	var joined time.Time
	for _, o := range others {
		if o.Functions == functions && o.Since.After(joined) {
			joined = o.Since
		}
	}
	if !joined.IsZero() {
		since = joined
	}
	r.me = replica{App: r.o.App, Functions: functions, Since: since}
	return nil
}

// look returns the other processes of the same app that are alive, and removes what ended ones left long ago.
func (r *Replicas) look(ctx context.Context) (alive []replica, err error) {
	all, err := database.LoadAll[replica](ctx, r.o.State, savedPrefix)
	if err != nil {
		return nil, err
	}
	delete(all, r.name)
	now, known := r.now(), map[string]sighting{}
	for name, o := range all {
		s, there := r.known[name]
		switch unseen := now.Sub(r.last); {
		case r.known == nil: // only the clock of the other one says how old it is
			s = sighting{o, now.Add(-min(now.Sub(o.Seen).Abs(), aliveFor))} // not more, or it would be removed at once
		case !there || !s.Seen.Equal(o.Seen):
			s = sighting{o, now}
		case unseen > aliveFor/2: // much longer than a turn: the database was away, and not only for this process
			s.at = s.at.Add(unseen)
		}
		if known[name] = s; o.App == r.o.App && s.alive(now) {
			alive = append(alive, o)
		}
		if now.Sub(s.at) > keptFor {
			if err := r.o.State.Remove(ctx, name); err != nil {
				return nil, err
			}
		}
	}
	r.known, r.last = known, now
	return alive, nil
}

// Alive returns how many processes register functions of this app or would, and how many of them have older
// functions than the others, by the clock of this machine.
func Alive(
	ctx context.Context, state database.Checkpoints, app string, now time.Time,
) (all, outdated int, err error) {
	saved, err := database.LoadAll[replica](ctx, state, savedPrefix)
	if err != nil {
		return 0, 0, err
	}
	var alive []replica
	for _, o := range saved {
		if o.App == app && now.Sub(o.Seen).Abs() < aliveFor {
			alive = append(alive, o)
		}
	}
	for _, r := range alive {
		if slices.ContainsFunc(alive, r.before) {
			outdated++
		}
	}
	return len(alive), outdated, nil
}
