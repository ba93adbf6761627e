package testenv

import (
	"context"
	"fmt"
	"hash/maphash"
	"testing"

	"clerksync/store/database"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/event"
)

// Lab runs operations of several processes on one database, one database call at a time. The test chooses the order of
// the calls and their faults. It is deterministic: only one process runs at a time, and between calls none does.
type Lab struct {
	Memory    *Memory
	Processes []*Process
	app       App
	events    chan labEvent
	seed      maphash.Seed
}

type labEvent struct {
	ended bool // false means that it waits before a call
	err   error
}

// NewLab returns a lab of n processes for the app with the map that is used without a file.
func NewLab(t testing.TB, n int) *Lab {
	t.Helper()
	return DefaultApp().NewLab(t, n)
}

// NewLab returns a lab with n processes, each with its own client of the database called "lab", in which the app's
// collection is prepared.
func (a App) NewLab(t testing.TB, n int) *Lab {
	t.Helper()
	l := &Lab{Memory: NewMemory(), app: a, events: make(chan labEvent), seed: maphash.MakeSeed()}
	a.Prepare(t, l.Memory.Connect(t, "lab", nil, nil))
	for range n {
		p := &Process{lab: l, verdicts: make(chan Verdict), ops: make(chan func() error)}
		t.Cleanup(func() { close(p.ops) })
		go p.run()
		answered := func() { p.afterCall() }
		p.DB = l.Memory.Connect(t, "lab", p, &event.CommandMonitor{
			Succeeded: func(context.Context, *event.CommandSucceededEvent) { answered() },
			Failed:    func(context.Context, *event.CommandFailedEvent) { answered() },
		})
		l.Processes = append(l.Processes, p)
	}
	return l
}

// Process is one of the processes of a lab.
type Process struct {
	DB       *database.DB
	lab      *Lab
	verdicts chan Verdict
	ops      chan func() error
	running  bool // inside an operation
	dead     bool
	call     string // that it is about to make
	fault    Fault
	cancel   context.CancelFunc
	history  uint64
}

// Fault is something that goes wrong with a call.
type Fault int

// The faults. A killed process makes no more calls until it is started again.
const (
	None         Fault = iota
	Refused            // the call fails and is not applied
	Lost               // the call fails but is applied
	KilledBefore       // the call is never made
	KilledAfter        // the process is killed after the call
	Panicked           // the goroutine that made the call panics after it
	Cancelled          // the context is cancelled after the call
	Faults             // the number of faults
)

func (f Fault) String() string {
	return [...]string{"", "refused", "lost", "killed before", "killed after", "panicked after", "cancelled after"}[f]
}

// Start runs op in the process until it is about to make its first call or has ended. If it has ended, err is op's.
func (p *Process) Start(ctx context.Context, op func(ctx context.Context) error) (ended bool, err error) {
	p.dead, p.running, p.history = false, true, 0
	ctx, p.cancel = context.WithCancel(ctx)
	p.ops <- func() error { return op(ctx) }
	return p.wait()
}

// run does one operation after the other. It uses one goroutine for all, because a new one would have to grow its stack
// each time.
func (p *Process) run() {
	for op := range p.ops {
		e := labEvent{ended: true, err: try(op)}
		p.cancel()
		p.lab.events <- e
	}
}

// try returns the error of op, or one that says that op panicked.
func try(op func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panicked: %v", r)
		}
	}()
	return op()
}

// Step lets the waiting call go on, with a fault. It returns when the process is about to make its next call or op has
// ended.
func (p *Process) Step(f Fault) (ended bool, err error) {
	p.fault = f
	switch f {
	case KilledBefore:
		p.dead = true
		p.verdicts <- Refuse
	case Refused:
		p.verdicts <- Refuse
	case KilledAfter:
		p.dead = true
		p.verdicts <- Lose
	case Lost:
		p.verdicts <- Lose
	default:
		p.verdicts <- Apply
	}
	return p.wait()
}

func (p *Process) wait() (ended bool, err error) {
	e := <-p.lab.events
	if p.running = !e.ended; e.ended {
		p.history, p.dead = 0, false
	}
	return e.ended, e.err
}

// Waiting tells whether the process is about to make a call.
func (p *Process) Waiting() bool { return p.running }

// Call is the name of the call that the process is about to make.
func (p *Process) Call() string { return p.call }

// Kill ends the process if it is running.
func (p *Process) Kill() {
	for ended := !p.running; !ended; {
		ended, _ = p.Step(KilledBefore)
	}
}

// Command holds a call of the process until Step.
func (p *Process) Command(name string) Verdict {
	switch {
	case !p.running: // outside of an operation
		return Apply
	case p.dead:
		return Refuse
	}
	p.call = name
	p.lab.events <- labEvent{}
	return <-p.verdicts
}

// Answered records what the process has seen.
func (p *Process) Answered(reply bson.D) {
	p.history = p.lab.hash(p.history, reply)
}

// afterCall is called in the goroutine that made the call.
func (p *Process) afterCall() {
	f := p.fault
	p.fault = None
	switch f {
	case Panicked:
		panic("of the lab")
	case Cancelled:
		p.cancel()
	}
}

// State is a hash of everything that decides what can happen next, except times and random ids: the rows, and what each
// process has seen in its operation.
func (l *Lab) State() uint64 {
	var h uint64
	for _, name := range []string{l.app.Collection, "clerksync_deleted_users", "clerksync_inbox"} {
		for _, d := range l.Memory.Docs("lab", name) {
			h = l.hash(h, d)
		}
		h = l.hash(h, nil)
	}
	for _, p := range l.Processes {
		h = h*31 + p.history
		if p.running {
			h++
		}
	}
	return h
}

func (l *Lab) hash(h uint64, d bson.D) uint64 {
	b, err := bson.Marshal(bson.D{{Key: "before", Value: int64(h)}, {Key: "d", Value: timeless(d)}})
	if err != nil {
		panic(err)
	}
	return maphash.Bytes(l.seed, b)
}

// timeless returns v without the times and the random ids in it.
func timeless(v any) any {
	switch v := v.(type) {
	case bson.D:
		d := make(bson.D, len(v))
		for i, e := range v {
			d[i] = bson.E{Key: e.Key, Value: timeless(e.Value)}
		}
		return d
	case bson.A:
		a := make(bson.A, len(v))
		for i, e := range v {
			a[i] = timeless(e)
		}
		return a
	case bson.DateTime, bson.ObjectID:
		return nil
	}
	return v
}

// Rows returns how many documents of the app's collection are such.
func (l *Lab) Rows(such func(Doc) bool) (n int) {
	for _, d := range l.Memory.Docs("lab", l.app.Collection) {
		if such(Doc(d)) {
			n++
		}
	}
	return n
}

// Row returns the document of a user, or nil.
func (l *Lab) Row(t testing.TB, id string) Doc {
	t.Helper()
	for _, d := range l.Memory.Docs("lab", l.app.Collection) {
		if get(d, l.app.Map.Key) == id {
			return Doc(d)
		}
	}
	return nil
}
