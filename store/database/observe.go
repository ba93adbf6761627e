package database

import (
	"context"
	"time"

	"go.mongodb.org/mongo-driver/v2/event"
)

// Command is a command that was sent to the database and has ended.
type Command struct {
	Name string // MongoDB's name, such as "find"
	// Collection is the collection that it is about; "" if it is about none, or if nobody called ObserveCollections.
	Collection string
	Took       time.Duration
	Err        error // redacted; nil if the database answered, even if it refused some rows of a write
}

// Observe makes f be called after each command, with the context of who asked for it. The one who asked waits for f, so
// f must be quick. Call Observe before anything else uses the database. If no server can be found, no command is sent.
func (db *DB) Observe(f func(ctx context.Context, c Command)) { db.observers = append(db.observers, f) }

// ObserveCollections makes commands have their Collection. Only the driver's event of their beginning says that, and
// for this event the driver copies all that is written. Call it before anything else uses the database.
func (db *DB) ObserveCollections() {
	db.monitor.Started = func(_ context.Context, e *event.CommandStartedEvent) {
		about := e.Command.Lookup("collection") // of getMore
		if first, err := e.Command.IndexErr(0); e.CommandName != "getMore" && err == nil {
			about = first.Value()
		}
		if name, ok := about.StringValueOK(); ok {
			db.collections.Store(e.RequestID, name)
		}
	}
}

// newMonitor returns what calls the observers. It leaves out the beginning of a command, see ObserveCollections.
func (db *DB) newMonitor() *event.CommandMonitor {
	tell := func(ctx context.Context, e event.CommandFinishedEvent, err error) {
		c := Command{Name: e.CommandName, Took: e.Duration, Err: Redact(err)}
		if db.monitor.Started != nil {
			name, _ := db.collections.LoadAndDelete(e.RequestID)
			c.Collection, _ = name.(string)
		}
		for _, f := range db.observers {
			f(ctx, c)
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
