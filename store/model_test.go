package store_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"clerksync/clerk"
	"clerksync/internal/testenv"
	"clerksync/store"
)

// TestEveryInterleaving runs small cases of the tombstone protocol and of the race for a user name in every order in
// which the calls of three processes can come, and with every process killed at every call and started again.
func TestEveryInterleaving(t *testing.T) {
	t.Parallel()
	newer := func() store.Write { return of(ada(1_700_000_000_200, named("Ada King"))) }
	bob := func(u *clerk.User) { u.ID, u.Email = "user_bob", "ada@b.example" }
	mails := func(address string) func(*clerk.User) { return func(u *clerk.User) { u.Email = address } }
	gone := store.Write{User: clerk.User{ID: "user_ada"}, Deleted: true}
	removed := operation{gone}
	apply := func(u clerk.User) operation { return operation{of(u)} }
	for name, tc := range map[string]struct {
		before  []operation // have ended before
		ops     []operation
		crashes int    // of all processes together
		emails  bool   // the rows are shown with their addresses
		want    string // the rows
	}{
		"two writers and a deleter, no row yet": {
			ops: []operation{apply(ada(1_700_000_000_100)), {newer()}, removed}, want: "",
		},
		"two writers and a deleter, a row": {
			before: []operation{apply(ada(1))}, ops: []operation{apply(ada(1_700_000_000_100)), {newer()}, removed},
			want: "",
		},
		"two writers": {
			ops: []operation{apply(ada(1_700_000_000_100)), {newer()}}, crashes: 3, want: "user_ada: Ada King, ada",
		},
		"a writer and a deleter that are killed": {
			ops: []operation{{newer()}, removed}, crashes: 4, want: "",
		},
		"a writer and a deleter that are killed, a row": {
			before: []operation{apply(ada(1))}, ops: []operation{{newer()}, removed}, crashes: 4, want: "",
		},
		"two writers and a deleter that are killed": {
			ops: []operation{apply(ada(1_700_000_000_100)), {newer()}, removed}, crashes: 2, want: "",
		},
		"two deleters and a writer": {
			before: []operation{apply(ada(1))}, ops: []operation{removed, removed, {newer()}}, crashes: 2, want: "",
		},
		"two users race for a name": {
			ops: []operation{apply(ada(1)), apply(ada(1, bob))}, crashes: 2,
			want: "user_ada: Ada Lovelace, ada; user_bob: Ada Lovelace, ada-vnsrdg | user_ada: Ada Lovelace, " +
				"ada-mpxyko; user_bob: Ada Lovelace, ada",
		},
		"two users race for a name, and one of them changes": {
			ops: []operation{apply(ada(1)), apply(ada(1, bob)), apply(ada(2, bob, named("Bob")))},
			want: "user_ada: Ada Lovelace, ada; user_bob: Bob, ada-vnsrdg | user_ada: Ada Lovelace, ada-mpxyko; " +
				"user_bob: Bob, ada",
		},
		"two users race for a name, and the one that has it is deleted": {
			before: []operation{apply(ada(1))}, ops: []operation{
				removed, apply(ada(1, bob)), apply(ada(2, bob, named("Bob"))),
			},
			want: "user_bob: Bob, ada | user_bob: Bob, ada-vnsrdg",
		},
		"lists of two users that cross": {
			ops: []operation{
				{of(ada(1)), of(ada(1, bob))}, {of(ada(2, bob, named("Bob"))), of(ada(2, named("Ada King")))},
			},
			want: "user_ada: Ada King, ada; user_bob: Bob, ada-vnsrdg | user_ada: Ada King, ada-mpxyko; user_bob: " +
				"Bob, ada",
		},
		"a list of two users, and a deleter of one that is killed": {
			before: []operation{apply(ada(1, bob))}, ops: []operation{
				{newer(), of(ada(2, bob, named("Bob")))},
				removed,
			}, crashes: 2,
			want: "user_bob: Bob, ada",
		},
		"lists that write and delete": {
			ops:     []operation{{of(ada(1)), of(ada(2, bob, named("Bob")))}, {gone, of(ada(1, bob))}},
			crashes: 1, want: "user_bob: Bob, ada | user_bob: Bob, ada-vnsrdg",
		},
		"a list of five, one of them written by another meanwhile": {
			before: []operation{
				{of(ada(1)), of(ada(1, bob)), of(ada(1, third("c"))), of(ada(1, third("d"))), of(ada(1, third("e")))},
			},
			ops: []operation{
				{of(ada(2)), of(ada(2, bob)), of(ada(2, third("c"))), of(ada(2, third("d"))), of(ada(2, third("e")))},
				{newer(), of(ada(1, bob))},
			},
			want: "user_ada: Ada King, ada; user_bob: Ada Lovelace, ada-vnsrdg",
		},
		"an address goes to a new user": {
			before: []operation{apply(ada(1))},
			ops:    []operation{apply(ada(2, mails("new@a.example"))), apply(ada(1, bob, mails("ada@example.com")))},
			emails: true, crashes: 2, want: "user_ada: new@a.example; user_bob: ada@example.com",
		},
		"an address goes to a new user, its holder is deleted": {
			before: []operation{apply(ada(1))},
			ops:    []operation{removed, apply(ada(1, bob, mails("ada@example.com")))},
			emails: true, crashes: 2, want: "user_bob: ada@example.com",
		},
		"two users swap addresses": {
			before: []operation{apply(ada(1)), apply(ada(1, bob))},
			ops: []operation{
				apply(ada(2, mails(""))), apply(ada(2, bob, mails(""))),
				apply(ada(3, mails("ada@b.example"))), apply(ada(3, bob, mails("ada@example.com"))),
			},
			emails: true, want: "user_ada: ada@b.example; user_bob: ada@example.com",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testenv.EachApp(t, func(t *testing.T, app testenv.App) {
				t.Parallel()
				if tc.emails && !app.UniqueEmail {
					t.Skip("two documents may have one address")
				}
				crashes := tc.crashes
				switch {
				case app.Extra || testing.Short() && testenv.Race: // the race detector finds nothing more in a crash
					crashes = min(crashes, max(3-len(tc.ops), 0))
				case testing.Short() && len(tc.ops) > 2:
					crashes = min(crashes, 1)
				}
				m := newModel(t, app, tc.ops, crashes)
				m.explore(t, tc.before, func(schedule string) {
					var rows []string
					for _, id := range []string{"user_ada", "user_bob"} {
						r := m.lab.Row(t, id)
						switch {
						case r == nil:
						case tc.emails:
							rows = append(rows, id+": "+r.Text("email"))
						default:
							rows = append(rows, fmt.Sprintf("%s: %s, %s", id, r.Text(app.FullName), r.Text(app.Names)))
						}
					}
					got, ok := strings.Join(rows, "; "), false
					for want := range strings.SplitSeq(tc.want, " | ") {
						if app.Names == "" {
							want = names.ReplaceAllString(want, ", ")
						}
						ok = ok || got == want
					}
					if !ok {
						t.Fatalf("got %q, want %q after %s", got, tc.want, schedule)
					}
				})
				t.Logf("%d schedules, %d states", m.schedules, len(m.seen))
			})
		})
	}
}

// names finds the user names in what TestEveryInterleaving wants.
var names = regexp.MustCompile(`, ada[-a-z]*`)

// of is the write of a user by an event after all changes.
func of(u clerk.User) store.Write {
	return store.Write{User: u, EventTime: store.EventTime{Clerk: noon}}
}

func third(id string) func(*clerk.User) {
	return func(u *clerk.User) { u.ID, u.Username, u.Email = "user_"+id, "name-"+id, "ada@"+id+".example" }
}

// operation is a list of writes that is repeated until all have succeeded.
type operation []store.Write

func (o operation) do(ctx context.Context, s *store.Users) error {
	var errs []error
	for _, r := range s.Write(ctx, o, store.All) {
		errs = append(errs, r.Err)
	}
	return errors.Join(errs...)
}

// model explores what processes can do, one operation each.
type model struct {
	lab       *testenv.Lab
	users     []*store.Users
	ops       []operation
	crashes   int
	seen      map[string]bool
	schedules int
}

// choice is one of those that can be made next.
type choice struct {
	process int
	fault   testenv.Fault
}

func newModel(t *testing.T, app testenv.App, ops []operation, crashes int) *model {
	t.Helper()
	m := &model{lab: app.NewLab(t, len(ops)), ops: ops, crashes: crashes, seen: map[string]bool{}}
	for _, p := range m.lab.Processes {
		m.users = append(m.users, app.Users(t, p.DB))
	}
	return m
}

// explore calls check at the end of each schedule. A schedule is run from the start, by the choices of the one before
// up to the last that has an alternative; it ends early in a state that has been seen.
func (m *model) explore(t *testing.T, before []operation, check func(schedule string)) {
	t.Helper()
	var path []int // the choice taken at each point
	for {
		m.schedules++
		m.lab.Memory.Clear()
		for _, op := range before {
			if err := op.do(t.Context(), m.users[0]); err != nil {
				t.Fatal(err)
			}
		}
		counts, schedule := m.run(t, path)
		if schedule != "" {
			check(schedule)
		}
		for len(path) < len(counts) {
			path = append(path, 0)
		}
		path = path[:len(counts)]
		for len(path) > 0 && path[len(path)-1]+1 == counts[len(path)-1] {
			path = path[:len(path)-1]
		}
		if len(path) == 0 {
			return
		}
		path[len(path)-1]++
	}
}

// run makes the choices of path, and then the first of each. It returns how many there were at each point, and the
// schedule; "" if it has met a state that had been seen.
func (m *model) run(t *testing.T, path []int) (counts []int, schedule string) {
	t.Helper()
	crashes := 0
	restarts := make([]int, len(m.ops))
	start := func(i int) {
		ended, err := m.lab.Processes[i].Start(t.Context(), func(ctx context.Context) error {
			return m.ops[i].do(ctx, m.users[i])
		})
		if ended {
			t.Fatalf("process %d ended without a call: %v", i, err)
		}
	}
	for i := range m.ops {
		start(i)
	}
	var log strings.Builder
	for {
		var choices []choice
		for i, p := range m.lab.Processes {
			if !p.Waiting() {
				continue
			}
			choices = append(choices, choice{i, testenv.None})
			if crashes < m.crashes {
				choices = append(choices, choice{i, testenv.KilledBefore}, choice{i, testenv.KilledAfter})
			}
		}
		if len(choices) == 0 {
			return counts, log.String()
		}
		taken := 0
		if n := len(counts); n < len(path) {
			taken = path[n]
		} else if state := fmt.Sprint(m.lab.State(), crashes); m.seen[state] {
			for _, p := range m.lab.Processes {
				p.Kill()
			}
			return counts, ""
		} else {
			m.seen[state] = true
		}
		counts = append(counts, len(choices))
		c := choices[taken]
		fmt.Fprintf(&log, "%d %s; ", c.process, c.fault)
		ended, err := m.lab.Processes[c.process].Step(c.fault)
		if c.fault != testenv.None {
			crashes++
			if !ended {
				m.lab.Processes[c.process].Kill()
			}
			ended, err = true, errors.New("killed")
		}
		if ended && err != nil {
			if restarts[c.process]++; restarts[c.process] > 10 {
				t.Fatalf("process %d fails again and again: %v", c.process, err)
			}
			start(c.process)
		}
	}
}
