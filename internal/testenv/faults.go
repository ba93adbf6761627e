package testenv

import (
	"context"
	"testing"

	"clerksync/store/database"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/event"
)

// CommandFaults decides what becomes of a client's commands to a Memory. Its functions may be nil, and may panic: Sent
// and Applied are called in the goroutine that sends the command.
type CommandFaults struct {
	Verdict func(command string) Verdict
	Sent    func(command, collection string, body []byte)
	Applied func(command string)
}

// ConnectFaulty is like Connect, with these faults.
func (m *Memory) ConnectFaulty(t testing.TB, name string, f *CommandFaults) *database.DB {
	t.Helper()
	return m.Connect(t, name, f, &event.CommandMonitor{
		Started: func(_ context.Context, e *event.CommandStartedEvent) {
			if f.Sent != nil {
				collection, _ := e.Command.Lookup(e.CommandName).StringValueOK()
				f.Sent(e.CommandName, collection, e.Command)
			}
		},
		Succeeded: func(_ context.Context, e *event.CommandSucceededEvent) {
			if f.Applied != nil {
				f.Applied(e.CommandName)
			}
		},
	})
}

// Command is the Gate's.
func (f *CommandFaults) Command(name string) Verdict {
	if f.Verdict == nil {
		return Apply
	}
	return f.Verdict(name)
}

// Answered is the Gate's.
func (*CommandFaults) Answered(bson.D) {}
