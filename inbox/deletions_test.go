package inbox_test

import (
	"testing"
	"time"

	"clerksync/inbox"
	"clerksync/internal/testenv"
	"clerksync/store/database"

	"github.com/google/go-cmp/cmp"
)

// TestDeletions: the deletions of one user are found, in whichever way they came, until they are cleared or dropped.
func TestDeletions(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		b, _, _ := start(t, db, (&sender{away: true}).Send, time.Hour)
		deletion := func(id, data string) inbox.Event {
			return inbox.Event{ID: id, Name: "clerk/user.deleted", Data: []byte(data), TS: 1767603600000}
		}
		ada := `{"id":"user_ada","object":"user","deleted":true}`
		for _, e := range []inbox.Event{
			deletion("msg_waits", ada),
			deletion("msg_envelope", `{"type":"user.deleted","object":"event","data":`+ada+`}`),
			deletion("msg_dead", ada), deletion("msg_dropped", ada), deletion("msg_done", ada),
			deletion("msg_bob", `{"id":"user_bob"}`), deletion("msg_strange", `[]`),
			{ID: "msg_updated", Name: "clerk/user.updated", Data: []byte(ada), TS: 1},
		} {
			if err := b.Put(t.Context(), e); err != nil {
				t.Fatal(err)
			}
		}
		for _, id := range []string{"msg_dead", "msg_dropped"} {
			if err := b.Fail(t.Context(), deletion(id, ada), inbox.Failure{Error: "why"}); err != nil {
				t.Fatal(err)
			}
		}
		if err := inbox.NewTable(db).Drop(t.Context(), "msg_dropped"); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Done(t.Context(), "msg_done"); err != nil {
			t.Fatal(err)
		}
		for user, want := range map[string][2][]string{
			"user_ada": {{"msg_envelope", "msg_waits"}, {"msg_dead"}}, "user_bob": {{"msg_bob"}, nil}, "user_eve": {},
		} {
			waiting, dead, err := inbox.NewTable(db).Deletions(t.Context(), user)
			if d := cmp.Diff(want, [2][]string{waiting, dead}); d != "" || err != nil {
				t.Errorf("%s: %v (-want +got):\n%s", user, err, d)
			}
		}
	})
}
