package activity

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"clerksync/functions"
	"clerksync/store"
	"clerksync/store/database"
)

const (
	// savedPrefix begins the name of each process's document.
	savedPrefix = "activity_"
	saveEvery   = 30 * time.Second
	// cleanEvery is how many saves there are to one clean-up, which reads the documents of all processes.
	cleanEvery = 20
	// saveTimeout limits one save, and readTimeout how long a summary waits for what the other processes have saved.
	saveTimeout = 5 * time.Second
	readTimeout = 2 * time.Second
	// maxSaved is how many events a process saves, and how many a summary has.
	maxSaved = 100
	// aliveFor is how long after it has last saved a process counts as alive: it may miss a save.
	aliveFor = 2*saveEvery + saveTimeout
)

// saved is what a process saves for the others.
type saved struct {
	At      time.Time // when it was saved
	Last    time.Time // when the last webhook came
	Minutes []minute
	Newest  []savedEvent // the oldest first
}

// savedEvent is an Event in the database. It has no data of the user but the id.
type savedEvent struct {
	Type     string        `bson:"type"`
	UserID   string        `bson:"user_id"`
	Source   store.Source  `bson:"source"`
	Outcome  store.Outcome `bson:"outcome,omitempty"`
	Error    string        `bson:"error,omitempty"`
	Final    bool          `bson:"final,omitempty"`
	At       time.Time     `bson:"at"`
	Received time.Time     `bson:"received"`
	Now      time.Time     `bson:"now"`
}

func save(e Event) savedEvent {
	s := savedEvent{
		Type: e.Type, UserID: e.UserID, Source: e.Source, Outcome: e.Outcome, Final: e.Final, At: e.At,
		Received: e.Received, Now: e.Now,
	}
	if e.Err != nil {
		s.Error = cut(e.Err.Error())
	}
	return s
}

func (s savedEvent) event() Event {
	e := Event{Now: s.Now, Wrote: functions.Wrote{
		Type: s.Type, UserID: s.UserID, Source: s.Source, Outcome: s.Outcome, Final: s.Final, At: s.At,
		Received: s.Received,
	}}
	if s.Error != "" {
		e.Err = errors.New(s.Error)
	}
	return e
}

// Run saves what this process does, for the others, every half minute until ctx ends, and then once more. Every ten
// minutes it removes what processes that have ended left more than an hour ago.
func (a *Activity) Run(ctx context.Context) {
	t := time.NewTicker(saveEvery)
	defer t.Stop()
	a.run(ctx, t.C)
}

func (a *Activity) run(ctx context.Context, tick <-chan time.Time) {
	failing, timeout := false, saveTimeout
	for n, end := 0, false; !end; n++ {
		select {
		case <-tick:
		case <-ctx.Done():
			end, timeout = true, readTimeout // so that a dead database does not hold up the end
		}
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
		err := a.save(bounded)
		if err == nil && !end && n%cleanEvery == 0 {
			err = a.clean(bounded)
		}
		cancel()
		if err != nil && !failing {
			a.log.WarnContext(ctx, "what happens here cannot be saved for the other processes; trying again",
				"error", err)
		}
		failing = err != nil
	}
}

func (a *Activity) save(ctx context.Context) error {
	return a.state.Save(ctx, a.name, a.snapshot(a.now()))
}

// clean removes the documents of processes that have not saved for an hour. Of what is in these, nothing counts any
// more.
func (a *Activity) clean(ctx context.Context) error {
	all, err := database.LoadAll[saved](ctx, a.state, savedPrefix)
	for name, s := range all {
		if err == nil && s.At.Before(a.now().Add(-kept*time.Minute)) {
			err = a.state.Remove(ctx, name)
		}
	}
	return err
}

// snapshot returns what this process would save now.
func (a *Activity) snapshot(now time.Time) saved {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := saved{At: now, Last: a.last}
	for _, m := range a.minutes {
		s.Minutes = append(s.Minutes, minute{m.Start, m.Taken, maps.Clone(m.Refused), slices.Clone(m.Lags)})
	}
	for _, e := range a.newest[max(0, len(a.newest)-maxSaved):] {
		s.Newest = append(s.Newest, save(e))
	}
	return s
}

// Summary is what happened in the last hour, in all processes.
type Summary struct {
	LastWebhook time.Time // when the last webhook came that Clerk had signed; the zero time if none is known
	Minutes     []Minute  // the last 60, the oldest first; the last one has not ended
	// Refused are the webhooks that were not answered 2xx, by the reason in the metric clerksync_webhooks_total.
	Refused map[string]int
	// P50 and P99 are the percentiles of the time from a change at Clerk to the row, of Measured changes. They are at
	// most 19 % too high. An event that came once more, or after a newer one, is none of them.
	P50, P99 time.Duration
	Measured int
	Newest   []Event // at most 100, the newest first; they may be older than an hour
	// Processes is how many there are, as far as is known: another one counts until it has not saved for a minute.
	Processes int
}

// Minute is how many webhooks came in a minute.
type Minute struct {
	Start          time.Time
	Taken, Refused int // answered 2xx, and all others
}

// Summary returns what happened in the last hour. What other processes did is up to half a minute old. If the database
// does not answer within two seconds, the summary has what was last read of them, with the error.
func (a *Activity) Summary(ctx context.Context) (Summary, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	others, err := database.LoadAll[saved](ctx, a.state, savedPrefix)
	if err != nil {
		err = fmt.Errorf("read what other processes did: %w", err)
	}
	a.mu.Lock()
	if err == nil {
		delete(others, a.name) // this process knows better itself
		a.others = others
	}
	all := slices.Collect(maps.Values(a.others))
	a.mu.Unlock()
	now := a.now()
	return summarize(now, append(all, a.snapshot(now))), err
}

// summarize adds up what processes have saved.
func summarize(now time.Time, all []saved) Summary {
	sum := Summary{Minutes: make([]Minute, kept), Refused: map[string]int{}}
	first := now.Unix()/60 - kept + 1
	for i := range sum.Minutes {
		sum.Minutes[i].Start = time.Unix((first+int64(i))*60, 0)
	}
	lags := make([]int, lastBucket+1)
	for _, s := range all {
		if s.At.After(now.Add(-aliveFor)) {
			sum.Processes++
		}
		if s.Last.After(sum.LastWebhook) {
			sum.LastWebhook = s.Last
		}
		for _, m := range s.Minutes {
			i := m.Start - first
			if i < 0 || i >= kept { // too old, or of a clock that is ahead
				continue
			}
			sum.Minutes[i].Taken += m.Taken
			for reason, n := range m.Refused {
				sum.Minutes[i].Refused += n
				sum.Refused[reason] += n
			}
			for b, n := range m.Lags {
				lags[min(b, lastBucket)] += n
				sum.Measured += n
			}
		}
		for _, e := range slices.Backward(s.Newest) {
			sum.Newest = append(sum.Newest, e.event())
		}
	}
	sum.P50, sum.P99 = percentile(lags, .5), percentile(lags, .99)
	slices.SortStableFunc(sum.Newest, func(a, b Event) int { return b.Now.Compare(a.Now) })
	sum.Newest = sum.Newest[:min(len(sum.Newest), maxSaved)]
	return sum
}
