package functions_test

import (
	"context"
	"encoding/json"
	"testing"

	"clerksync/functions"
	"clerksync/inbox"
	"clerksync/internal/testenv"
	"clerksync/store"

	"github.com/google/go-cmp/cmp"
)

// TestSource: what is written says what asked for it: a webhook by its svix-id at whichever sending, a dead letter that
// was replayed, or Inngest's own integration, whose events have an id of Inngest's or none.
func TestSource(t *testing.T) {
	t.Parallel()
	for id, want := range map[string]store.Source{
		"msg_1":                      {Kind: "webhook", ID: "msg_1"},
		"msg_1:r2":                   {Kind: "webhook", ID: "msg_1"},
		"msg_1:replay2":              {Kind: "replay", ID: "msg_1"},
		"01JD5V9P3K0000000000000000": {Kind: "integration", ID: "01JD5V9P3K0000000000000000"},
		"":                           {Kind: "integration"},
		"01jd5v9p3k0000000000000000": {Kind: "webhook", ID: "01jd5v9p3k0000000000000000"},
		"81JD5V9P3K0000000000000000": {Kind: "webhook", ID: "81JD5V9P3K0000000000000000"},
	} {
		for typ, data := range map[string]string{
			"sync-user-from-clerk":   user,
			"update-user-from-clerk": user,
			"delete-user-with-clerk": `{"id":"user_a","object":"user","deleted":true}`,
		} {
			t.Run(id+" "+typ, func(t *testing.T) {
				t.Parallel()
				f := setup(t, functions.Functions{})
				var got []store.Change
				f.users.Watch(func(_ context.Context, changes []store.Change) error {
					got = append(got, changes...)
					return nil
				})
				name := map[string]string{
					"sync-user-from-clerk": "user.created", "update-user-from-clerk": "user.updated",
					"delete-user-with-clerk": "user.deleted",
				}[typ]
				f.Run(t, typ, testenv.Event{
					ID: id, Name: "clerk/" + name, Data: json.RawMessage(data), TS: 1767603600050, V: inbox.ClerkTime,
				})
				if len(got) != 1 {
					t.Fatalf("got %+v", got)
				}
				if d := cmp.Diff(want, got[0].Source); d != "" || got[0].EventAt.UnixMilli() != 1767603600050 {
					t.Errorf("at %s, -want +got:\n%s", got[0].EventAt, d)
				}
			})
		}
	}
}
