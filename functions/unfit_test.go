package functions_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"clerksync/functions"
	"clerksync/internal/testenv"
	"clerksync/store/mapping"
)

// TestRowThatTheMapDoesNotFit: no retry can write it. The dead letter names the row and the path, and the users beside
// it are written.
func TestRowThatTheMapDoesNotFit(t *testing.T) {
	t.Parallel()
	m := &mapping.Map{Collection: "people", Key: "clerkId", State: "clerk", Fields: []mapping.Field{
		{Path: "profile.name", From: "full_name"},
	}}
	for name, size := range map[string]int{"one by one": 0, "in batches": 10} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setupMap(t, functions.Functions{BatchSize: size}, m, nil)
			if _, err := f.db.Collection("people").InsertOne(t.Context(),
				map[string]any{"clerkId": "user_a", "profile": "Ada"}); err != nil {
				t.Fatal(err)
			}
			event := func(id string) testenv.Event {
				data := strings.ReplaceAll(user, "user_a", "user_"+id)
				return testenv.Event{ID: "msg_" + id, Name: "clerk/user.created", Data: []byte(data)}
			}
			f.pending("msg_a", "msg_b")
			if size > 0 {
				f.Others = []testenv.Event{event("b")}
			}
			r := f.Run(t, syncUser, event("a"))
			if size == 0 && (!r.Failed || r.Attempts > 2) { // of the step and of the function
				t.Errorf("got %+v, want that it fails and is not tried again", r)
			}
			want := "user_a.*profile is of type string, so profile.name cannot be set"
			text := r.Error
			if size > 0 {
				letters := f.deadLetters(t)
				if len(letters) != 1 {
					t.Fatalf("got %+v, want one dead letter", letters)
				}
				text = letters[0].Error
				if got := fmt.Sprint(f.left(t)); got != "[]" {
					t.Errorf("in the inbox: %s, want nothing", got)
				}
			}
			for part := range strings.SplitSeq(want, ".*") {
				if !strings.Contains(text, part) {
					t.Errorf("got %q, want %q in it", text, part)
				}
			}
			// An event of Inngest's own integration is not in the inbox, so whether its work is done is looked up.
			if r := f.fail(t, updateUser, of("msg_integration", user)); r.Failed {
				t.Errorf("got %+v", r)
			}
			if ids := f.deadIDs(t); !slices.Contains(ids, "msg_integration") {
				t.Errorf("dead letters %v, want msg_integration among them", ids)
			}
		})
	}
}
