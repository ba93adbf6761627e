package replicas

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"clerksync/internal/testenv"
	"clerksync/store/database"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

const (
	settle = 5 * time.Second
	ourApp = "clerksync at http://inngest"
)

// fleet is some processes on one database with one Inngest, by a clock of the test's.
type fleet struct {
	t     *testing.T
	db    *database.DB
	now   time.Time
	alive map[string]*process // by name; its functions are named by the letters before its number
	lands func() time.Duration
	away  bool // the database
	late  []landing
	has   []string // which functions Inngest had, one after the other
}

type process struct {
	*Replicas
	functions string
	next      time.Time // when it takes its next turn
	registry  *prometheus.Registry
}

// landing is a registration on its way to Inngest.
type landing struct {
	at        time.Time
	functions string
}

func newFleet(t *testing.T, db *database.DB) *fleet {
	t.Helper()
	return &fleet{
		t: t, db: db, now: time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC), alive: map[string]*process{},
		lands: func() time.Duration { return 0 },
	}
}

// start starts a process whose clock is wrong by skew.
func (f *fleet) start(name string, skew time.Duration) {
	reg := prometheus.NewRegistry()
	r := New(Options{
		State: database.NewCheckpoints(testenv.AnotherProcess(f.db)), App: ourApp, Settle: settle,
		Registerer: reg,
	})
	r.now = func() time.Time { return f.now.Add(skew) }
	f.alive[name] = &process{r, strings.TrimRight(name, "0123456789"), f.now, reg}
}

// pass lets time pass. Each process takes its turns as package inngest has it do.
func (f *fleet) pass(d time.Duration) {
	f.t.Helper()
	for end := f.now.Add(d); f.now.Before(end); f.now = f.now.Add(time.Second) {
		for _, l := range f.late {
			if !l.at.After(f.now) && (f.has == nil || f.has[len(f.has)-1] != l.functions) {
				f.has = append(f.has, l.functions)
			}
		}
		f.late = slices.DeleteFunc(f.late, func(l landing) bool { return !l.at.After(f.now) })
		for _, p := range f.alive {
			if f.now.Before(p.next) {
				continue
			}
			if f.away {
				p.next = f.now.Add(time.Second)
				continue
			}
			why, err := p.Beat(f.t.Context(), p.functions)
			if err != nil {
				f.t.Fatal(err)
			}
			if p.next = f.now.Add(settle); why == "" {
				p.next = f.now.Add(30 * time.Second)
				f.late = append(f.late, landing{f.now.Add(f.lands()), p.functions})
			}
		}
	}
}

// TestRollingUpgrade: which functions Inngest has while processes of several versions come and go. Capital letters are
// functions that come later.
func TestRollingUpgrade(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		// +NAME starts, -NAME kills, NAME@SKEW has a wrong clock, a duration passes, ~DURATION without the database.
		do   string
		want string
	}{
		"one":                             {"+a1 10m", "a"},
		"two of one version":              {"+a1 10s +a2 10m", "a"},
		"an upgrade":                      {"+a1 +a2 5m +b1 1m +b2 1m -a1 1m -a2 10m", "a b"},
		"old ones stay":                   {"+a1 +a2 5m +b1 20m", "a b"},
		"the new one's clock is behind":   {"+a1 +a2 5m +b1@-4m 20m", "a b"},
		"the new one's clock is ahead":    {"+a1 +a2 5m +b1@4m 20m", "a b"},
		"the new one's clock is of 1970":  {"+a1 +a2 5m +b1@-490000h 20m", "a b"},
		"the old one's clock is ahead":    {"+a1@4m 5m +b1 20m", "a b"},
		"one after the other, each ahead": {"+a1@2m 5m +b1@1m 5m +c1 20m", "a b c"},
		"an old one is restarted":         {"+a1 +a2 5m +b1 1m -a1 10s +a1 20m", "a b"},
		"an old one is started besides":   {"+a1 5m +b1 1m +a2 20m", "a b"},
		"the new one crashes":             {"+a1 5m +b1 5m -b1 80s", "a b"},
		"the new one crashes for good":    {"+a1 5m +b1 5m -b1 20m", "a b a"},
		"the new one is restarted":        {"+a1 5m +b1 1m -b1 80s +b1 20m", "a b"},
		"the new one comes back later":    {"+a1 5m +b1 1m -b1 10m +b1 20m", "a b a b"},
		"a rollback":                      {"+a1 5m +b1 10s -a1 10m +a2 10s -b1 20m", "a b a"},
		"a rollback in the middle":        {"+a1 5m +b1 1m -b1 20m", "a b a"},
		"a rollback after two upgrades":   {"+a1 5m +b1 1m -a1 10m +c1 1m -b1 10m +a1 10s -c1 20m", "a b c a"},
		"a restart with other functions":  {"+a1 5m -a1 +b1 20m", "a b"},
		"three versions":                  {"+a1 1m +b1 1m +c1 20m", "a b c"},
		"the newest of three crashes":     {"+a1 1m +b1 1m +c1 1m -c1 20m", "a b c b"},
		"the middle one of three crashes": {"+a1 1m +b1 1m +c1 1m -b1 20m", "a b c"},
		"the database is away":            {"+a1 +a2 +a3 +a4 5m +b1 5m ~10m 20m", "a b"},
		"an old one is restarted before":  {"+a1 +a2 5m +b1 5m -a1 10s +a1 1s ~10m 20m", "a b"},
		"it is, and the new one crashes":  {"+a1 +a2 5m +b1 5m -b1 ~10m 20m", "a b a"},
		"back in a day, the clock right":  {"+a1 1m -a1 48h +b1 1m -b1 48h +a1 20m", "a b a"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, testenv.NewMemory().Connect(t, "test", nil, nil))
			for step := range strings.FieldsSeq(tc.do) {
				f.step(step)
			}
			if got := strings.Join(f.has, " "); got != tc.want {
				t.Errorf("%s: Inngest had the functions %q, want %q", tc.do, got, tc.want)
			}
		})
	}
}

func (f *fleet) step(step string) {
	f.t.Helper()
	name, skew, _ := strings.Cut(step[1:], "@")
	switch step[0] {
	case '+':
		wrong, err := time.ParseDuration(skew + "0s")
		if err != nil {
			f.t.Fatal(err)
		}
		f.start(name, wrong)
	case '-':
		delete(f.alive, name)
	default:
		step, f.away = strings.CutPrefix(step, "~")
		d, err := time.ParseDuration(step)
		if err != nil {
			f.t.Fatal(err)
		}
		f.pass(d)
	}
}

// TestAnyUpgrade: whatever starts, is killed and is started again in a rolling upgrade, with wrong clocks and with
// registrations that take their time, Inngest never gets older functions while a process of the newer version is there,
// and in the end it has those of the newest.
func TestAnyUpgrade(t *testing.T) {
	t.Parallel()
	rounds := uint64(40)
	if testing.Short() {
		rounds = 3
	}
	for seed := range rounds {
		rng := rand.New(rand.NewPCG(seed, 17))
		f := newFleet(t, testenv.NewMemory().Connect(t, "test", nil, nil))
		f.lands = func() time.Duration { return rand.N(settle) }
		var did []string
		do := func(format string, args ...any) {
			step := fmt.Sprintf(format, args...)
			did = append(did, step)
			f.step(step)
		}
		newest, n := 'a', 0
		start := func() {
			n++
			do("+%c%d@%ds", newest, n, rng.IntN(40)-20)
			do("1s")
		}
		start()
		for range 30 {
			switch names := f.names(); rng.IntN(7) {
			case 0: // another version; its first process stays
				if newest < 'e' {
					newest++
					start()
				}
			case 1:
				start()
			case 2: // one is killed, but not the last of the newest version
				if p := names[rng.IntN(len(names))]; f.count(newest) > 1 || rune(p[0]) != newest {
					do("-%s", p)
				}
			case 3: // one is killed and started again, before it counts as dead: 45 s, a clock, and a turn of 30 s
				p := names[rng.IntN(len(names))]
				do("-%s", p)
				do("%ds", rng.IntN(45))
				do("+%s", p)
				do("1s")
			case 4: // the database is away
				do("~%ds", rng.IntN(600))
				do("1s")
			default:
				do("%ds", rng.IntN(90))
			}
		}
		do("1m")
		if !slices.IsSorted(f.has) || f.has[len(f.has)-1] != string(newest) {
			t.Fatalf("seed %d: Inngest had the functions %s:\n%s", seed, f.has, strings.Join(did, " "))
		}
	}
}

func (f *fleet) names() (names []string) {
	for name := range f.alive {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (f *fleet) count(version rune) (n int) {
	for name := range f.alive {
		if rune(name[0]) == version {
			n++
		}
	}
	return n
}

// TestSameMoment: two versions that start in the same moment do not take turns: both decide for the same.
func TestSameMoment(t *testing.T) {
	t.Parallel()
	f := newFleet(t, testenv.NewMemory().Connect(t, "test", nil, nil))
	for _, name := range []string{"a1", "b1"} {
		f.start(name, 0)
		if err := f.alive[name].enter(t.Context(), f.alive[name].functions); err != nil { // none knows of the other
			t.Fatal(err)
		}
	}
	f.pass(10 * time.Minute)
	if got := strings.Join(f.has, " "); got != "b" && got != "a b" { // the second when b1 is not there yet
		t.Errorf("Inngest had the functions %q, want those of b in the end", got)
	}
}

// TestOtherInngest: processes with another Inngest, or of another app, do not concern this one.
func TestOtherInngest(t *testing.T) {
	t.Parallel()
	f := newFleet(t, testenv.NewMemory().Connect(t, "test", nil, nil))
	f.start("a1", 0)
	f.pass(time.Minute)
	f.start("b1", 0)
	f.alive["b1"].o.App = "clerksync at http://another"
	f.pass(time.Hour)
	if d := cmp.Diff([]int{1, 0}, f.count2("clerksync at http://another")); d != "" {
		t.Errorf("alive and outdated (-want +got):\n%s", d)
	}
	for name, p := range f.alive {
		if why, err := p.Beat(t.Context(), p.functions); why != "" || err != nil {
			t.Errorf("%s does not register: %q, %v", name, why, err)
		}
	}
}

func (f *fleet) count2(app string) []int {
	f.t.Helper()
	all, outdated, err := Alive(f.t.Context(), database.NewCheckpoints(f.db), app, f.now)
	if err != nil {
		f.t.Fatal(err)
	}
	return []int{all, outdated}
}

// TestSaid: what the metric and the doctor say while there are two versions, on every database; and that what ended
// processes leave is removed.
func TestSaid(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		f := newFleet(t, db)
		if err := database.NewCheckpoints(db).Save(t.Context(), savedPrefix+"X", "of another kind"); err != nil {
			t.Fatal(err)
		}
		outdated := func(name string) float64 {
			families, err := f.alive[name].registry.Gather()
			if err != nil || len(families) != 1 || families[0].GetName() != "clerksync_functions_outdated" {
				t.Fatalf("got the metrics %v, %v", families, err)
			}
			return families[0].GetMetric()[0].GetGauge().GetValue()
		}
		f.start("a1", 0)
		f.start("a2", 0)
		f.pass(time.Minute)
		if got, want := f.count2(ourApp), []int{2, 0}; !slices.Equal(got, want) || outdated("a1") != 0 {
			t.Errorf("one version: got %v and %v, want %v and 0", got, outdated("a1"), want)
		}
		f.start("b1", 0)
		f.pass(time.Minute)
		got, want := f.count2(ourApp), []int{3, 2}
		if !slices.Equal(got, want) || outdated("a1") != 1 || outdated("b1") != 0 {
			t.Errorf("two versions: got %v, %v and %v, want %v, 1 and 0", got, outdated("a1"), outdated("b1"), want)
		}
		why, err := f.alive["a1"].Beat(t.Context(), "a")
		if want := "a process that started later has other functions"; why != want || err != nil {
			t.Errorf("the old one says %q, %v, want %q", why, err, want)
		}
		delete(f.alive, "b1")
		f.pass(3 * time.Minute)
		got, want = f.count2(ourApp), []int{2, 0}
		if !slices.Equal(got, want) || outdated("a1") != 0 {
			t.Errorf("the new one has ended: got %v and %v, want %v and 0", got, outdated("a1"), want)
		}
		for range 62 { // a turn a minute: who looks less often does not count the time between
			f.pass(time.Second)
			f.now = f.now.Add(aliveFor/2 - time.Second)
		}
		all, err := database.LoadAll[replica](t.Context(), database.NewCheckpoints(db), savedPrefix)
		if len(all) != 2 || err != nil {
			t.Errorf("after an hour there are %d heartbeats, %v, want 2", len(all), err)
		}
	})
}

// TestNoDatabase: who cannot ask the database registers nothing, because a newer one may be there, and its wait has not
// begun.
func TestNoDatabase(t *testing.T) {
	t.Parallel()
	memory := testenv.NewMemory()
	f := newFleet(t, memory.Connect(t, "test", nil, nil))
	f.start("a1", 0)
	f.pass(time.Minute)
	for _, command := range []string{"find", "update"} {
		away := true
		db := memory.ConnectFaulty(t, "test", &testenv.CommandFaults{Verdict: func(c string) testenv.Verdict {
			if away && c == command {
				return testenv.Refuse
			}
			return testenv.Apply
		}})
		r := New(Options{
			State: database.NewCheckpoints(db), App: ourApp, Settle: settle,
			Registerer: prometheus.NewRegistry(),
		})
		r.now = func() time.Time { return f.now }
		for range 2 {
			if why, err := r.Beat(t.Context(), "b"); err == nil {
				t.Errorf("%s fails: got %q and no error", command, why)
			}
		}
		away = false
		if why, err := r.Beat(context.Background(), "b"); !strings.Contains(why, "5s") || err != nil {
			t.Errorf("after %s has failed: got %q, %v, want that it waits", command, why, err)
		}
	}
}
