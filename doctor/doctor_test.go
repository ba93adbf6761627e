package doctor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"clerksync/clerk"
	"clerksync/config"
	"clerksync/inngest"
	"clerksync/internal/testenv"
	"clerksync/reconcile"
	"clerksync/store"
	"clerksync/store/database"
	"clerksync/store/mapping"
)

const signingKey = "signkey-test-0123456789abcdef"

// printTo returns what writes findings as the command line does.
func printTo(w io.Writer) func(Finding) {
	return func(f Finding) { _, _ = fmt.Fprintf(w, "%-4s  %-9s  %s\n", f.Level, f.Check, f.Text) }
}

// TestCloud: of Inngest's cloud the signing key is tried as its documentation has it.
func TestCloud(t *testing.T) {
	t.Parallel()
	cloud := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/events" || r.URL.Query().Get("name") != inngest.ProbeEvent ||
			r.Header.Get("X-Inngest-Env") != "branch" || r.Header.Get("Authorization") != "Bearer "+signingKey {
			http.Error(w, "Unauthorized", http.StatusUnauthorized)
		}
	}))
	t.Cleanup(cloud.Close)
	for name, tc := range map[string]struct{ key, want string }{
		"the key":     {signingKey, "ok    inngest    INNGEST_SIGNING_KEY is accepted\n"},
		"another key": {"signkey-test-ff", "FAIL  inngest    INNGEST_SIGNING_KEY is not accepted"},
	} {
		var out strings.Builder
		server := inngest.Server{SigningKey: tc.key, Env: "branch"}
		d := &doctor{Options: Options{Inngest: server}, found: printTo(&out)}
		try := server
		try.URL = cloud.URL // the real one cannot be asked from a test
		d.signingKey(func(key string) error { return try.CheckCloudKey(t.Context(), key) })
		if got := out.String(); !strings.HasPrefix(got, tc.want) {
			t.Errorf("%s: got %q, want %q", name, got, tc.want)
		}
	}
}

// TestServer: what a database tells of itself is judged.
func TestServer(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		server   database.Server
		embedded bool
		want     string
	}{
		"a replica set": {
			database.Server{Name: "MongoDB", Version: "8.0.4"},
			false,
			"ok    database   MongoDB 8.0.4, replicated; writes wait for a majority\n",
		},
		"one server": {
			database.Server{Name: "MongoDB", Version: "8.0.4", Kind: database.StandAlone},
			false,
			"warn  database   MongoDB 8.0.4, stand-alone: what it has acknowledged it can lose with its disk: " +
				"use a replica set\n",
		},
		"embedded": {
			database.Server{Name: "FerretDB", Version: "v1.24.2", Kind: database.OneProcess},
			true,
			"ok    database   FerretDB v1.24.2, embedded: for development only\n",
		},
		"a clock a bit off": {
			database.Server{Name: "MongoDB", Ahead: 5 * time.Second},
			false,
			"ok    database   MongoDB, replicated; writes wait for a majority\n",
		},
		"a clock behind": {
			database.Server{Ahead: -6 * time.Second},
			true,
			"ok    database   , embedded: for development only\nwarn  clock      this machine and the database " +
				"differ by 6s: set the clock of whichever is wrong (NTP)\n",
		},
		"a clock quite ahead": {
			database.Server{Ahead: 6 * time.Minute},
			true,
			"ok    database   , embedded: for development only\nFAIL  clock      this machine and the database " +
				"differ by 6m0s; from five minutes on, every webhook and every call of Inngest is refused: set the " +
				"clock of whichever is wrong (NTP)\n",
		},
	} {
		var out strings.Builder
		d := &doctor{found: printTo(&out)}
		if tc.embedded {
			d.Config.MongoURI = config.EmbeddedPrefix + "x"
		}
		d.server(tc.server)
		if got := out.String(); got != tc.want {
			t.Errorf("%s: got %q, want %q", name, got, tc.want)
		}
	}
}

// TestSync: what is known of webhooks and comparisons is judged.
func TestSync(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	runs := func(r reconcile.Run) map[reconcile.Tier][]reconcile.Run {
		return map[reconcile.Tier][]reconcile.Run{reconcile.Recent: {r, {Error: "before"}}}
	}
	ended := func(f reconcile.Found, err string) reconcile.Run {
		return reconcile.Run{
			StartedAt: ago(3*time.Hour + 10*time.Second), EndedAt: ago(3 * time.Hour), Found: f, Error: err,
		}
	}
	const notYet = "warn  reconcile  absent: has not run yet\nwarn  reconcile  full: has not run yet\n"
	for name, tc := range map[string]struct {
		status reconcile.Status
		noKey  bool
		off    config.Reconcile
		want   string
	}{
		"nothing yet": {want: "warn  webhooks   none has come yet: send a test event from Clerk's dashboard " +
			"(Webhooks, Testing)\n" +
			"warn  reconcile  rows have never been compared with Clerk: leave the service running, or run 'clerksync " +
			"reconcile'\n"},
		"nothing yet, and no key": {
			noKey: true, want: "warn  webhooks   none has come yet: send a test event from Clerk's dashboard " +
				"(Webhooks, Testing)\n",
		},
		"nothing yet, and a tier is off": {
			off: config.Reconcile{AbsentCron: "off"},
			want: "warn  webhooks   none has come yet: send a test event from Clerk's dashboard (Webhooks, Testing)\n" +
				"warn  reconcile  rows have never been compared with Clerk: leave the service running, or run " +
				"'clerksync reconcile'\nok    reconcile  absent: off, by its setting\n",
		},
		"all tiers are off": {
			status: reconcile.Status{LastWebhook: ago(time.Minute)},
			off:    config.Reconcile{RecentCron: "off", AbsentCron: "OFF", Cron: "off"},
			want: "ok    webhooks   the last came 1m ago\n" +
				"warn  reconcile  rows have never been compared with Clerk, and every tier is off: run 'clerksync " +
				"reconcile'\nok    reconcile  recent: off, by its setting\nok    reconcile  absent: off, by its " +
				"setting\nok    reconcile  full: off, by its setting\n",
		},
		"a tier is off since its last run": {
			status: reconcile.Status{LastWebhook: ago(time.Minute), Runs: runs(ended(reconcile.Found{Users: 4}, ""))},
			off:    config.Reconcile{RecentCron: "off", AbsentCron: "off", Cron: "off"},
			want: "ok    webhooks   the last came 1m ago\n" +
				"ok    reconcile  recent (off, by its setting): 3h0m ago, 4 users and 0 rows compared: 0 missing, 0 " +
				"stale, 0 extra\nok    reconcile  absent: off, by its setting\n" +
				"ok    reconcile  full: off, by its setting\n",
		},
		"a tier is off since it failed": {
			status: reconcile.Status{
				LastWebhook: ago(time.Minute), Runs: runs(reconcile.Run{StartedAt: ago(time.Hour), Error: "no answer"}),
			},
			off: config.Reconcile{RecentCron: "off"},
			want: "ok    webhooks   the last came 1m ago\nok    reconcile  recent: off, by its setting\n" +
				notYet,
		},
		"silence": {
			status: reconcile.Status{
				LastWebhook: ago(time.Hour),
				Silence:     reconcile.Silence{Since: ago(time.Hour), First: ago(20 * time.Minute), Changed: 2},
			},
			noKey: true,
			want: "FAIL  webhooks   no webhook for 1 h although Clerk changed 2 users: check the endpoint in Clerk's " +
				"dashboard (enabled, its URL, its events) and CLERK_WEBHOOK_SIGNING_SECRET\n",
		},
		"just now": {
			status: reconcile.Status{
				LastWebhook: now.Add(time.Second), Runs: runs(reconcile.Run{StartedAt: ago(5 * time.Second)}),
			},
			want: "ok    webhooks   the last came 0s ago\nok    reconcile  recent: under way, began 5s ago\n" +
				notYet,
		},
		"drift": {
			status: reconcile.Status{
				LastWebhook: ago(90 * time.Second),
				Runs: runs(ended(reconcile.Found{Users: 40, Rows: 30, Missing: 1, Stale: 2, Extra: 3, Unknown: 4},
					"the first attempt's")),
			},
			want: "ok    webhooks   the last came 1m ago\nok    reconcile  recent: 3h0m ago, 40 users and 30 rows " +
				"compared: 1 missing, 2 stale, 3 extra, 4 unknown: 'clerksync reconcile --dry-run' names them\n" +
				notYet,
		},
		"unreadable": {
			status: reconcile.Status{LastWebhook: ago(time.Minute), Runs: runs(ended(reconcile.Found{Failed: 4}, ""))},
			want: "ok    webhooks   the last came 1m ago\nwarn  reconcile  recent: 3h0m ago, 4 users could not be " +
				"read or written: the service's log names them\n" + notYet,
		},
		"failed": {
			status: reconcile.Status{
				LastWebhook: ago(time.Minute), Runs: runs(reconcile.Run{
					StartedAt: ago(2 * time.Minute), Error: "no answer\nfrom Clerk",
				}),
			},
			want: "ok    webhooks   the last came 1m ago\nFAIL  reconcile  recent: failed, began 2m ago: no " +
				"answer\nfrom Clerk\n" + notYet,
		},
	} {
		var out strings.Builder
		d := &doctor{found: printTo(&out), now: now, status: tc.status}
		if !tc.noKey {
			d.Config.SecretKey = testenv.ClerkKey
		}
		d.Config.Reconcile = tc.off
		d.on("webhooks")(d.webhooks(t.Context(), d.on("webhooks")))
		d.on("reconcile")(d.reconcile(t.Context(), d.on("reconcile")))
		if got := out.String(); got != tc.want {
			t.Errorf("%s: got\n%s, want\n%s", name, got, tc.want)
		}
	}
}

// TestFailingDatabase: a database that fails at some command is one finding more, ends no other check, and says nothing
// of its URI.
func TestFailingDatabase(t *testing.T) {
	t.Parallel()
	fake := testenv.NewClerkAPI(t)
	api, err := clerk.NewAPI(clerk.APIOptions{SecretKey: testenv.ClerkKey, URL: fake.URL, Share: 1})
	if err != nil {
		t.Fatal(err)
	}
	const rest = "FAIL inngest, ok clerk, warn webhooks, warn reconcile, ok inbox, ok inbox, - freshness, ok rows"
	for command, want := range map[string]string{
		"":         "warn database, ok database, " + rest,
		"prepared": "warn database, FAIL database, " + rest,
		"hello":    "FAIL database, " + rest,
		"find":     "FAIL database, FAIL inngest, ok clerk, - webhooks, - reconcile, - inbox, - freshness, - rows",
	} {
		var late atomic.Bool // the driver itself says hello, and Connect asks for more
		uri := testenv.NewMemory().Listen(t, func(c string) int32 {
			if c == command && late.Load() {
				return 13
			}
			return 0
		})
		db, err := database.Connect(t.Context(), uri, "app")
		if err != nil {
			t.Fatal(err)
		}
		late.Store(true)
		o := Options{
			Config: config.Config{SecretKey: testenv.ClerkKey}, Clerk: api,
			Inngest: inngest.Server{URL: "http://127.0.0.1:1"},
			Open:    func(context.Context) (*database.DB, error) { return db, nil },
			Map:     mapping.Default(), Prepared: func(context.Context, *database.DB, *store.Users) (bool, error) {
				if command == "prepared" {
					return false, errors.New("code 13")
				}
				return true, nil
			},
		}
		var got []string
		Run(t.Context(), o, func(f Finding) {
			if f.Check != "settings" {
				got = append(got, string(f.Level)+" "+f.Check)
			}
			if strings.Contains(f.Text, "127.0.0.1") && f.Check == "database" {
				t.Errorf("%s: %s", command, f.Text)
			}
		})
		if got := strings.Join(got, ", "); got != want {
			t.Errorf("%s: got\n%s, want\n%s", command, got, want)
		}
		if err := db.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// TestEndedRun: when somebody ends the run, no check is made any more.
func TestEndedRun(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	o := Options{URL: "https://x", Open: func(context.Context) (*database.DB, error) {
		cancel()
		return nil, errors.New("cut off")
	}}
	var got []Finding
	Run(ctx, o, func(f Finding) { got = append(got, f) })
	if len(got) != 2 || got[1] != (Finding{Fail, "database", "cut off"}) {
		t.Errorf("got %+v", got)
	}
}
