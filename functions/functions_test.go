package functions_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"clerksync/functions"
	"clerksync/inbox"
	"clerksync/internal/testenv"
	"clerksync/store"
	"clerksync/store/database"
	"clerksync/store/mapping"

	"github.com/google/go-cmp/cmp"
	"github.com/inngest/inngestgo"
	"github.com/prometheus/client_golang/prometheus"
)

// TestMain quiets the SDK, which logs each checkpoint that fails as this variable says.
func TestMain(m *testing.M) {
	if err := os.Setenv("LOG_LEVEL", "error"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// rig is an executor of the functions with a database in memory.
type rig struct {
	*testenv.Executor
	memory *testenv.Memory
	db     *database.DB
	users  *store.Users
	box    *inbox.Inbox
	faults *testenv.CommandFaults
}

// times returns a function that is true the first n times that it is called with one of these names.
func times(n int, names ...string) func(string) bool {
	return func(name string) bool {
		if !slices.Contains(names, name) || n == 0 {
			return false
		}
		n--
		return true
	}
}

// servers are the kinds of Inngest server, by the answers of their checkpoint API, without which a step is a request
// more.
var servers = map[string]func(n int) int{
	"no checkpoints":             nil,
	"checkpoints":                func(int) int { return http.StatusOK },
	"checkpoints not known":      func(int) int { return http.StatusNotFound },
	"checkpoints fail, at times": func(n int) int { return []int{http.StatusServiceUnavailable, http.StatusOK}[n%2] },
}

func setup(t *testing.T, f functions.Functions) rig {
	t.Helper()
	return setupWith(t, f, nil)
}

func setupWith(t *testing.T, f functions.Functions, checkpoint func(n int) int) rig {
	t.Helper()
	return setupMap(t, f, mapping.Default(), checkpoint)
}

func setupMap(t *testing.T, f functions.Functions, m *mapping.Map, checkpoint func(n int) int) rig {
	t.Helper()
	r := rig{memory: testenv.NewMemory(), faults: &testenv.CommandFaults{}}
	r.db = r.memory.ConnectFaulty(t, "test", r.faults)
	r.users = store.NewUsers(r.db, m)
	if err := r.users.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.box = inbox.New(inbox.Options{DB: r.db, Log: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	f.Users, f.Inbox, f.Log = r.users, r.box, slog.New(slog.DiscardHandler)
	var client inngestgo.Client
	client, r.Executor = testenv.NewExecutor(t, checkpoint)
	if err := f.Register(client, checkpoint != nil); err != nil {
		t.Fatal(err)
	}
	return r
}

// pending puts rows with these ids into the inbox.
func (r rig) pending(ids ...string) {
	for _, id := range ids {
		r.memory.Ensure("test", "clerksync_inbox", id)
	}
}

// left returns the ids of the rows in the inbox that are no dead letters.
func (r rig) left(t *testing.T) (ids []string) {
	t.Helper()
	dead := r.deadLetters(t)
	for _, d := range r.memory.Docs("test", "clerksync_inbox") {
		if id := d[0].Value.(string); !slices.ContainsFunc(dead, func(l inbox.DeadLetter) bool { return l.ID == id }) {
			ids = append(ids, id)
		}
	}
	return ids
}

// deadLetters returns the dead letters, in the order of their ids.
func (r rig) deadLetters(t *testing.T) []inbox.DeadLetter {
	t.Helper()
	dead := inbox.NewTable(r.db)
	all, err := dead.DeadLetters(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	for i, l := range all {
		if all[i], err = dead.DeadLetter(t.Context(), l.ID); err != nil { // with its data
			t.Fatal(err)
		}
	}
	slices.SortFunc(all, func(a, b inbox.DeadLetter) int { return strings.Compare(a.ID, b.ID) })
	return all
}

func (r rig) deadIDs(t *testing.T) (ids []string) {
	t.Helper()
	for _, l := range r.deadLetters(t) {
		ids = append(ids, l.ID)
	}
	return ids
}

const user = `{"id":"user_a","object":"user","first_name":"Ada","last_name":"Lovelace","username":null,
	"primary_email_address_id":"idn_1",
	"email_addresses":[{"id":"idn_1","email_address":"ada@example.com","verification":{"status":"verified"}}],
	"image_url":"https://img.example/a","created_at":1767603600000,"updated_at":1767603600018}`

// TestShapes: an event as Inngest's integration sends it, and as some transforms send it, writes the same row.
func TestShapes(t *testing.T) {
	t.Parallel()
	envelope := `{"data":` + user +
		`,"object":"event","type":"user.created","timestamp":1767603600050,"instance_id":"ins_1"}`
	want := testenv.Row{
		ID: "user_a", Email: "ada@example.com", FullName: "Ada Lovelace", ProfilePicture: "https://img.example/a",
		Username: "ada",
	}
	for name, data := range map[string]string{
		"flat":     user,
		"nested":   `{"data":` + user + `,"headers":{"svix-id":"msg_1"},"raw":"x"}`,
		"envelope": envelope,
		"both":     `{"data":` + envelope + `}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t, functions.Functions{InstanceID: "ins_1"})
			r := f.Run(t, syncUser, testenv.Event{
				ID: "msg_1", Name: "clerk/user.created", Data: json.RawMessage(data), TS: 1767603600060,
				V: inbox.ClerkTime,
			})
			if got, want := string(r.Output), `{"user_id":"user_a","outcome":"created"}`; got != want {
				t.Fatalf("got %s, %s, want %s", got, r.Error, want)
			}
			got, err := testenv.Get(t, f.users, "user_a")
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
	enveloped := testenv.Event{
		Data: json.RawMessage(`{"data":` + user + `,"object":"event","type":"user.created","timestamp":1767603600100}`),
		TS:   1767603699999,
	}
	for name, events := range map[string][]testenv.Event{
		"the older one comes late by the integration": {old, newer, copied(old, 1767603609999)},
		"the newer one comes late by the webhook": {
			copied(newer, 1767603609000), copied(old, 1767603609999), newer,
		},
		"an envelope comes late by the integration": {newer, enveloped},
		"the integration alone, run out of order":   {copied(newer, 1767603609999), copied(old, 1767603609000)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t, functions.Functions{})
			for _, e := range events {
				if r := f.Run(t, updateUser, e); r.Failed {
					t.Fatal(r.Error)
				}
			}
			got, err := testenv.Get(t, f.users, "user_a")
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
	f := setup(t, functions.Functions{})
	for _, e := range []testenv.Event{
		{ID: "msg_2", Data: json.RawMessage(king), TS: 1767603600200, V: inbox.ClerkTime},
		{ID: "msg_1", Data: json.RawMessage(user), TS: 1767603609999},
		{ID: "msg_1:r1", Data: json.RawMessage(user), TS: 1767603609999},
	} {
		if r := f.Run(t, updateUser, e); r.Failed {
			t.Fatal(r.Error)
		}
	}
	if got, err := testenv.Get(t, f.users, "user_a"); err != nil || got.FullName != "Ada King" {
		t.Errorf("got %q, %v, want Ada King", got.FullName, err)
	}
}

func TestLife(t *testing.T) {
	t.Parallel()
	for name, checkpoint := range servers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setupWith(t, functions.Functions{}, checkpoint)
			f.pending("msg_0", "msg_1", "msg_2", "msg_3", "msg_4", "msg_5", "msg_other")
			king := strings.Replace(strings.Replace(user, "Lovelace", "King", 1), "1767603600018", "1767603700000", 1)
			for i, tc := range []struct{ fn, data, want string }{
				{syncUser, user, "created"},
				{updateUser, king, "updated"},
				{updateUser, king, "unchanged"},
				{syncUser, user, "stale"},
				{deleteUser, `{"id":"user_a","object":"user","deleted":true}`, "deleted"},
				{updateUser, king, "deleted"},
			} {
				e := testenv.Event{
					ID: fmt.Sprintf("msg_%d:r2", i), Data: json.RawMessage(tc.data), TS: int64(1767603800000 + i),
				}
				r := f.Run(t, tc.fn, e)
				if want := fmt.Sprintf(`{"user_id":"user_a","outcome":%q}`, tc.want); string(r.Output) != want {
					t.Errorf("%d: got %s, %s, want %s", i, r.Output, r.Error, want)
				}
			}
			if _, err := f.users.Get(t.Context(), "user_a"); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("got %v, want no row", err)
			}
			if d := cmp.Diff([]string{"msg_other"}, f.left(t)); d != "" {
				t.Errorf("left in the inbox (-want +got):\n%s", d)
			}
		})
	}
}

// TestNotRetried: data of which no retry can make a row fails at once, with an error that says why and quotes nothing.
func TestNotRetried(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ fn, data, want string }{
		"no id":              {syncUser, `{"object":"user","first_name":"Ada"}`, "it has no id"},
		"another object":     {updateUser, `{"object":"organization","id":"org_1"}`, "another thing"},
		"a name is a number": {updateUser, `{"object":"user","id":"user_a","first_name":42424242}`, `first_name`},
		"a deletion":         {syncUser, `{"object":"user","id":"user_a","deleted":true}`, "it is a deletion"},
		"a list":             {syncUser, `["ada@example.com"]`, "event"},
		"null":               {syncUser, `null`, "no object"},
		"a string":           {deleteUser, `"ada@example.com"`, ""},
		"a deletion of none": {deleteUser, `{"object":"user","deleted":true}`, "it has no id"},
		"of another instance": {
			syncUser, `{"data":` + user + `,"instance_id":"ins_2","type":"user.created"}`, "another Clerk instance",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for server, checkpoint := range servers {
				f := setupWith(t, functions.Functions{InstanceID: "ins_1"}, checkpoint)
				f.pending("msg_1")
				r := f.Run(t, tc.fn, testenv.Event{ID: "msg_1", Data: json.RawMessage(tc.data), TS: 1})
				// a second call only tells the end
				if !r.Failed || r.Attempts > 2 || !strings.Contains(r.Error, tc.want) {
					t.Errorf("%s: got %+v, want one failed attempt with %q", server, r, tc.want)
				}
				for _, s := range []string{"ada@", "42424242", "step error"} {
					if strings.Contains(r.Error, s) {
						t.Errorf("%s: the error has %q: %s", server, s, r.Error)
					}
				}
				if len(f.left(t)) != 1 {
					t.Errorf("%s: it is cleared, want it kept", server)
				}
			}
		})
	}
}

// TestCrash: an attempt that died after its write, or could not clear the inbox, is followed by another and ends with
// one row.
func TestCrash(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*testenv.CommandFaults){
		"error after the write": func(f *testenv.CommandFaults) {
			lose := times(3, "insert", "update")
			f.Verdict = func(name string) testenv.Verdict {
				if lose(name) {
					return testenv.Lose
				}
				return testenv.Apply
			}
		},
		"panic after the write": func(f *testenv.CommandFaults) {
			die := times(2, "insert", "update")
			f.Applied = func(name string) {
				if die(name) {
					panic("killed")
				}
			}
		},
		"inbox down": func(f *testenv.CommandFaults) {
			refuse := times(1, "findAndModify")
			f.Verdict = func(name string) testenv.Verdict {
				if refuse(name) {
					return testenv.Refuse
				}
				return testenv.Apply
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for server, checkpoint := range servers {
				f := setupWith(t, functions.Functions{}, checkpoint)
				f.pending("msg_1")
				change(f.faults)
				r := f.Run(t, syncUser, testenv.Event{ID: "msg_1", Data: json.RawMessage(user), TS: 1})
				if got, want := string(r.Output), `{"user_id":"user_a","outcome":"unchanged"}`; got != want ||
					r.Error == "" {
					t.Errorf("%s: got %s, %s, want %s after an error", server, got, r.Error, want)
				}
				if left := f.left(t); len(left) > 0 {
					t.Errorf("%s: left in the inbox: %v", server, left)
				}
				if _, err := f.users.Get(t.Context(), "user_a"); err != nil {
					t.Errorf("%s: %v", server, err)
				}
			}
		})
	}
}

// TestMarkFailed: what Inngest says of a failed run is in the dead letter, word for word.
func TestMarkFailed(t *testing.T) {
	t.Parallel()
	for _, message := range []string{"write user: the database did not answer", "Unable to reach SDK URL", ""} {
		t.Run(message, func(t *testing.T) {
			t.Parallel()
			f := setup(t, functions.Functions{})
			data, err := json.Marshal(map[string]any{
				"function_id": "app-sync-user-from-clerk", "run_id": "01J", "error": map[string]string{
					"name": "Error", "message": message,
				},
				"event": map[string]any{
					"id": "msg_1:r3", "name": "clerk/user.created", "ts": 1767603600018,
					"data": map[string]any{
						"object": "user", "private_metadata": map[string]string{"k": "v"}, "phone_numbers": []any{
							map[string]any{"backup_codes": []string{"s"}},
						},
					},
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			if r := f.Run(t, markFailed, testenv.Event{Name: "inngest/function.failed", Data: data}); r.Failed {
				t.Fatal(r.Error)
			}
			want := []inbox.DeadLetter{{
				Event: inbox.Event{
					ID: "msg_1", Name: "clerk/user.created",
					Data: json.RawMessage(`{"object":"user","phone_numbers":[{}]}`), TS: 1767603600018,
				},
				Failure: inbox.Failure{Function: "app-sync-user-from-clerk", RunID: "01J", Error: message},
				Sends:   1,
			}}
			got := f.deadLetters(t)
			for i := range got {
				got[i].At, got[i].ReceivedAt = time.Time{}, time.Time{}
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("dead letters (-want +got):\n%s", d)
			}
		})
	}
}
