package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"clerksync/app"
	"clerksync/config"

	"clerksync/inngest"
	"clerksync/internal/testenv"
	"clerksync/reconcile"
	"clerksync/store/database"
	"clerksync/store/embedded"
)

// The keys of inngestOfOnesOwn.
const (
	ownEventKey   = "own-event-key"
	ownSigningKey = "signkey-test-0123456789abcdef"
	// ownHashedKey is how the SDKs show it: the SHA-256 of its bytes.
	ownHashedKey = "signkey-test-55c53f5d490297900cefa825d0c8e8e9532ee8a118abe7d8570762cd38be9818"
)

// inngestOfOnesOwn is a fakeInngest that wants keys and lists the functions that were registered, as 'inngest start'
// does.
func inngestOfOnesOwn(t *testing.T) *httptest.Server {
	t.Helper()
	fake := newFakeInngest(t)
	mux := http.NewServeMux()
	mux.Handle("/", fake.Config.Handler)
	mux.HandleFunc("POST /e/{key}", func(w http.ResponseWriter, r *http.Request) {
		if r.PathValue("key") != ownEventKey {
			http.Error(w, "Event key not found", http.StatusUnauthorized)
			return
		}
		fake.Config.Handler.ServeHTTP(w, r)
	})
	mux.HandleFunc("GET /v1/apps/{app}/functions", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+ownHashedKey {
			http.Error(w, "Authentication failed", http.StatusUnauthorized)
			return
		}
		var reg struct {
			AppName   string
			Functions []struct {
				ID string `json:"id"`
			}
		}
		fake.mu.Lock()
		defer fake.mu.Unlock()
		if json.Unmarshal(fake.register, &reg) != nil || reg.AppName != r.PathValue("app") {
			_, _ = io.WriteString(w, "null")
			return
		}
		_ = json.NewEncoder(w).Encode(reg.Functions)
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

// answers is an Inngest that answers everything with a status.
func answers(t *testing.T, code int, body string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/health" {
			w.WriteHeader(code)
		}
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// TestDoctor: beside a running service each fault has its line, all the other checks are made, and the exit status
// tells.
func TestDoctor(t *testing.T) {
	t.Parallel()
	inngest := inngestOfOnesOwn(t)
	fake := testenv.NewClerkAPI(t)
	settings := good(t)
	maps.Copy(settings, map[string]string{
		"INNGEST_DEV": "0", "INNGEST_BASE_URL": inngest.URL, "INNGEST_EVENT_KEY": ownEventKey, "INNGEST_SIGNING_KEY": ownSigningKey,
		"CLERK_SECRET_KEY": testenv.ClerkKey, "CLERK_API_URL": fake.URL, "CLERK_INSTANCE_ID": testenv.ClerkInstance,
	})
	s := serve(t, settings)
	until(t, "the functions are registered", func() bool { return strings.Contains(s.log.String(), "registered the functions") })
	uri, err := embedded.Running(strings.TrimPrefix(settings["MONGODB_URI"], config.EmbeddedPrefix))
	if err != nil {
		t.Fatal(err)
	}
	fine := []string{
		"ok +settings +complete", "ok +database +FerretDB, embedded: for development only", "ok +database +the indexes are there",
		"ok +inngest +your Inngest answers", "ok +inngest +INNGEST_EVENT_KEY is accepted", "ok +inngest +INNGEST_SIGNING_KEY is accepted",
		`ok +inngest +the app "clerksync" is registered, with 8 functions`,
		"ok +clerk +CLERK_SECRET_KEY is accepted: of a production instance, the one that", "warn +webhooks +none has come yet: send",
		"warn +reconcile +rows have never been compared", "ok +inbox +no event waits", "ok +inbox +no dead letters", "ok +rows +0, as many as Clerk",
	}
	for name, tc := range map[string]struct {
		set  map[string]string
		args string
		want []string // how lines begin
		not  string   // what must not be there
		err  string
	}{
		"all well":             {want: fine, not: "FAIL"},
		"with its URL":         {args: "--url " + s.url, want: append(slices.Clone(fine), "warn +url +the service answers, but not over TLS")},
		"with the whole URL":   {args: "--url " + s.url + "/webhooks/clerk", want: []string{"warn +url +the service answers"}},
		"another one's URL":    {args: "--url " + fake.URL, want: []string{"FAIL +url +401: something before"}, err: "1 check failed"},
		"no URL":               {args: "--url host", err: "--url is no URL: say https://HOST"},
		"the same, by its URI": {set: map[string]string{"MONGODB_URI": uri}, want: []string{"warn +database +FerretDB: for one process"}, not: "FAIL"},
		"wrong settings": {
			set:  map[string]string{"CLERK_WEBHOOK_SIGNING_SECRET": "hunter2", "LOG_LEVEL": "loud"},
			want: append(slices.Clone(fine[1:]), `FAIL +settings +CLERK_WEBHOOK_SIGNING_SECRET: secret 1 does not begin with "whsec_"`, "FAIL +settings +LOG_LEVEL cannot be read"),
			err:  "2 checks failed",
		},
		"all settings wrong": {
			set:  map[string]string{"MONGODB_URI": "hunter2", "INNGEST_APP_ID": "it's", "CLERK_SECRET_KEY": "hunter2"},
			want: []string{"- +database +not checked", "- +inngest +not checked", "- +clerk +not checked", "- +webhooks +not", "- +reconcile +not", "- +inbox +not", "- +rows +not"},
			err:  "3 checks failed",
		},
		"no database": {
			set:  map[string]string{"MONGODB_URI": "mongodb://u:hunter2@127.0.0.1:1/?serverSelectionTimeoutMS=100"},
			want: append(slices.Clone(fine[3:8]), "FAIL +database +.*check MONGODB_URI, and that the database runs", "- +webhooks +not checked", "- +rows +not checked"),
			err:  "1 check failed",
		},
		"no folder": {
			set:  map[string]string{"MONGODB_URI": settings["MONGODB_URI"] + "/none"},
			want: []string{"FAIL +database +there is no folder"}, err: "1 check failed",
		},
		"an empty database": {
			set:  map[string]string{"MONGODB_DATABASE": "other"},
			want: []string{"FAIL +database +it lacks indexes: start the service once", "ok +rows +0, as"}, err: "1 check failed",
		},
		"no Inngest": {
			set:  map[string]string{"INNGEST_BASE_URL": "http://u:hunter2@127.0.0.1:1"},
			want: []string{"FAIL +inngest +your Inngest cannot be reached: start it", "ok +rows"}, not: "EVENT_KEY", err: "1 check failed",
		},
		"no dev server": {
			set:  map[string]string{"INNGEST_BASE_URL": "", "INNGEST_DEV": "http://127.0.0.1:1", "INNGEST_SIGNING_KEY": ""},
			want: []string{"FAIL +inngest +the dev server cannot be reached"}, err: "1 check failed",
		},
		"another event key": {
			set:  map[string]string{"INNGEST_EVENT_KEY": "hunter2"},
			want: []string{"FAIL +inngest +INNGEST_EVENT_KEY is not accepted: set it", "ok +inngest +INNGEST_SIGNING_KEY is"}, err: "1 check failed",
		},
		"another signing key": {
			set:  map[string]string{"INNGEST_SIGNING_KEY": "signkey-test-ffff"},
			want: []string{"FAIL +inngest +INNGEST_SIGNING_KEY is not accepted: set it"}, not: "registered", err: "1 check failed",
		},
		"only the fallback": {
			set:  map[string]string{"INNGEST_SIGNING_KEY": "signkey-test-ffff", "INNGEST_SIGNING_KEY_FALLBACK": ownSigningKey},
			want: []string{"warn +inngest +only INNGEST_SIGNING_KEY_FALLBACK is accepted", fine[6]}, not: "FAIL",
		},
		"another app": {
			set:  map[string]string{"INNGEST_APP_ID": "other"},
			want: []string{`FAIL +inngest +the app "other" is not registered: start the service`}, err: "1 check failed",
		},
		"a function is missing": {
			set:  map[string]string{"SMTP_URL": "smtp://u:hunter2@127.0.0.1", "MAIL_FROM": "hello@app.example"},
			want: []string{`FAIL +inngest +the app "clerksync" lacks the function send-welcome-email`}, err: "1 check failed",
		},
		"the mail's settings are wrong": {
			set:  map[string]string{"SMTP_URL": "smtp://u:hunter2@127.0.0.1"},
			want: []string{"FAIL +settings +MAIL_FROM", "- +inngest +functions not checked"}, err: "1 check failed",
		},
		"an Inngest that lists nothing": {
			set: map[string]string{"INNGEST_BASE_URL": answers(t, http.StatusNotFound, "")}, err: "1 check failed",
			want: []string{"FAIL +inngest +events are not taken: it answers 404 Not Found", "warn +inngest +this server does not list its functions"},
		},
		"an Inngest that answers something else": {
			set: map[string]string{"INNGEST_BASE_URL": answers(t, http.StatusOK, "<html>")}, want: []string{"warn +inngest +this server does not list"},
		},
		"an Inngest in need": {
			set: map[string]string{"INNGEST_BASE_URL": answers(t, http.StatusServiceUnavailable, "")}, err: "2 checks failed",
			want: []string{"FAIL +inngest +its API does not answer as it should: it answers 503 Service Unavailable"},
		},
		"an Inngest with more functions": {
			set:  map[string]string{"INNGEST_BASE_URL": answers(t, http.StatusOK, registeredWith(t, "clerksync", "add-crm-contact"))},
			want: []string{`warn +inngest +the app "clerksync" also has clerksync-add-crm-contact, which these settings do not make`}, not: "FAIL",
		},
		"no key of Clerk's": {
			set:  map[string]string{"CLERK_SECRET_KEY": ""},
			want: []string{"warn +clerk +CLERK_SECRET_KEY is not set: backfill, reconcile", "- +rows +0; how many users Clerk has is not known"}, not: "(FAIL|reconcile +rows)",
		},
		"another key of Clerk's": {
			set:  map[string]string{"CLERK_SECRET_KEY": "sk_test_hunter2"},
			want: []string{`FAIL +clerk +.*CLERK_SECRET_KEY is not accepted \(Clerk answered 401\)`, "- +rows"}, err: "1 check failed",
		},
		"another instance": {
			set:  map[string]string{"CLERK_INSTANCE_ID": "ins_other"},
			want: []string{"FAIL +clerk +CLERK_SECRET_KEY is of the instance ins_2e2e, not of CLERK_INSTANCE_ID"}, err: "1 check failed",
		},
		"any instance": {set: map[string]string{"CLERK_INSTANCE_ID": ""}, want: []string{"ok +clerk +.*CLERK_INSTANCE_ID is not set, so"}},
	} {
		t.Run(name, func(t *testing.T) {
			all := maps.Clone(settings)
			maps.Copy(all, tc.set)
			var out, log bytes.Buffer
			err := run(t.Context(), append([]string{"doctor"}, strings.Fields(tc.args)...), environ(all), &out, &log)
			if got := fmt.Sprint(err); got != tc.err && (err != nil || tc.err != "") {
				t.Errorf("got error %v, want %q", err, tc.err)
			}
			for _, l := range tc.want {
				if !regexp.MustCompile("(?m)^" + l).MatchString(out.String()) {
					t.Errorf("printed\n%s, want a line %s", &out, l)
				}
			}
			if tc.not != "" && regexp.MustCompile(tc.not).MatchString(out.String()) {
				t.Errorf("printed\n%s, want nothing like %s", &out, tc.not)
			}
			if text := fmt.Sprint(&out, &log, err); strings.Contains(text, "hunter2") || strings.Contains(text, ownEventKey) || log.Len() > 0 {
				t.Errorf("it logs, or says a secret:\n%s", text)
			}
		})
	}
}

// registeredWith is the list of an Inngest that has the app's functions and one more.
func registeredWith(t *testing.T, app, more string) string {
	t.Helper()
	var list []map[string]string
	for _, id := range []string{
		"sync-user-from-clerk", "update-user-from-clerk", "delete-user-with-clerk", "mark-failed-event", "clean-up-old-records",
		"reconcile-users-with-clerk-recent", "reconcile-users-with-clerk-absent", "reconcile-users-with-clerk", more,
	} {
		list = append(list, map[string]string{"id": app + "-" + id, "archived_at": "0001-01-01T00:00:00Z"})
	}
	list = append(list, map[string]string{"id": app + "-gone", "archived_at": "2026-01-05T09:00:00Z"})
	b, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestDoctorCloud: of Inngest's cloud the signing key is tried as its documentation has it.
func TestDoctorCloud(t *testing.T) {
	t.Parallel()
	cloud := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/events" || r.URL.Query().Get("name") != inngest.ProbeEvent || r.Header.Get("X-Inngest-Env") != "branch" || r.Header.Get("Authorization") != "Bearer "+ownSigningKey {
			http.Error(w, "Unauthorized", http.StatusUnauthorized)
		}
	}))
	t.Cleanup(cloud.Close)
	for name, tc := range map[string]struct{ key, want string }{
		"the key":     {ownSigningKey, "ok    inngest    INNGEST_SIGNING_KEY is accepted\n"},
		"another key": {"signkey-test-ff", "FAIL  inngest    INNGEST_SIGNING_KEY is not accepted"},
	} {
		var out bytes.Buffer
		d := &doctor{out: &out}
		d.cfg.Inngest = config.Inngest{SigningKey: tc.key, Env: "branch"}
		try := app.InngestServer(d.cfg.Inngest)
		try.URL = cloud.URL // the real one cannot be asked from a test
		d.signingKey(func(key string) error { return try.CheckCloudKey(t.Context(), key) })
		if got := out.String(); !strings.HasPrefix(got, tc.want) {
			t.Errorf("%s: got %q, want %q", name, got, tc.want)
		}
	}
}

// TestDoctorServer: what a database tells of itself is judged.
func TestDoctorServer(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		server   database.Server
		embedded bool
		want     string
	}{
		"a replica set":     {database.Server{Name: "MongoDB", Version: "8.0.4"}, false, "ok    database   MongoDB 8.0.4, replicated; writes wait for a majority\n"},
		"one server":        {database.Server{Name: "MongoDB", Version: "8.0.4", Kind: database.StandAlone}, false, "warn  database   MongoDB 8.0.4, stand-alone: what it has acknowledged it can lose with its disk: use a replica set\n"},
		"embedded":          {database.Server{Name: "FerretDB", Version: "v1.24.2", Kind: database.OneProcess}, true, "ok    database   FerretDB v1.24.2, embedded: for development only\n"},
		"a clock a bit off": {database.Server{Name: "MongoDB", Ahead: 5 * time.Second}, false, "ok    database   MongoDB, replicated; writes wait for a majority\n"},
		"a clock behind":    {database.Server{Ahead: -6 * time.Second}, true, "ok    database   , embedded: for development only\nwarn  clock      this machine and the database differ by 6s: set the clock of whichever is wrong (NTP)\n"},
		"a clock quite ahead": {
			database.Server{Ahead: 6 * time.Minute},
			true,
			"ok    database   , embedded: for development only\nFAIL  clock      this machine and the database differ by 6m0s; from five minutes on, every webhook and every call of Inngest is refused: set the clock of whichever is wrong (NTP)\n",
		},
	} {
		var out bytes.Buffer
		d := &doctor{out: &out, db: &database.DB{}}
		d.server(tc.server, tc.embedded)
		if got := out.String(); got != tc.want {
			t.Errorf("%s: got %q, want %q", name, got, tc.want)
		}
	}
}

// TestDoctorSync: what is known of webhooks and comparisons is judged.
func TestDoctorSync(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	runs := func(r reconcile.Run) map[reconcile.Tier][]reconcile.Run {
		return map[reconcile.Tier][]reconcile.Run{reconcile.Recent: {r, {Error: "before"}}}
	}
	ended := func(f reconcile.Found, err string) reconcile.Run {
		return reconcile.Run{StartedAt: ago(3*time.Hour + 10*time.Second), EndedAt: ago(3 * time.Hour), Found: f, Error: err}
	}
	const notYet = "warn  reconcile  absent: has not run yet\nwarn  reconcile  full: has not run yet\n"
	for name, tc := range map[string]struct {
		status reconcile.Status
		noKey  bool
		want   string
	}{
		"nothing yet": {want: "warn  webhooks   none has come yet: send a test event from Clerk's dashboard (Webhooks, Testing)\n" +
			"warn  reconcile  rows have never been compared with Clerk: leave the service running, or run 'clerksync reconcile'\n"},
		"nothing yet, and no key": {noKey: true, want: "warn  webhooks   none has come yet: send a test event from Clerk's dashboard (Webhooks, Testing)\n"},
		"silence": {
			status: reconcile.Status{LastWebhook: ago(time.Hour), Silence: reconcile.Silence{Since: ago(time.Hour), First: ago(20 * time.Minute), Changed: 2}}, noKey: true,
			want: "FAIL  webhooks   no webhook for 1 h although Clerk changed 2 users: check the endpoint in Clerk's dashboard (enabled, its URL, its events) and CLERK_WEBHOOK_SIGNING_SECRET\n",
		},
		"just now": {
			status: reconcile.Status{LastWebhook: now.Add(time.Second), Runs: runs(reconcile.Run{StartedAt: ago(5 * time.Second)})},
			want:   "ok    webhooks   the last came 0s ago\nok    reconcile  recent: under way, began 5s ago\n" + notYet,
		},
		"drift": {
			status: reconcile.Status{LastWebhook: ago(90 * time.Second), Runs: runs(ended(reconcile.Found{Users: 40, Rows: 30, Missing: 1, Stale: 2, Extra: 3, Unknown: 4}, "the first attempt's"))},
			want:   "ok    webhooks   the last came 1m ago\nok    reconcile  recent: 3h0m ago, 40 users and 30 rows compared: 1 missing, 2 stale, 3 extra, 4 unknown: 'clerksync reconcile --dry-run' names them\n" + notYet,
		},
		"unreadable": {
			status: reconcile.Status{LastWebhook: ago(time.Minute), Runs: runs(ended(reconcile.Found{Failed: 4}, ""))},
			want:   "ok    webhooks   the last came 1m ago\nwarn  reconcile  recent: 3h0m ago, 4 users could not be read or written: the service's log names them\n" + notYet,
		},
		"failed": {
			status: reconcile.Status{LastWebhook: ago(time.Minute), Runs: runs(reconcile.Run{StartedAt: ago(2 * time.Minute), Error: "no answer\nfrom Clerk"})},
			want:   "ok    webhooks   the last came 1m ago\nFAIL  reconcile  recent: failed, began 2m ago: no answer from Clerk\n" + notYet,
		},
	} {
		var out bytes.Buffer
		d := &doctor{out: &out}
		if !tc.noKey {
			d.cfg.SecretKey = testenv.ClerkKey
		}
		d.webhooks(tc.status, now)
		d.reconcile(tc.status, now)
		if got := out.String(); got != tc.want {
			t.Errorf("%s: got\n%s, want\n%s", name, got, tc.want)
		}
	}
}

// TestDoctorURL: whatever stands between Clerk and the service is told apart.
func TestDoctorURL(t *testing.T) {
	t.Parallel()
	at := func(h http.HandlerFunc) string {
		s := httptest.NewServer(h)
		t.Cleanup(s.Close)
		return s.URL
	}
	status := func(code int, header, body string) string {
		return at(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", header)
			w.WriteHeader(code)
			_, _ = io.WriteString(w, body)
		})
	}
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	secure.StartTLS()
	t.Cleanup(secure.Close)
	for name, tc := range map[string]struct{ url, want string }{
		"the service":        {status(400, "", "missing required headers\n") + "/", "warn  url        the service answers, but not over TLS"},
		"a redirect":         {status(308, "https://www.app.example/webhooks/clerk?x=hunter2", ""), "FAIL  url        a redirect (308 to https://www.app.example/webhooks/clerk), which Clerk takes for a failure"},
		"to nowhere":         {status(302, "", ""), "FAIL  url        a redirect (302 to nowhere)"},
		"a login":            {status(401, "", ""), "FAIL  url        401: something before the service asks for a login: let POST /webhooks/clerk through"},
		"a firewall":         {status(403, "", ""), "FAIL  url        403: something before"},
		"another service":    {status(404, "", ""), "FAIL  url        404: the service is not there"},
		"a page":             {status(405, "", ""), "FAIL  url        405: POST is not let through"},
		"a proxy alone":      {status(502, "", ""), "FAIL  url        502: the proxy does not reach the service"},
		"a parking page":     {status(200, "", "welcome"), "FAIL  url        200, which is not the service's answer"},
		"another one's 400":  {status(400, "", "bad"), "FAIL  url        400, which is not the service's answer"},
		"a bad certificate":  {secure.URL, "FAIL  url        TLS fails: give the host a certificate that everybody trusts"},
		"no TLS":             {strings.Replace(status(200, "", ""), "http:", "https:", 1), "FAIL  url        TLS fails"},
		"no such host":       {"https://no-such-host.invalid", "FAIL  url        the host is not known"},
		"nobody":             {"https://127.0.0.1:1", "FAIL  url        nothing answers: check the host"},
		"not even a request": {"http://u:hunter2@[::1]:x", "FAIL  url        it cannot be used"},
	} {
		var out bytes.Buffer
		d := &doctor{out: &out}
		d.ingress(t.Context(), tc.url)
		if got := out.String(); !strings.HasPrefix(got, tc.want) || strings.Contains(got, "hunter2") {
			t.Errorf("%s: got %q, want %q", name, got, tc.want)
		}
		if failed := strings.HasPrefix(tc.want, "FAIL"); failed != (d.failed == 1) {
			t.Errorf("%s: %d checks failed", name, d.failed)
		}
	}
}
