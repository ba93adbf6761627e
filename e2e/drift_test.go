package e2e_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"clerksync/clerk"
	"clerksync/internal/child"
	"clerksync/internal/testenv"
	"clerksync/store/database"
	"clerksync/store/embedded"
)

// TestBackfillAndReconcile: a backfill that is killed three times goes on where it was, and is complete in the end.
// Then one in 50 users is changed, removed or added, at Clerk or in the database, without any event. A reconcile finds
// and repairs all of that, and a second one finds nothing.
func TestBackfillAndReconcile(t *testing.T) {
	t.Parallel()
	endToEnd(t)
	fake := testenv.NewClerkAPI(t)
	const n = 200 * every
	people := testenv.People(n)
	fake.Put(people...)
	var answers atomic.Int64 // how many more there are: then Clerk keeps a run waiting, until it is killed
	fake.Fail = func(r *http.Request) int {
		if answers.Add(-1) < 0 {
			<-r.Context().Done()
		}
		return 0
	}
	dir := filepath.Join(t.TempDir(), "data")
	env := []string{
		"MONGODB_URI=embedded:" + dir,
		"CLERK_SECRET_KEY=" + testenv.ClerkKey, "CLERK_API_URL=" + fake.URL, "CLERK_RATE_SHARE=1",
		"RECONCILE_MAX_DELETE=2%", "CLERK_INSTANCE_ID=" + testenv.ClerkInstance,
	}
	var out bytes.Buffer
	command := func(args ...string) *child.Process {
		out.Reset()
		cmd := exec.CommandContext(t.Context(), programs.clerksync, args...)
		cmd.Env, cmd.Stdout, cmd.Stderr = env, &out, &out
		p, err := child.Start(cmd)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	for i := range 3 {
		answers.Store(6)
		cmd := command("backfill")
		until(t, "it has got on", patience, func() bool { return answers.Load() < 0 })
		kill(cmd)
		if went := strings.Contains(out.String(), "going on after"); went != (i > 0) {
			t.Errorf("run %d: got %s", i, &out)
		}
	}
	answers.Store(math.MaxInt64)
	for _, run := range []struct {
		args []string
		want string
	}{
		{[]string{"backfill"}, "10000 users: "},
		{
			[]string{"backfill", "--dry-run"},
			"10000 users (nothing was written): 0 created, 0 updated, 10000 unchanged, 0 stale, 0 deleted, 0 " +
				"failed",
		},
	} {
		if err := command(run.args...).Wait(); err != nil || !strings.Contains(out.String(), run.want) {
			t.Errorf("%v: %v, got %s, want %s", run.args, err, &out, run.want)
		}
	}

	disturb(t, dir, fake, people)
	const drift = "missing, 90 stale, 70 extra"
	for _, run := range []struct {
		args []string
		code int
		want string
	}{
		{
			[]string{"reconcile", "--dry-run"}, 2, "10000 users at Clerk, 10030 rows: 40 " + drift +
				" (nothing was written), 0 failed",
		},
		{[]string{"reconcile"}, 0, "10000 users at Clerk, 10030 rows: 40 " + drift + " (repaired), 0 failed"},
		{
			[]string{"reconcile"},
			0,
			"10000 users at Clerk, 10000 rows: 0 missing, 0 stale, 0 extra (repaired), 0 failed",
		},
	} {
		code := 0
		if exit, ok := errors.AsType[*exec.ExitError](command(run.args...).Wait()); ok {
			code = exit.ExitCode()
		}
		if code != run.code || !strings.Contains(out.String(), run.want) {
			t.Errorf("%v: exit status %d, want %d; got …%s, want %s", run.args, code, run.code,
				out.String()[max(0, out.Len()-300):], run.want)
		}
	}
}

// every is the number of users of which one is disturbed.
const every = 50

// disturb makes a drift of 200 rows without any event: 50 users are changed at Clerk and 40 in the database, 10 rows
// are removed and 40 added, and 30 users are deleted at Clerk and 30 made.
func disturb(t *testing.T, dir string, fake *testenv.ClerkAPI, people []testenv.ClerkUser) {
	t.Helper()
	engine, err := embedded.Start(t.Context(), dir, "127.0.0.1:0", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	db, err := database.Connect(t.Context(), engine.URI(), "clerksync")
	if err != nil {
		t.Fatal(err)
	}
	rows := db.Collection("users")
	fail := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	type doc map[string]any
	next := 0
	take := func(n int, do func(p testenv.ClerkUser)) {
		for i := range n { // spread over all
			do(people[(next+i)*every])
		}
		next += n
	}
	others := int64(0)
	other := func() string { // an id that nobody has
		others++
		return testenv.UserID(time.Unix(1_767_603_600, 0), others)
	}
	take(50, func(p testenv.ClerkUser) { p.FirstName = "Augusta"; fake.Put(p) })
	take(40, func(p testenv.ClerkUser) {
		_, err := rows.UpdateOne(t.Context(), doc{"_id": p.ID}, doc{
			"$set": doc{"full_name": "Nobody", "email": "nobody@x.example"},
		})
		fail(err)
	})
	take(10, func(p testenv.ClerkUser) { _, err := rows.DeleteOne(t.Context(), doc{"_id": p.ID}); fail(err) })
	take(30, func(p testenv.ClerkUser) { fake.Remove(p.ID); p.ID = other(); p.Created++; fake.Put(p) })
	for i := range 40 {
		state := doc{"version": "1767603600000.1767603600000"} // as of a row that clerksync has written
		_, err := rows.InsertOne(t.Context(), doc{
			"_id": other(), "username": fmt.Sprintf("ghost%d", i), "clerk": state,
		})
		fail(err)
	}
	fail(db.Close(t.Context()))
	fail(engine.Close())
}

// TestReconcileByCron: while webhooks arrive, the recent tier, which Inngest's cron starts, repairs what no webhook has
// brought. The absent tier removes a user whose deletion no webhook has brought. A key that is no longer accepted
// deletes nobody.
func TestReconcileByCron(t *testing.T) {
	t.Parallel()
	fake := testenv.NewClerkAPI(t)
	people := testenv.People(300)
	now := time.Now().Add(-20 * time.Minute).UnixMilli()
	for i := range people {
		people[i].Created, people[i].Updated = now+int64(i), now+int64(i)
	}
	fake.Put(people...)
	w := newWorld(t, options{env: []string{
		"CLERK_SECRET_KEY=" + testenv.ClerkKey, "CLERK_API_URL=" + fake.URL, "RECONCILE_RECENT_CRON=* * * * *",
		"RECONCILE_ABSENT_CRON=0 0 1 1 *",
	}})
	var histories []testenv.History
	for _, h := range testenv.Histories(t, rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0)), 40) {
		if h.Tie { // the API says when it was asked, and these lived before
			continue
		}
		histories = append(histories, h)
		if last := h.Webhooks[len(h.Webhooks)-1]; last.Type != clerk.UserDeleted {
			fake.Put(last.APIUser(t))
		}
	}
	for _, h := range histories {
		for _, hook := range h.Webhooks {
			w.deliver(hook)
		}
	}
	w.until("the cron has repaired all", func() bool {
		return w.row(people[0].ID) != nil && w.row(people[299].ID) != nil
	})
	w.drained()
	for _, d := range testenv.CheckAll(histories, w.row) {
		t.Error(d)
	}

	fake.Remove(people[17].ID, people[18].ID)
	w.invoke("reconcile-users-with-clerk-absent")
	w.until("the absent tier has removed them", func() bool {
		return w.row(people[17].ID) == nil && w.row(people[18].ID) == nil
	})

	fake.Remove(people[19].ID)
	fake.SetKey("sk_live_another")
	w.invoke("reconcile-users-with-clerk")
	w.until("the full tier has failed", func() bool { return w.log.count("the reconcile has failed") > 0 })
	if w.row(people[19].ID) == nil {
		t.Error("a key that is not accepted has deleted a user")
	}
}
