package functions_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"clerksync/functions"
	"clerksync/inbox"
	"clerksync/internal/testenv"
	"clerksync/store"

	"github.com/google/go-cmp/cmp"
)

type deadLetter struct {
	Event   inbox.Event
	Failure inbox.Failure
}

// box is an inbox that remembers what it was told.
type box struct {
	done   []string
	failed []deadLetter
	err    error // of the next call
}

func (b *box) Done(_ context.Context, id string) error {
	if err := b.err; err != nil {
		b.err = nil
		return err
	}
	b.done = append(b.done, id)
	return nil
}

func (*box) FailPending(context.Context, string, inbox.Failure) (bool, error) { return false, nil }

func (b *box) Fail(_ context.Context, e inbox.Event, f inbox.Failure) error {
	b.failed = append(b.failed, deadLetter{e, f})
	return nil
}

// failing is a store that fails or panics a number of times after it has written.
type failing struct {
	*store.Users
	errors, panics int
}

func (f *failing) Write(ctx context.Context, writes []store.Write, mode store.Mode) []store.Result {
	results := f.Users.Write(ctx, writes, mode)
	switch {
	case f.errors > 0:
		f.errors--
		return []store.Result{{Err: errors.New("the connection broke")}}
	case f.panics > 0:
		f.panics--
		panic("killed")
	}
	return results
}

func setup(t *testing.T, f functions.Functions, others ...functions.Function) (*testenv.Executor, *store.Users) {
	t.Helper()
	users := store.NewUsers(testenv.Embedded(t))
	if err := users.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	switch s := f.Users.(type) {
	case nil:
		f.Users = users
	case *failing:
		s.Users = users
	case *unwritable:
		s.Users = users
	}
	f.Log = slog.New(slog.DiscardHandler)
	client, ex := testenv.NewExecutor(t)
	if err := f.Register(client, others...); err != nil {
		t.Fatal(err)
	}
	return ex, users
}

const user = `{"id":"user_a","object":"user","first_name":"Ada","last_name":"Lovelace","username":null,
	"primary_email_address_id":"idn_1","email_addresses":[{"id":"idn_1","email_address":"ada@example.com","verification":{"status":"verified"}}],
	"image_url":"https://img.example/a","created_at":1767603600000,"updated_at":1767603600018}`

// TestShapes: an event as Inngest's integration sends it, and as some transforms send it, writes the same row.
func TestShapes(t *testing.T) {
	t.Parallel()
	envelope := `{"data":` + user + `,"object":"event","type":"user.created","timestamp":1767603600050,"instance_id":"ins_1"}`
	want := store.Row{ID: "user_a", Email: "ada@example.com", FullName: "Ada Lovelace", ProfilePicture: "https://img.example/a", Username: "ada"}
	for name, data := range map[string]string{
		"flat":     user,
		"nested":   `{"data":` + user + `,"headers":{"svix-id":"msg_1"},"raw":"x"}`,
		"envelope": envelope,
		"both":     `{"data":` + envelope + `}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ex, users := setup(t, functions.Functions{Inbox: &box{}, InstanceID: "ins_1"})
			r := ex.Run(t, functions.SyncUser, testenv.Event{ID: "msg_1", Name: "clerk/user.created", Data: json.RawMessage(data), TS: 1767603600060, V: inbox.ClerkTime})
			if got, want := string(r.Output), `{"user_id":"user_a","outcome":"created"}`; got != want {
				t.Fatalf("got %s, %s, want %s", got, r.Error, want)
			}
			got, err := users.Get(t.Context(), "user_a")
			if err != nil {
				t.Fatal(err)
			}
			at := "1767603600060"
			if strings.Contains(data, "timestamp") {
				at = "1767603600050"
			}
			if want := "1767603600018." + at; got.Clerk.Version != want {
				t.Errorf("got version %s, want %s", got.Clerk.Version, want)
			}
			got.Clerk = store.State{}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("row (-want +got):\n%s", d)
			}
		})
	}
}

// TestTie: two changes to which Clerk gives one time end as Clerk's own time of the events says, whichever source
// brings them in whatever order. The time of arrival that Inngest's integration gives a copy does not count against it.
func TestTie(t *testing.T) {
	t.Parallel()
	king := strings.Replace(user, "Lovelace", "King", 1) // later, though no time in it has moved
	old := testenv.Event{ID: "msg_1", Data: json.RawMessage(user), TS: 1767603600100, V: inbox.ClerkTime}
	newer := testenv.Event{ID: "msg_2:r1", Data: json.RawMessage(king), TS: 1767603600200, V: inbox.ClerkTime}
	copied := func(e testenv.Event, arrival int64) testenv.Event {
		return testenv.Event{ID: "01JD5V9P3K0000000000000000", Data: e.Data, TS: arrival}
	}
	enveloped := testenv.Event{Data: json.RawMessage(`{"data":` + user + `,"object":"event","type":"user.created","timestamp":1767603600100}`), TS: 1767603699999}
	for name, events := range map[string][]testenv.Event{
		"the older one comes late by the integration": {old, newer, copied(old, 1767603609999)},
		"the newer one comes late by the webhook":     {copied(newer, 1767603609000), copied(old, 1767603609999), newer},
		"an envelope comes late by the integration":   {newer, enveloped},
		"the integration alone, run out of order":     {copied(newer, 1767603609999), copied(old, 1767603609000)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ex, users := setup(t, functions.Functions{Inbox: &box{}})
			for _, e := range events {
				if r := ex.Run(t, functions.UpdateUser, e); r.Failed {
					t.Fatal(r.Error)
				}
			}
			got, err := users.Get(t.Context(), "user_a")
			if err != nil {
				t.Fatal(err)
			}
			if got.FullName != "Ada King" {
				t.Errorf("got %q, want Ada King", got.FullName)
			}
		})
	}
}

// TestArrivalTakenForClerksTime: a transform of Inngest's that keeps Clerk's message id and not its time makes events
// whose ts is when they arrived. Such a late copy of an older change is not newer than the change after it.
func TestArrivalTakenForClerksTime(t *testing.T) {
	t.Parallel()
	king := strings.Replace(user, "Lovelace", "King", 1) // later, though no time in it has moved
	ex, users := setup(t, functions.Functions{Inbox: &box{}})
	for _, e := range []testenv.Event{
		{ID: "msg_2", Data: json.RawMessage(king), TS: 1767603600200, V: inbox.ClerkTime},
		{ID: "msg_1", Data: json.RawMessage(user), TS: 1767603609999},
		{ID: "msg_1:r1", Data: json.RawMessage(user), TS: 1767603609999},
	} {
		if r := ex.Run(t, functions.UpdateUser, e); r.Failed {
			t.Fatal(r.Error)
		}
	}
	if got, err := users.Get(t.Context(), "user_a"); err != nil || got.FullName != "Ada King" {
		t.Errorf("got %q, %v, want Ada King", got.FullName, err)
	}
}

func TestLife(t *testing.T) {
	t.Parallel()
	b := &box{}
	ex, users := setup(t, functions.Functions{Inbox: b})
	king := strings.Replace(strings.Replace(user, "Lovelace", "King", 1), "1767603600018", "1767603700000", 1)
	for i, tc := range []struct{ fn, data, want string }{
		{functions.SyncUser, user, "created"},
		{functions.UpdateUser, king, "updated"},
		{functions.UpdateUser, king, "unchanged"},
		{functions.SyncUser, user, "stale"},
		{functions.DeleteUser, `{"id":"user_a","object":"user","deleted":true}`, "deleted"},
		{functions.UpdateUser, king, "deleted"},
	} {
		r := ex.Run(t, tc.fn, testenv.Event{ID: fmt.Sprintf("msg_%d:r2", i), Data: json.RawMessage(tc.data), TS: int64(1767603800000 + i)})
		if want := fmt.Sprintf(`{"user_id":"user_a","outcome":%q}`, tc.want); string(r.Output) != want {
			t.Errorf("%d: got %s, %s, want %s", i, r.Output, r.Error, want)
		}
	}
	if _, err := users.Get(t.Context(), "user_a"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("got %v, want no row", err)
	}
	want := []string{"msg_0:r2", "msg_1:r2", "msg_2:r2", "msg_3:r2", "msg_4:r2", "msg_5:r2"}
	if d := cmp.Diff(want, b.done); d != "" {
		t.Errorf("cleared (-want +got):\n%s", d)
	}
}

// TestNotRetried: data of which no retry can make a row fails at once, with an error that says why and quotes nothing.
func TestNotRetried(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ fn, data, want string }{
		"no id":               {functions.SyncUser, `{"object":"user","first_name":"Ada"}`, "it has no id"},
		"another object":      {functions.UpdateUser, `{"object":"organization","id":"org_1"}`, "another thing"},
		"a name is a number":  {functions.UpdateUser, `{"object":"user","id":"user_a","first_name":42424242}`, `first_name`},
		"a deletion":          {functions.SyncUser, `{"object":"user","id":"user_a","deleted":true}`, "it is a deletion"},
		"a list":              {functions.SyncUser, `["ada@example.com"]`, "event"},
		"null":                {functions.SyncUser, `null`, "no object"},
		"a string":            {functions.DeleteUser, `"ada@example.com"`, ""},
		"a deletion of none":  {functions.DeleteUser, `{"object":"user","deleted":true}`, "it has no id"},
		"of another instance": {functions.SyncUser, `{"data":` + user + `,"instance_id":"ins_2","type":"user.created"}`, "another Clerk instance"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := &box{}
			ex, _ := setup(t, functions.Functions{Inbox: b, InstanceID: "ins_1"})
			r := ex.Run(t, tc.fn, testenv.Event{ID: "msg_1", Data: json.RawMessage(tc.data), TS: 1})
			if !r.Failed || r.Attempts > 2 || !strings.Contains(r.Error, tc.want) {
				t.Errorf("got %+v, want one failed attempt with %q", r, tc.want)
			}
			if strings.Contains(r.Error, "ada@") || strings.Contains(r.Error, "42424242") {
				t.Errorf("the error quotes the data: %s", r.Error)
			}
			if len(b.done) > 0 {
				t.Errorf("cleared %v, want it kept", b.done)
			}
		})
	}
}

// TestCrash: a step that died after its write, or could not clear the inbox, is tried again and ends with one row.
func TestCrash(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		users *failing
		box   *box
	}{
		"error after the write": {&failing{errors: 3}, &box{}},
		"panic after the write": {&failing{panics: 2}, &box{}},
		"inbox down":            {&failing{}, &box{err: errors.New("down")}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ex, users := setup(t, functions.Functions{Users: tc.users, Inbox: tc.box})
			r := ex.Run(t, functions.SyncUser, testenv.Event{ID: "msg_1", Data: json.RawMessage(user), TS: 1})
			if got, want := string(r.Output), `{"user_id":"user_a","outcome":"unchanged"}`; got != want {
				t.Errorf("got %s, %s, want %s", got, r.Error, want)
			}
			if d := cmp.Diff([]string{"msg_1"}, tc.box.done); d != "" {
				t.Errorf("cleared (-want +got):\n%s", d)
			}
			if _, err := users.Get(t.Context(), "user_a"); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestMarkFailed(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		message string
		want    inbox.Failure
	}{
		"by one of ours": {
			"unhandled step error: in attempt 21: write user: the database did not answer",
			inbox.Failure{Error: "write user: the database did not answer", Attempts: 21},
		},
		"not retried":      {"in attempt 1: not a Clerk user: it has no id", inbox.Failure{Error: "not a Clerk user: it has no id", Attempts: 1}},
		"never reached us": {"Unable to reach SDK URL", inbox.Failure{Error: "Unable to reach SDK URL", Attempts: 21}},
		"without a word":   {"", inbox.Failure{Attempts: 21}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := &box{}
			ex, _ := setup(t, functions.Functions{Inbox: b})
			data, err := json.Marshal(map[string]any{
				"function_id": "app-sync-user-from-clerk", "run_id": "01J", "error": map[string]string{"name": "Error", "message": tc.message},
				"event": map[string]any{"id": "msg_1:r3", "name": "clerk/user.created", "ts": 1767603600018, "data": map[string]any{
					"object": "user", "private_metadata": map[string]string{"k": "v"}, "phone_numbers": []any{map[string]any{"backup_codes": []string{"s"}}},
				}},
			})
			if err != nil {
				t.Fatal(err)
			}
			if r := ex.Run(t, functions.MarkFailed, testenv.Event{Name: "inngest/function.failed", Data: data}); r.Failed {
				t.Fatal(r.Error)
			}
			tc.want.Function, tc.want.RunID = "app-sync-user-from-clerk", "01J"
			want := []deadLetter{{
				inbox.Event{ID: "msg_1:r3", Name: "clerk/user.created", Data: json.RawMessage(`{"object":"user","phone_numbers":[{}]}`), TS: 1767603600018},
				tc.want,
			}}
			if d := cmp.Diff(want, b.failed); d != "" {
				t.Errorf("failed (-want +got):\n%s", d)
			}
		})
	}
}
