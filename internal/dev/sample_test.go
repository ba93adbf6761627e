package dev

import (
	"testing"

	"clerksync/clerk"
	"clerksync/internal/testenv"
	"clerksync/store"
	"clerksync/store/mapping"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// betweenReads is a gate that calls write before the second read.
type betweenReads struct {
	reads int
	write func()
}

func (g *betweenReads) Command(name string) testenv.Verdict {
	if name == "find" {
		if g.reads++; g.reads == 2 {
			g.write()
		}
	}
	return testenv.Apply
}

func (g *betweenReads) Answered(bson.D) {}

// TestRowWrittenBetweenReads: the demo read a row, found that it was right, and printed what it had read, though the
// row had become right only after that.
func TestRowWrittenBetweenReads(t *testing.T) {
	t.Parallel()
	memory := testenv.NewMemory()
	write := func(typ string) store.Write {
		t.Helper()
		event, err := Sample(typ, "ada", "user_1")
		if err != nil {
			t.Fatal(err)
		}
		w, err := asWrite(event)
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	others := store.NewUsers(memory.Connect(t, "test", nil, nil), mapping.Default())
	before, after := write(clerk.UserCreated), write(clerk.UserUpdated)
	after.User.ChangedAt++ // both may happen in one millisecond
	save := func(w store.Write) {
		if now := others.Write(t.Context(), []store.Write{w}, store.All)[0]; now.Err != nil {
			t.Error(now.Err)
		}
	}
	save(before)
	gate := &betweenReads{write: func() { save(after) }}
	users := store.NewUsers(memory.Connect(t, "test", gate, nil), mapping.Default())
	got, found, err := waitFor(t.Context(), users, after)
	want, wantErr := others.Get(t.Context(), "user_1")
	if err != nil || wantErr != nil || !found || got.Text("full_name") != want.Text("full_name") {
		t.Errorf("got %v %t %v, want %v %v", got, found, err, want, wantErr)
	}
}
