package database

import (
	"context"
	"time"

	"go.mongodb.org/mongo-driver/v2/event"
)

// Command is a command that was sent to the database and has ended.
type Command struct {
	Name string // MongoDB's name, such as "find"
	Took time.Duration
	Err  error // redacted; nil if the database answered, even if it refused some rows of a write
}

// Observe makes f be called after each command, with the context of who asked for it. The one who asked waits for f, so
// f must be quick. Call Observe before anything else uses the database. If no server can be found, no command is sent.
func (db *DB) Observe(f func(ctx context.Context, c Command)) { db.observers = append(db.observers, f) }

// monitor returns what calls the observers. It leaves out the beginning of a command, for which the driver would copy
// all that is written.
func (db *DB) monitor() *event.CommandMonitor {
	tell := func(ctx context.Context, e event.CommandFinishedEvent, err error) {
		for _, f := range db.observers {
			f(ctx, Command{Name: e.CommandName, Took: e.Duration, Err: Redact(err)})
		}
	}
	return &event.CommandMonitor{
		Succeeded: func(ctx context.Context, e *event.CommandSucceededEvent) {
			tell(ctx, e.CommandFinishedEvent, nil)
		},
		Failed: func(ctx context.Context, e *event.CommandFailedEvent) {
			tell(ctx, e.CommandFinishedEvent, e.Failure)
		},
	}
}
