package store_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"clerksync/clerk"
	"clerksync/internal/testenv"
	"clerksync/store"
	"clerksync/store/database"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"
)

// answered is a write of what Clerk's API said at a time.
func answered(u clerk.User, at clerk.Millis) store.Write {
	return store.Write{User: u, EventTime: store.EventTime{Clerk: at - 1000}, AnsweredAt: at}
}

func writeIn(t *testing.T, s *store.Users, mode store.Mode, w store.Write) store.Result {
	t.Helper()
	r := s.Write(t.Context(), []store.Write{w}, mode)[0]
	if r.Err != nil {
		t.Fatal(r.Err)
	}
	return r
}

// TestLateOlderWebhookWinsOverWhatWasCompared: a row had A, Clerk changed to B and back to A, and the last webhook was
// lost. Reconcile found the row equal and left its version old, so that the late B won and stayed.
func TestLateOlderWebhookWinsOverWhatWasCompared(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		s := users(t, db)
		const t1, t2, t3 = noon, noon + 1000, noon + 2000
		testenv.Write(t, s, store.Write{User: ada(t1), EventTime: store.EventTime{Clerk: t1}})
		compared := answered(ada(t3), noon+60_000)
		if got := writeIn(t, s, store.Differing, compared); got.Outcome != store.Unchanged || len(got.Fields) > 0 {
			t.Errorf("compare: got %+v, want unchanged", got)
		}
		if got := testenv.Write(t, s, store.Write{
			User:      ada(t2, named("B")),
			EventTime: store.EventTime{Clerk: t2},
		}); got != store.Stale {
			t.Errorf("the late webhook: got %q, want stale", got)
		}
		if got := get(t, s, "user_ada").FullName; got != "Ada Lovelace" {
			t.Errorf("got %q, want A", got)
		}
	})
}

// TestNightWithoutChanges counts the writes of a comparison that finds nothing.
func TestNightWithoutChanges(t *testing.T) {
	t.Parallel()
	lab := testenv.NewLab(t, 1)
	p := lab.Processes[0]
	s := users(t, p.DB)
	bob := func(u *clerk.User) { u.ID = "user_bob" } // has Ada's user name with a suffix, and Clerk has none
	eve := func(u *clerk.User) { u.ID, u.Username = "user_eve", "ada" }
	list := func(at clerk.Millis) operation {
		return operation{answered(ada(noon), at), answered(ada(noon, bob), at), answered(ada(noon, eve), at)}
	}
	if err := list(noon+1).do(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	before := lab.Memory.Docs("lab", "users")
	for night := range clerk.Millis(3) {
		var calls []string
		ended, err := p.Start(t.Context(), func(ctx context.Context) error {
			var errs []error
			for _, r := range s.Write(ctx, list(noon+86_400_000*night), store.Differing) {
				errs = append(errs, r.Err)
			}
			return errors.Join(errs...)
		})
		for !ended {
			calls = append(calls, p.Call())
			ended, err = p.Step(testenv.None)
		}
		if err != nil {
			t.Fatal(err)
		}
		// rows, the name that one has with a suffix, tombstones
		if d := cmp.Diff([]string{"find", "find", "find"}, calls); d != "" {
			t.Errorf("night %d: calls (-want +got):\n%s", night, d)
		}
	}
	if d := cmp.Diff(before, lab.Memory.Docs("lab", "users")); d != "" {
		t.Errorf("rows have changed (-before +after):\n%s", d)
	}
}

// TestVersionFromTheFuture: one time from the future in a user made the row deaf for ever, also for reconcile.
func TestVersionFromTheFuture(t *testing.T) {
	t.Parallel()
	const year2200 clerk.Millis = 7_258_118_400_000
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		s := users(t, db)
		for name, source := range map[string]func(u clerk.User, at clerk.Millis) store.Write{
			"a webhook": func(u clerk.User, at clerk.Millis) store.Write {
				return store.Write{User: u, EventTime: store.EventTime{Clerk: at}}
			},
			"Inngest's own": func(u clerk.User, at clerk.Millis) store.Write {
				return store.Write{User: u, EventTime: store.EventTime{Arrived: at}}
			},
			"Clerk's API": answered,
			"an event in whole seconds": func(u clerk.User, at clerk.Millis) store.Write {
				return store.Write{User: u, EventTime: store.EventTime{Clerk: at / 1000 * 1000}}
			},
		} {
			id := func(u *clerk.User) { u.ID = "user_" + name }
			w := source(ada(year2200, id), noon+5)
			for range 2 { // a retry makes the same version
				testenv.Write(t, s, w)
				if version := get(t, s, "user_"+name).Clerk.Version; version[:10] != "1800000000" {
					t.Errorf("%s: got version %s, want none newer than the event", name, version)
				}
			}
			if got := testenv.Write(t, s, source(ada(noon+2000, id, named("Ada King")),
				noon+2005)); got != store.Updated {
				t.Errorf("%s: the next event: got %q, want updated", name, got)
			}
		}
	})
}

// TestEventsOfOneSecond: payloads whose times are whole seconds keep what order their users' own times give.
func TestEventsOfOneSecond(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		s := users(t, db)
		testenv.Write(t, s, store.Write{
			User: ada(noon+700, named("Ada King")), EventTime: store.EventTime{Clerk: noon},
		})
		if got := testenv.Write(t, s, store.Write{
			User:      ada(noon + 300),
			EventTime: store.EventTime{Clerk: noon},
		}); got != store.Stale {
			t.Errorf("got %q, want stale", got)
		}
	})
}

// TestOverrule: what only Clerk's API can mend, and only if the row is still the one that was seen.
func TestOverrule(t *testing.T) {
	t.Parallel()
	const minute clerk.Millis = 60_000
	now := noon + 60*minute
	version := func(changed, event clerk.Millis) string { return fmt.Sprintf("%013d.%013d", changed, event) }
	for name, tc := range map[string]struct {
		row, was string
		user     clerk.User
		want     store.Outcome
		version  string
	}{
		"from the future": {
			version(now+11*minute, noon), "", ada(noon, named("Ada King")), store.Updated, version(noon, now-1000),
		},
		"from the future, equal values": {
			version(now+11*minute, noon), "", ada(noon), store.Unchanged, version(noon, now-1000),
		},
		"nine minutes ahead is two clocks": {
			version(now+9*minute, now), "", ada(noon, named("Ada King")), store.Stale, version(now+9*minute, now),
		},
		"the newest time went down": {
			version(noon+5, noon+6), "", ada(noon, named("Ada King")), store.Updated, version(noon+5, now-1000),
		},
		"went down, but the event is too young": {
			version(noon+5, now-9*minute), "", ada(noon, named("Ada King")), store.Stale, version(noon+5, now-9*minute),
		},
		"the row is another by now": {
			version(noon+5, noon+6), version(noon+4, noon+6), ada(noon, named("Ada King")), store.Stale,
			version(noon+5, noon+6),
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
				s := users(t, db)
				write(t, s, ada(1), 1)
				set := bson.D{{Key: "$set", Value: bson.D{{Key: "clerk.version", Value: tc.row}}}}
				if _, err := db.Collection("users").UpdateByID(t.Context(), "user_ada", set); err != nil {
					t.Fatal(err)
				}
				if r := writeIn(t, s, store.Differing, answered(tc.user, now)); r.Outcome != store.Stale ||
					r.Version != tc.row {
					t.Errorf("without: got %+v, want stale", r)
				}
				was := tc.was
				if was == "" {
					was = tc.row
				}
				o, err := s.Overrule(t.Context(), answered(tc.user, now), was)
				if err != nil || o != tc.want {
					t.Errorf("got %q, %v, want %q", o, err, tc.want)
				}
				if got := get(t, s, "user_ada").Clerk.Version; got != tc.version {
					t.Errorf("got version %s, want %s", got, tc.version)
				}
			})
		})
	}
}

// TestSuffixStaysWhenTheNameIsFree: a comparison takes off the suffix of a user name that Clerk gave once nobody else
// has the name.
func TestSuffixStaysWhenTheNameIsFree(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		s := users(t, db)
		own := func(u *clerk.User) { u.Username = "ada" }
		bob := func(u *clerk.User) { u.ID = "user_bob" }
		write(t, s, ada(noon, own), 1)
		write(t, s, ada(noon, own, bob), 1)
		compare := func(want store.Outcome, name string) {
			t.Helper()
			w := answered(ada(noon, own, bob), noon+10_000)
			for _, mode := range []store.Mode{store.DryRun, store.Differing} {
				if got := writeIn(t, s, mode, w); got.Outcome != want {
					t.Errorf("got %+v, want %s", got, want)
				}
			}
			if got := get(t, s, "user_bob").Username; (got == "ada") != (name == "ada") {
				t.Errorf("got %q, want %s", got, name)
			}
		}
		compare(store.Unchanged, "one with a suffix")
		testenv.Delete(t, s, "user_ada")
		compare(store.Updated, "ada")
		compare(store.Unchanged, "ada")
	})
}
