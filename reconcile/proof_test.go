package reconcile_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"clerksync/clerk"
	"clerksync/internal/testenv"
	"clerksync/reconcile"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

// TestProof: what the runs of the tiers prove, and what they do not.
func TestProof(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	ago := func(minutes int) time.Time { return now.Add(-time.Duration(minutes) * time.Minute) }
	run := func(began, seenSince int) reconcile.Run { // in minutes ago
		r := reconcile.Run{StartedAt: ago(began), EndedAt: ago(began - 1), Map: "map"}
		if seenSince != 0 {
			r.SeenSince = ago(seenSince)
		}
		return r
	}
	failed, braked, foreign, ahead := run(3, 100), run(10, 0), run(3, 100), run(-2, 100)
	failed.Found.Failed, braked.EndedAt, braked.Error, foreign.Map = 1, time.Time{}, "the brake", "another map"
	type runs = map[reconcile.Tier][]reconcile.Run
	for name, tc := range map[string]struct {
		runs     runs
		backfill reconcile.Run
		want     reconcile.Proof
	}{
		"nothing has run":    {},
		"a backfill alone":   {nil, run(20, 0), reconcile.Proof{Changes: ago(21), Listed: ago(21)}},
		"a recent run alone": {runs{reconcile.Recent: {run(3, 60)}}, reconcile.Run{}, reconcile.Proof{}},
		"a recent run after it": {
			runs{reconcile.Recent: {run(3, 60)}}, run(20, 0), reconcile.Proof{Changes: ago(4), Listed: ago(21)},
		},
		"with a gap between": {
			runs{reconcile.Recent: {run(3, 60)}}, run(61, 0), reconcile.Proof{Changes: ago(62), Listed: ago(62)},
		},
		"a run of an older version": {
			runs{reconcile.Recent: {run(3, 0)}}, run(20, 0), reconcile.Proof{Changes: ago(21), Listed: ago(21)},
		},
		"users who could not be written": {
			runs{reconcile.Recent: {failed, run(8, 60)}, reconcile.Full: {failed, run(40, 0)}},
			run(50, 0),
			reconcile.Proof{Changes: ago(9), Deletions: ago(13), All: ago(50), Listed: ago(41)},
		},
		"another map": {runs{reconcile.Recent: {foreign}, reconcile.Full: {foreign}}, foreign, reconcile.Proof{}},
		"the brake": {
			runs{reconcile.Absent: {braked, run(70, 0)}}, reconcile.Run{}, reconcile.Proof{Deletions: ago(80)},
		},
		"a clock that is ahead": {
			runs{reconcile.Recent: {ahead, run(8, 60)}, reconcile.Absent: {ahead}},
			run(20, 0),
			reconcile.Proof{Changes: ago(9), Listed: ago(21)},
		},
		"all tiers": {
			runs{reconcile.Recent: {run(3, 900)}, reconcile.Absent: {run(30, 0)}, reconcile.Full: {run(500, 0)}},
			reconcile.Run{},
			reconcile.Proof{Changes: ago(4), Deletions: ago(40), All: ago(510), Listed: ago(501)},
		},
		"a full run is later than the absent one": {
			runs{reconcile.Absent: {run(30, 0)}, reconcile.Full: {run(10, 0)}},
			reconcile.Run{},
			reconcile.Proof{Changes: ago(11), Deletions: ago(20), All: ago(20), Listed: ago(11)},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := reconcile.Status{Runs: tc.runs, Backfill: tc.backfill}.Proof("map", now)
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

// TestLastGoodRunIsKept: however many runs fail, the next one that can work looks back to the last that succeeded. Ten
// failed runs made it look back an hour only, and so it missed what had changed before.
func TestLastGoodRunIsKept(t *testing.T) {
	t.Parallel()
	db := testenv.NewMemory().Connect(t, "test", nil, nil)
	fake := testenv.NewClerkAPI(t)
	r, people := reconciler(t, db, fake, 3)
	if _, _, err := run(t, r, reconcile.Recent); err != nil {
		t.Fatal(err)
	}
	// Three hours pass, in which Clerk's API does not answer.
	age(t, r, reconcile.Recent, 3*time.Hour)
	people[1].LastName, people[1].Updated = "Byron", time.Now().Add(-2*time.Hour).UnixMilli()
	fake.Put(people[1])
	fake.SetKey("sk_live_" + "another")
	for range 12 {
		if _, _, err := run(t, r, reconcile.Recent); !errors.Is(err, clerk.ErrKey) {
			t.Fatal(err)
		}
	}
	fake.SetKey(testenv.ClerkKey)
	if found, _, err := run(t, r, reconcile.Recent); err != nil || found.Stale != 1 {
		t.Errorf("got %+v, %v, want the change of two hours ago", found, err)
	}
}

// TestRunOfWrongClock: a run of a machine whose clock was an hour ahead does not make the next ones look back to that
// time only. They missed what changed since, and said that they had seen it.
func TestRunOfWrongClock(t *testing.T) {
	t.Parallel()
	db := testenv.NewMemory().Connect(t, "test", nil, nil)
	fake := testenv.NewClerkAPI(t)
	r, people := reconciler(t, db, fake, 3)
	if _, _, err := run(t, r, reconcile.Recent); err != nil {
		t.Fatal(err)
	}
	age(t, r, reconcile.Recent, -time.Hour)
	people[1].LastName, people[1].Updated = "Byron", time.Now().Add(-2*time.Minute).UnixMilli()
	fake.Put(people[1])
	if found, _, err := run(t, r, reconcile.Recent); err != nil || found.Stale != 1 {
		t.Errorf("got %+v, %v, want the change of two minutes ago", found, err)
	}
}

// TestMoreChangesThanFitOnAPage: if more users change all the time than a page has, a run ends all the same, because no
// other tier can run meanwhile. But users may have moved from page to page before it, so it proves nothing.
func TestMoreChangesThanFitOnAPage(t *testing.T) {
	t.Parallel()
	db := testenv.NewMemory().Connect(t, "test", nil, nil)
	fake := testenv.NewClerkAPI(t)
	r, people := reconciler(t, db, fake, 60)
	lists := 0
	fake.Fail = func(req *http.Request) int {
		if lists++; lists > 100 {
			return http.StatusBadRequest
		}
		for i := range people {
			people[i].Updated = time.Now().UnixMilli()
		}
		fake.Put(people...)
		return 0
	}
	if _, _, err := run(t, r, reconcile.Recent); err != nil {
		t.Fatalf("after %d requests: %v", lists, err)
	}
	s, err := reconcile.ReadStatus(t.Context(), r.State)
	if p := s.Proof(r.Users.MapID(), time.Now()); err != nil || !p.Changes.Equal(p.Listed) {
		t.Errorf("got %+v, %v, want no proof of changes", p, err)
	}
	fake.Fail = nil
	for i := range people {
		people[i].Updated = time.Now().Add(-10 * time.Minute).UnixMilli()
	}
	fake.Put(people...)
	if _, _, err := run(t, r, reconcile.Recent); err != nil {
		t.Fatal(err)
	}
	s, err = reconcile.ReadStatus(t.Context(), r.State)
	if p := s.Proof(r.Users.MapID(), time.Now()); err != nil || !p.Changes.After(p.Listed) {
		t.Errorf("got %+v, %v, want that the next run proves all, for it has no gap before it", p, err)
	}
}

// TestSilenceOfYoungChanges: a change that a run repaired when it was younger than a minute is counted by the next run,
// unless a webhook has come. A recent tier that ran every minute would never have found that none come.
func TestSilenceOfYoungChanges(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		webhook bool
		want    int
	}{"no webhook": {false, 1}, "its webhook came later": {true, 0}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := testenv.NewMemory().Connect(t, "test", nil, nil)
			fake := testenv.NewClerkAPI(t)
			r, people := reconciler(t, db, fake, 3)
			people[1].LastName, people[1].Updated = "Byron", time.Now().Add(-2*time.Second).UnixMilli()
			fake.Put(people[1])
			if found, _, err := run(t, r, reconcile.Recent); err != nil || found != (reconcile.Found{}) {
				t.Errorf("got %+v, %v, want nothing that counts", found, err)
			}
			if tc.webhook {
				watch := reconcile.NewWatch(r.State, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
				watch.Webhook(time.Now())
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				watch.Run(ctx)
			}
			for range 2 { // only once
				if _, _, err := run(t, r, reconcile.Recent); err != nil {
					t.Fatal(err)
				}
			}
			s, err := reconcile.ReadStatus(t.Context(), r.State)
			if err != nil || s.Silence.Changed != tc.want {
				t.Errorf("got %+v, %v, want %d", s.Silence, err, tc.want)
			}
		})
	}
}

// age makes the saved runs of a tier older.
func age(t *testing.T, r *reconcile.Reconcile, tier reconcile.Tier, by time.Duration) {
	t.Helper()
	var saved struct{ Runs []reconcile.Run }
	if _, err := r.State.Load(t.Context(), "reconcile_"+string(tier), &saved); err != nil {
		t.Fatal(err)
	}
	for i := range saved.Runs {
		run := &saved.Runs[i]
		run.StartedAt, run.EndedAt = run.StartedAt.Add(-by), run.EndedAt.Add(-by)
		run.SeenSince = run.SeenSince.Add(-by)
	}
	if err := r.State.Save(t.Context(), "reconcile_"+string(tier), saved); err != nil {
		t.Fatal(err)
	}
}

// TestOlderChangeOfWhoChangesAgain: whoever changes again in the last minute is repaired too: their older change may be
// what no webhook has brought. But only older changes count as not brought.
func TestOlderChangeOfWhoChangesAgain(t *testing.T) {
	t.Parallel()
	db := testenv.NewMemory().Connect(t, "test", nil, nil)
	fake := testenv.NewClerkAPI(t)
	r, people := reconciler(t, db, fake, 3)
	people[1].LastName, people[1].Updated = "Byron", time.Now().Add(-2*time.Second).UnixMilli()
	fake.Put(people[1])
	found, _, err := run(t, r, reconcile.Recent)
	if err != nil || found != (reconcile.Found{}) {
		t.Errorf("got %+v, %v, want nothing that counts", found, err)
	}
	if row, err := testenv.Get(t, r.Users, people[1].ID); err != nil || row.FullName != "Ada Byron" {
		t.Errorf("got %q, %v", row.FullName, err)
	}
	s, err := reconcile.ReadStatus(t.Context(), r.State)
	if err != nil || s.Silence.Changed != 0 {
		t.Errorf("got %+v, %v, want no silence", s.Silence, err)
	}
}

// TestWhoChangesWhileTheListIsRead: a user of the last page who changes while the first one is read is on no page any
// more, and is found all the same.
func TestWhoChangesWhileTheListIsRead(t *testing.T) {
	t.Parallel()
	db := testenv.NewMemory().Connect(t, "test", nil, nil)
	fake := testenv.NewClerkAPI(t)
	r, people := reconciler(t, db, fake, 60)
	for i := range people {
		people[i].LastName, people[i].Updated = "Byron", time.Now().Add(-time.Duration(300+i)*time.Second).UnixMilli()
	}
	fake.Put(people...)
	late := people[59]
	late.Updated = time.Now().UnixMilli()
	var lists atomic.Int32
	fake.Fail = func(req *http.Request) int {
		if req.URL.Path == "/v1/users" && lists.Add(1) == 2 { // the first page is read
			fake.Put(late)
		}
		return 0
	}
	if _, _, err := run(t, r, reconcile.Recent); err != nil {
		t.Fatal(err)
	}
	for _, p := range people {
		if row, err := testenv.Get(t, r.Users, p.ID); err != nil || row.FullName != p.FirstName+" Byron" {
			t.Errorf("%s: got %q, %v", p.ID, row.FullName, err)
		}
	}
}

// TestWhoCouldNotBeWrittenIsTriedAgain: the recent tier tries users whom it could not write again, and until it has
// written them, its runs prove nothing.
func TestWhoCouldNotBeWrittenIsTriedAgain(t *testing.T) {
	t.Parallel()
	db := testenv.NewMemory().Connect(t, "test", nil, nil)
	fake := testenv.NewClerkAPI(t)
	r, people := reconciler(t, db, fake, 3)
	proof := func() reconcile.Proof {
		t.Helper()
		s, err := reconcile.ReadStatus(t.Context(), r.State)
		if err != nil {
			t.Fatal(err)
		}
		return s.Proof(r.Users.MapID(), time.Now())
	}
	if p := proof(); p.Listed.IsZero() || !p.Changes.Equal(p.Listed) {
		t.Fatalf("after the backfill: %+v", p)
	}
	if _, _, err := run(t, r, reconcile.Recent); err != nil {
		t.Fatal(err)
	}
	first := proof()
	if !first.Changes.After(first.Listed) {
		t.Errorf("the recent run proves nothing: %+v", first)
	}
	age(t, r, reconcile.Recent, 2*time.Hour)
	first = proof()
	unique(t, db, "email")
	insert(t, db, doc{"_id": "app-1", "email": "taken@mail.example"})
	people[1].Email, people[1].Updated = "taken@mail.example", time.Now().Add(-90*time.Minute).UnixMilli()
	fake.Put(people[1])
	for range 2 {
		found, _, err := run(t, r, reconcile.Recent)
		if err != nil || found.Failed != 1 {
			t.Errorf("got %+v, %v, want that the user fails", found, err)
		}
		if d := cmp.Diff(first, proof()); d != "" {
			t.Errorf("a run that could not write everybody proves something:\n%s", d)
		}
	}
	if _, err := db.Collection("users").DeleteOne(t.Context(), doc{"_id": "app-1"}); err != nil {
		t.Fatal(err)
	}
	if found, _, err := run(t, r, reconcile.Recent); err != nil || found.Failed != 0 {
		t.Errorf("got %+v, %v", found, err)
	}
	if row, err := testenv.Get(t, r.Users, people[1].ID); err != nil || row.Email != people[1].Email {
		t.Errorf("got %+v, %v, want it written", row, err)
	}
	if p := proof(); !p.Changes.After(first.Changes) {
		t.Errorf("got %+v, want more than %+v", p, first)
	}
}

// TestOtherInstanceProvesNothing: when the operator changes the Clerk instance, the runs were about other users.
func TestOtherInstanceProvesNothing(t *testing.T) {
	t.Parallel()
	db := testenv.NewMemory().Connect(t, "test", nil, nil)
	fake := testenv.NewClerkAPI(t)
	r, _ := reconciler(t, db, fake, 3)
	for _, tier := range reconcile.Tiers() {
		if _, _, err := run(t, r, tier); err != nil {
			t.Fatal(err)
		}
	}
	fake.Instance, r.InstanceID = "ins_another", "ins_another"
	if err := reconcile.CheckInstance(t.Context(), r.API, r.State, r.InstanceID, true); err != nil {
		t.Fatal(err)
	}
	s, err := reconcile.ReadStatus(t.Context(), r.State)
	if p := s.Proof(r.Users.MapID(), time.Now()); err != nil || p != (reconcile.Proof{}) {
		t.Errorf("got %+v, %v, want nothing", p, err)
	}
}

// TestOtherInstanceBeginsAnew: a backfill does not go on where the backfill of another Clerk instance was cut off. It
// left out as many users as that one had written.
func TestOtherInstanceBeginsAnew(t *testing.T) {
	t.Parallel()
	db := testenv.NewMemory().Connect(t, "test", nil, nil)
	fake := testenv.NewClerkAPI(t)
	people := testenv.People(80)
	fake.Put(people[40:]...)
	r := backfiller(t, db, fake)
	for p, err := reconcile.Start(reconcile.Backfill, "cut off"), error(nil); p.Listed == 0; {
		if p, err = r.Step(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range people[40:] {
		fake.Remove(p.ID)
	}
	fake.Put(people[:40]...)
	fake.Instance, r.InstanceID = "ins_another", "ins_another"
	if _, err := backfill(t.Context(), r); err != nil {
		t.Error(err)
	}
	for _, p := range people[:40] {
		if _, err := testenv.Get(t, r.Users, p.ID); err != nil {
			t.Errorf("%s: %v", p.ID, err)
		}
	}
}

// TestRunsOfAnotherMap: a run does not continue the chain of runs that wrote by another map, whose rows lack a field.
func TestRunsOfAnotherMap(t *testing.T) {
	t.Parallel()
	db := testenv.NewMemory().Connect(t, "test", nil, nil)
	fake := testenv.NewClerkAPI(t)
	r, _ := reconciler(t, db, fake, 3)
	for range 2 {
		age(t, r, reconcile.Recent, 2*time.Hour)
		if _, _, err := run(t, r, reconcile.Recent); err != nil {
			t.Fatal(err)
		}
	}
	age(t, r, reconcile.Backfill, 20*time.Minute)
	var saved struct{ Runs []reconcile.Run }
	if _, err := r.State.Load(t.Context(), "reconcile_recent", &saved); err != nil {
		t.Fatal(err)
	}
	for i := range saved.Runs {
		saved.Runs[i].Map = "another"
	}
	if err := r.State.Save(t.Context(), "reconcile_recent", saved); err != nil {
		t.Fatal(err)
	}
	if _, _, err := run(t, r, reconcile.Recent); err != nil {
		t.Fatal(err)
	}
	s, err := reconcile.ReadStatus(t.Context(), r.State)
	if p := s.Proof(r.Users.MapID(), time.Now()); err != nil || !p.Changes.Equal(p.Listed) {
		t.Errorf("got %+v, %v, want that nothing after the backfill is proven", p, err)
	}
}

// TestYoungUserWhoCannotBeWritten: a run proves nothing either if that user has changed in the last minute.
func TestYoungUserWhoCannotBeWritten(t *testing.T) {
	t.Parallel()
	db := testenv.NewMemory().Connect(t, "test", nil, nil)
	fake := testenv.NewClerkAPI(t)
	r, people := reconciler(t, db, fake, 3)
	unique(t, db, "email")
	insert(t, db, doc{"_id": "app-1", "email": "taken@mail.example"})
	people[1].Email, people[1].Updated = "taken@mail.example", time.Now().UnixMilli()
	fake.Put(people[1])
	if found, _, err := run(t, r, reconcile.Recent); err != nil || found.Failed != 1 {
		t.Errorf("got %+v, %v, want that the user fails", found, err)
	}
}

// TestBackfillByTwoMaps: a backfill that another map began proves nothing, because the rows of its first part are that
// map's.
func TestBackfillByTwoMaps(t *testing.T) {
	t.Parallel()
	db := testenv.NewMemory().Connect(t, "test", nil, nil)
	fake := testenv.NewClerkAPI(t)
	fake.Put(testenv.People(60)...)
	r := backfiller(t, db, fake)
	for p, err := reconcile.Start(reconcile.Backfill, "cut off"), error(nil); p.Listed == 0; {
		if p, err = r.Step(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	var at reconcile.Progress
	if _, err := r.State.Load(t.Context(), "backfill", &at); err != nil {
		t.Fatal(err)
	}
	at.Map = "another"
	if err := r.State.Save(t.Context(), "backfill", at); err != nil {
		t.Fatal(err)
	}
	if p, err := backfill(t.Context(), r); err != nil || p.Listed != 60 {
		t.Fatalf("got %+v, %v", p, err)
	}
	s, err := reconcile.ReadStatus(t.Context(), r.State)
	if p := s.Proof(r.Users.MapID(), time.Now()); err != nil || !p.Listed.IsZero() {
		t.Errorf("got %+v, %v, want no proof", p, err)
	}
}
