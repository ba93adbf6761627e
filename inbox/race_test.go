package inbox_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"clerksync/inbox"
	"clerksync/internal/testenv"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// gate calls before when a command is about to be applied, and after when it is about to be answered.
type gate struct {
	mu     sync.Mutex
	before func(command string)
	after  func(reply bson.D)
}

func (g *gate) set(before func(command string)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.before = before
}

func (g *gate) setAfter(after func(reply bson.D)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.after = after
}

func (g *gate) Command(name string) testenv.Verdict {
	g.mu.Lock()
	before := g.before
	g.mu.Unlock()
	if before != nil {
		before(name)
	}
	return testenv.Apply
}

func (g *gate) Answered(reply bson.D) {
	g.mu.Lock()
	after := g.after
	g.mu.Unlock()
	if after != nil {
		after(reply)
	}
}

// TestForgottenWhileDelivered: a dropped dead letter that is delivered once more while the clean-up removes it stays:
// its 202 promises that. On FerretDB only locks hold that, and the two had a set of locks each.
func TestForgottenWhileDelivered(t *testing.T) {
	t.Parallel()
	g := &gate{}
	db := testenv.NewMemory().Connect(t, "test", g, nil)
	db.OneProcess = true
	b, _, _ := start(t, db, (&sender{away: true}).Send, time.Hour)
	d := inbox.NewTable(db)
	put(t, b, "msg_1")
	if err := b.Fail(t.Context(), event("msg_1"), inbox.Failure{Error: "why"}); err != nil {
		t.Fatal(err)
	}
	if err := d.Drop(t.Context(), "msg_1"); err != nil {
		t.Fatal(err)
	}
	// The clean-up goes on when the delivery is written, or waits for it.
	redelivered := make(chan error, 1)
	var once sync.Once
	g.set(func(command string) {
		if command != "delete" {
			return
		}
		once.Do(func() {
			go func() { redelivered <- b.Put(context.WithoutCancel(t.Context()), event("msg_1")) }()
			select {
			case err := <-redelivered:
				redelivered <- err
			case <-time.After(300 * time.Millisecond): // it waits for the lock
			}
		})
	})
	if _, err := d.ForgetDropped(t.Context(), time.Now().Add(time.Hour), 10); err != nil {
		t.Fatal(err)
	}
	if err := <-redelivered; err == nil && row(t, db, "msg_1") == nil {
		t.Error("the delivery was answered with success, and the event is nowhere")
	}
}
