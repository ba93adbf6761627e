package person_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"clerksync/clerk"
	"clerksync/history"
	"clerksync/inbox"
	"clerksync/internal/testenv"
	"clerksync/person"
	"clerksync/store"
	"clerksync/store/database"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

// doc is a document.
type doc map[string]any

// rig is a database with the records of ada and bob, and a Clerk that has both.
type rig struct {
	person.Records
	app      testenv.App
	db       *database.DB
	box      *inbox.Inbox
	fake     *testenv.ClerkAPI
	api      *clerk.API
	ada, bob testenv.ClerkUser
}

const (
	adaAddress = "ada@mail.example"
	bobAddress = "bob@mail.example"
)

// eachMap runs the test with every map on every database.
func eachMap(t *testing.T, f func(t *testing.T, r rig)) {
	t.Helper()
	for _, app := range testenv.Apps(t) {
		t.Run(app.Collection, func(t *testing.T) {
			t.Parallel()
			testenv.EachDatabase(t, func(t *testing.T, db *database.DB) { f(t, setupWith(t, db, app)) })
		})
	}
}

func setup(t *testing.T, db *database.DB) rig { return setupWith(t, db, testenv.DefaultApp()) }

func setupWith(t *testing.T, db *database.DB, app testenv.App) rig {
	t.Helper()
	if db.OneProcess { // it wants its collections made before, as the service does
		app.Prepare(t, db)
	}
	people := testenv.People(2)
	r := rig{
		Records: person.Records{
			Users: store.NewUsers(db, app.Map), Inbox: inbox.NewTable(db), Welcomes: store.NewWelcomes(db),
			History: history.New(db, time.Hour, slog.New(slog.DiscardHandler)), State: database.NewCheckpoints(db),
		},
		app: app, db: db, fake: testenv.NewClerkAPI(t), ada: people[0], bob: people[1],
	}
	r.Users.Watch(r.History.Record)
	r.ada.Email, r.bob.Email = adaAddress, bobAddress
	r.fake.Put(r.ada, r.bob)
	r.box = inbox.New(inbox.Options{DB: db, Log: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	var err error
	r.api, err = clerk.NewAPI(clerk.APIOptions{SecretKey: testenv.ClerkKey, URL: r.fake.URL, Share: 1})
	if err = errors.Join(err, r.Users.Setup(t.Context()), r.Inbox.Setup(t.Context())); err != nil {
		t.Fatal(err)
	}
	return r
}

// fill makes everything that clerksync can keep of a user.
func (r rig) fill(t *testing.T, u testenv.ClerkUser) {
	t.Helper()
	r.write(t, u)
	_, err := r.db.Database.Collection(r.app.Collection).UpdateOne(t.Context(), doc{r.app.Map.Key: u.ID},
		doc{"$set": doc{"plan": "gold", "bio": "I & you <" + u.Email + ">"}})
	if err != nil {
		t.Fatal(err)
	}
	who := "msg_" + u.FirstName + u.LastName[len(u.LastName)-1:]
	for id, e := range map[string]struct{ name, data string }{
		who + "_new":     {"clerk/user.created", string(u.JSON())},
		who + "_wrapped": {"clerk/user.updated", `{"data":` + string(u.JSON()) + `,"headers":{}}`},
		who + "_session": {"clerk/session.created", `{"id":"sess_1","user_id":"` + u.ID + `"}`},
		who + "_member": {
			"clerk/organizationMembership.created",
			`{"id":"orgmem_1","public_user_data":{"identifier":"` + u.Email + `","user_id":"` + u.ID + `"}}`,
		},
	} {
		r.insert(t, doc{
			"_id": id, "name": e.name, "data": e.data, "ts": int64(1767603600000), "sends": 1,
			"received_at": time.Now(), "due_at": time.Now(), "give_up_at": time.Now(),
		})
	}
	gone := `{"id":"` + u.ID + `","object":"user","deleted":true}`
	for id, e := range map[string]struct{ name, data string }{
		who + "_odd":     {"clerk/user.updated", `{"id":"` + u.ID + `","email_addresses":"` + u.Email + `"}`},
		who + "_dropped": {"clerk/user.updated", string(u.JSON())},
		who + "_new:crm": {"clerksync/replay.crm", string(u.JSON())},
		who + "_gone":    {"clerk/user.deleted", gone},
	} {
		r.fail(t, id, e.name, e.data)
	}
	if err := r.Inbox.Drop(t.Context(), who+"_dropped"); err != nil {
		t.Fatal(err)
	}
	claim, err := r.Welcomes.Claim(t.Context(), u.ID, "01J")
	if err = errors.Join(err, r.Welcomes.Done(t.Context(), claim)); err != nil {
		t.Fatal(err)
	}
}

func (r rig) write(t *testing.T, u testenv.ClerkUser) store.Outcome {
	t.Helper()
	user, err := clerk.ParseUser(u.JSON())
	if err != nil {
		t.Fatal(err)
	}
	return testenv.Write(t, r.Users, store.Write{User: user, EventTime: store.EventTime{Clerk: user.ChangedAt}})
}

func (r rig) insert(t *testing.T, d doc) {
	t.Helper()
	if _, err := r.db.Collection("clerksync_inbox").InsertOne(t.Context(), d); err != nil {
		t.Fatal(err)
	}
}

func (r rig) fail(t *testing.T, id, name, data string) {
	t.Helper()
	e := inbox.Event{ID: id, Name: name, Data: json.RawMessage(data), TS: 1767603600000}
	if err := r.box.Fail(t.Context(), e, inbox.Failure{Function: "app-x", RunID: "01J", Error: "why"}); err != nil {
		t.Fatal(err)
	}
}

// state saves what reconcile keeps of buried users.
func (r rig) state(t *testing.T, id string) {
	t.Helper()
	for name, v := range map[string]doc{
		"reconcile_full": {"runs": []doc{
			{"id": "a", "started_at": time.UnixMilli(1767603600000), "buried": []string{"user_other", id}},
			{"id": "b", "started_at": time.UnixMilli(0), "error": `write user "` + id + `": no`},
			{"id": "c", "started_at": time.UnixMilli(0), "ended_at": time.UnixMilli(1)},
		}},
		"backfill": {"phase": "listing", "next": "20 1767603600000 " + id, "listed": 20},
	} {
		if err := r.State.Save(t.Context(), name, v); err != nil {
			t.Fatal(err)
		}
	}
}

// contain returns the ids of all documents in which a text stands, with the names of their collections.
func (r rig) contain(t *testing.T, text string) (found []string) {
	t.Helper()
	names, err := r.db.ListCollectionNames(t.Context(), doc{})
	if err != nil { // the database in memory cannot list them
		names = []string{
			r.app.Collection, "clerksync_deleted_users", "clerksync_inbox", "clerksync_welcome_mails",
			"clerksync_runs", "clerksync_state", "clerksync_history",
		}
	}
	for _, name := range names {
		var docs []doc
		cur, err := r.db.Collection(name).Find(t.Context(), doc{})
		if err == nil {
			err = cur.All(t.Context(), &docs)
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range docs {
			if strings.Contains(fmt.Sprint(d), text) {
				id, _ := d["_id"].(string) // or it is an ObjectID
				found = append(found, name+" "+id)
			}
		}
	}
	slices.Sort(found)
	return found
}

// erase erases a user and returns what it says that it removed.
func (r rig) erase(t *testing.T, id string) (person.Left, []string, error) {
	t.Helper()
	var removed []string
	e := person.Erase{
		Records: r.Records, API: r.api, Watch: time.Millisecond,
		Removed: func(what string) { removed = append(removed, what) },
	}
	left, err := e.Run(t.Context(), id)
	return left, removed, err
}

// TestErase: after it the database has the id in the tombstone alone, and the address nowhere; all that is of somebody
// else is as before. It may be done again.
func TestErase(t *testing.T) {
	t.Parallel()
	eachMap(t, func(t *testing.T, r rig) {
		r.fill(t, r.ada)
		r.fill(t, r.bob)
		r.state(t, r.ada.ID)
		before := r.contain(t, r.bob.ID)
		r.fake.Remove(r.ada.ID)

		left, removed, err := r.erase(t, r.ada.ID)
		want := []string{
			"the row", "4 waiting events", "4 dead letters", "the note of the welcome mail",
			"the history", "the id from the full run of 2026-01-05T09:00:00Z",
			"the id from the full run of 1970-01-01T00:00:00Z",
			"the id from the backfill that was cut off",
		}
		if d := cmp.Diff(want, removed); d != "" || err != nil {
			t.Fatalf("removed, %v (-want +got):\n%s", err, d)
		}
		if time.Since(left.DeletedAt) > time.Minute || left.Deletions != nil || left.Naming != nil {
			t.Errorf("left %+v", left)
		}
		if d := cmp.Diff([]string{"clerksync_deleted_users " + r.ada.ID}, r.contain(t, r.ada.ID)); d != "" {
			t.Errorf("the id (-want +got):\n%s", d)
		}
		if got := r.contain(t, adaAddress); got != nil {
			t.Errorf("the address is in %q", got)
		}
		if d := cmp.Diff(before, r.contain(t, r.bob.ID)); d != "" {
			t.Errorf("somebody else (-want +got):\n%s", d)
		}
		if got := r.contain(t, "user_other"); len(got) != 1 {
			t.Errorf("the other buried user is in %q", got)
		}

		again, removed, err := r.erase(t, r.ada.ID)
		if err != nil || removed != nil || !again.DeletedAt.Equal(left.DeletedAt) {
			t.Errorf("again: got %+v, removed %q, %v", again, removed, err)
		}
		if got := r.write(t, r.ada); got != store.Deleted {
			t.Errorf("an old event comes later: %s", got)
		}
	})
}

// TestEraseRefuses: nothing is removed of a user whom Clerk has, or may have, and nothing that is no user.
func TestEraseRefuses(t *testing.T) {
	t.Parallel()
	young := testenv.UserID(time.Now().Add(-time.Minute), 1)
	for name, tc := range map[string]struct {
		id   string
		fail int
		want error
	}{
		"Clerk has the user":    {want: person.ErrClerkHas},
		"a new id":              {id: young, want: person.ErrNewborn},
		"no id":                 {id: ""},
		"a shorter id":          {id: "user_2people"},
		"another thing's id":    {id: "sess_2people00000000000000000000"},
		"a path":                {id: "user_2people0000000000000000/../"},
		"Clerk does not answer": {fail: 418},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := setup(t, testenv.NewMemory().Connect(t, "test", nil, nil))
			r.fill(t, r.ada)
			if tc.id == "" && tc.want == nil && tc.fail == 0 {
				tc.id = "-"
			}
			if tc.id == "" {
				tc.id = r.ada.ID
			}
			r.fake.Fail = func(*http.Request) int { return tc.fail }
			before := r.contain(t, "")
			_, removed, err := r.erase(t, tc.id)
			if err == nil || tc.want != nil && !errors.Is(err, tc.want) || removed != nil {
				t.Errorf("got %v, removed %q, want %v", err, removed, tc.want)
			}
			if d := cmp.Diff(before, r.contain(t, "")); d != "" {
				t.Errorf("it has changed (-before +after):\n%s", d)
			}
		})
	}
}

// TestEraseLeaves: what functions still need to delete the user elsewhere stays, and what is about somebody else.
func TestEraseLeaves(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		r := setup(t, db)
		r.fake.Remove(r.ada.ID)
		gone := `{"id":"` + r.ada.ID + `","object":"user","deleted":true}`
		r.insert(t, doc{
			"_id": "msg_gone", "name": "clerk/user.deleted", "data": gone, "ts": int64(1), "sends": 0,
			"received_at": time.UnixMilli(1), "due_at": time.Now(), "give_up_at": time.Now(),
		})
		r.fail(t, "msg_gone:crm", "clerksync/replay.crm", gone)
		r.fail(t, "msg_gone:old", "clerksync/replay.old", gone)
		if err := r.Inbox.Drop(t.Context(), "msg_gone:old"); err != nil {
			t.Fatal(err)
		}
		r.fail(t, "msg_friend", "clerk/user.updated",
			`{"id":"`+r.bob.ID+`","public_metadata":{"user_id":"`+r.ada.ID+`"}}`)
		r.fail(t, "msg_org", "clerk/organization.created", `{"id":"org_1","created_by":"`+r.ada.ID+`"}`)
		e := inbox.Event{ID: "msg_taken", Name: "clerk/user.updated", Data: r.bob.JSON()}
		if err := r.box.Fail(t.Context(), e, inbox.Failure{Error: "taken by " + r.ada.ID}); err != nil {
			t.Fatal(err)
		}
		left, removed, err := r.erase(t, r.ada.ID)
		var ids []string
		for _, k := range left.Deletions {
			ids = append(ids, k.ID)
		}
		if d := cmp.Diff([]string{"msg_gone", "msg_gone:crm"}, ids); d != "" || err != nil {
			t.Errorf("deletions, %v (-want +got):\n%s", err, d)
		}
		if d := cmp.Diff([]string{"msg_friend", "msg_org", "msg_taken"}, left.Naming); d != "" {
			t.Errorf("naming (-want +got):\n%s", d)
		}
		if d := cmp.Diff([]string{"1 dead letter"}, removed); d != "" {
			t.Errorf("removed (-want +got):\n%s", d)
		}
	})
}

// TestEraseDamagedHistory: a history that a tool has damaged keeps nobody from being erased.
func TestEraseDamagedHistory(t *testing.T) {
	t.Parallel()
	r := setup(t, testenv.NewMemory().Connect(t, "test", nil, nil))
	r.fake.Remove(r.ada.ID)
	past := r.db.Collection("clerksync_history")
	if _, err := past.InsertOne(t.Context(), doc{"_id": r.ada.ID, "applied": "text"}); err != nil {
		t.Fatal(err)
	}
	var removed []string
	e := person.Erase{Records: r.Records, API: r.api, Removed: func(what string) { removed = append(removed, what) }}
	if _, err := e.Run(t.Context(), r.ada.ID); err != nil || !slices.Contains(removed, "the history") {
		t.Errorf("removed %q, %v", removed, err)
	}
	if got := r.contain(t, r.ada.ID); len(got) != 1 {
		t.Errorf("the id is in %q", got)
	}
}

// TestEraseLooksAgain: what a function that began before the tombstone notes after the first look is removed too, and
// an old tombstone needs no second look.
func TestEraseLooksAgain(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		age   time.Duration // of the tombstone
		waits int
	}{
		"old": {age: time.Hour}, "new": {waits: 1}, "by a clock that is ahead": {age: -time.Hour, waits: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := setup(t, testenv.NewMemory().Connect(t, "test", nil, nil))
			r.fake.Remove(r.ada.ID)
			_, err := r.db.Collection("clerksync_deleted_users").InsertOne(t.Context(),
				doc{"_id": r.ada.ID, "deleted_at": time.Now().Add(time.Minute - tc.age)}) // however busy the machine is
			if err != nil {
				t.Fatal(err)
			}
			var removed []string
			waits := 0
			e := person.Erase{
				Records: r.Records, API: r.api, Watch: 20 * time.Millisecond,
				Removed: func(what string) { removed = append(removed, what) },
				Waiting: func(d time.Duration) {
					if waits++; d != 20*time.Millisecond {
						t.Errorf("waits %s", d)
					}
					if _, err := r.Welcomes.Claim(t.Context(), r.ada.ID, "01J"); err != nil {
						t.Error(err)
					}
				},
			}
			if _, err := e.Run(t.Context(), r.ada.ID); err != nil || waits != tc.waits || len(removed) != tc.waits {
				t.Errorf("waited %d times, removed %q, %v", waits, removed, err)
			}
			if got := r.contain(t, r.ada.ID); len(got) != 1 {
				t.Errorf("the id is in %q", got)
			}
		})
	}
}

// TestExport: all that is kept is in it, as valid JSON, the fields of the app too; of the others nothing.
func TestExport(t *testing.T) {
	t.Parallel()
	eachMap(t, func(t *testing.T, r rig) {
		if _, err := r.Export(t.Context(), r.ada.ID); !errors.Is(err, person.ErrNothing) {
			t.Errorf("nothing: got %v", err)
		}
		r.fill(t, r.ada)
		r.fill(t, r.bob)
		r.state(t, r.ada.ID)
		r.fail(t, "msg_bad", "clerk/user.updated", `{"id":"`+r.ada.ID+`"`) // no JSON
		testenv.Delete(t, r.Users, r.ada.ID)
		_, err := r.db.Database.Collection(r.app.Collection).InsertOne(t.Context(),
			doc{"_id": r.ada.ID, r.app.Map.Key: r.ada.ID, "bonus": doc{"of": "A & B"}})
		if err != nil {
			t.Fatal(err)
		}
		text, err := r.Export(t.Context(), r.ada.ID)
		if err != nil {
			t.Fatal(err)
		}
		var got struct {
			UserID string `json:"user_id"`
			Row    map[string]any
			Ours   []string `json:"row_fields_of_clerksync"`
			Gone   string   `json:"deleted_at"`
			Events []struct {
				ID      string
				Name    string
				Data    any
				Failure *struct{ Error string }
			}
			Mail   map[string]any `json:"welcome_mail"`
			Runs   []string       `json:"named_in_reconcile"`
			Naming []string       `json:"named_in_events_of_others"`
		}
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatal(err)
		}
		row := map[string]any{"_id": r.ada.ID, r.app.Map.Key: r.ada.ID, "bonus": map[string]any{"of": "A & B"}}
		if d := cmp.Diff(row, got.Row); d != "" {
			t.Errorf("row (-want +got):\n%s", d)
		}
		want := map[string][]string{
			"users": {"_id", "email", "full_name", "profile_picture", "username", "clerk"},
			"members": {
				"clerkId", "name", "image", "email", "phone", "plan", "role", "isActive", "createdAt", "updatedAt",
				"clerk",
			},
			"people": {
				"auth_id", "email", "handle", "profile.name", "profile.first", "profile.avatar", "blocked",
				"joinedAt", "_sync",
			},
		}[r.app.Collection]
		if d := cmp.Diff(want, got.Ours); d != "" {
			t.Errorf("fields (-want +got):\n%s", d)
		}
		if len(got.Events) != 9 || len(got.Runs) != 3 || got.Mail["run_id"] != "01J" || got.Gone == "" ||
			got.Naming != nil {
			t.Errorf("got %s", text)
		}
		if strings.Contains(string(text), bobAddress) || !strings.Contains(string(text), adaAddress) ||
			!strings.Contains(string(text), "A & B") {
			t.Errorf("got %s", text)
		}
	})
}
