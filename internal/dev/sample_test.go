package dev

import (
	"testing"

	"clerksync/clerk"
	"clerksync/internal/testenv"
	"clerksync/store"
	"clerksync/store/mapping"
)

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
	reads := 0
	db := memory.ConnectFaulty(t, "test", &testenv.CommandFaults{Verdict: func(command string) testenv.Verdict {
		if command == "find" {
			if reads++; reads == 2 {
				save(after)
			}
		}
		return testenv.Apply
	}})
	users := store.NewUsers(db, mapping.Default())
	got, found, err := waitFor(t.Context(), users, after)
	want, wantErr := others.Get(t.Context(), "user_1")
	if err != nil || wantErr != nil || !found || got.Text("full_name") != want.Text("full_name") {
		t.Errorf("got %v %t %v, want %v %v", got, found, err, want, wantErr)
	}
}
