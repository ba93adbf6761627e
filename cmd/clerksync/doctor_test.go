package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"

	"clerksync/config"
	"clerksync/internal/testenv"
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
		"INNGEST_DEV": "0", "INNGEST_BASE_URL": inngest.URL, "INNGEST_EVENT_KEY": ownEventKey,
		"INNGEST_SIGNING_KEY": ownSigningKey,
		"CLERK_SECRET_KEY":    testenv.ClerkKey, "CLERK_API_URL": fake.URL, "CLERK_INSTANCE_ID": testenv.ClerkInstance,
	})
	s := serve(t, settings)
	until(t, "the functions are registered", func() bool {
		return strings.Contains(s.log.String(), "registered the functions")
	})
	uri, err := embedded.Running(strings.TrimPrefix(settings["MONGODB_URI"], config.EmbeddedPrefix))
	if err != nil {
		t.Fatal(err)
	}
	fine := []string{
		"ok +settings +complete", "ok +database +FerretDB, embedded: for development only",
		"ok +database +the indexes are there",
		"ok +inngest +your Inngest answers", "ok +inngest +INNGEST_EVENT_KEY is accepted",
		"ok +inngest +INNGEST_SIGNING_KEY is accepted",
		`ok +inngest +the app "clerksync" is registered, with 8 functions`,
		"ok +clerk +CLERK_SECRET_KEY is accepted: of a production instance, the one that",
		"warn +webhooks +none has come yet: send",
		"warn +reconcile +rows have never been compared", "ok +inbox +no event waits", "ok +inbox +no dead letters",
		"ok +rows +0, as many as Clerk",
	}
	for name, tc := range map[string]struct {
		set  map[string]string
		args string
		want []string // how lines begin
		not  string   // what must not be there
		err  string
	}{
		"all well": {want: fine, not: "FAIL"},
		"with its URL": {
			args: "--url " + s.url, want: append(slices.Clone(fine),
				"warn +url +the service answers at http://.*/webhooks/clerk, but not over TLS",
				"ok +url +it takes what CLERK_WEBHOOK_SIGNING_SECRET signs$"),
		},
		"with a slash at the end of its URL": {
			args: "--url " + s.url + "/webhooks/clerk/", err: "1 check failed",
			want: []string{"FAIL +url +404: the path ends with a slash, .*: give Clerk the URL without it, http"},
		},
		"with another signing secret than the service": {
			set:  map[string]string{"CLERK_WEBHOOK_SIGNING_SECRET": "whsec_" + "Y2xlcmtzeW5jIHRlc3Qgc2VjcmV0IDI="},
			args: "--url " + s.url, err: "1 check failed",
			want: []string{"warn +webhooks +none has come yet", "FAIL +url +the service does not take what CLERK_WEB"},
		},
		"with the whole URL": {
			args: "--url " + s.url + "/webhooks/clerk", want: []string{"warn +url +the service answers at"},
		},
		"another one's URL": {
			args: "--url " + fake.URL, want: []string{"FAIL +url +401: something before"}, err: "1 check failed",
		},
		"no URL": {args: "--url host", err: "--url is no URL: say https://HOST"},
		"the same, by its URI": {
			set: map[string]string{"MONGODB_URI": uri}, want: []string{"warn +database +FerretDB: for one process"},
			not: "FAIL",
		},
		"wrong settings": {
			set: map[string]string{"CLERK_WEBHOOK_SIGNING_SECRET": "hunter2", "LOG_LEVEL": "loud"},
			want: append(slices.Clone(fine[1:]),
				`FAIL +settings +CLERK_WEBHOOK_SIGNING_SECRET: secret 1 does not begin with "whsec_"`,
				"FAIL +settings +LOG_LEVEL cannot be read"),
			err: "2 checks failed",
		},
		"all settings wrong": {
			set: map[string]string{"MONGODB_URI": "hunter2", "INNGEST_APP_ID": "it's", "CLERK_SECRET_KEY": "hunter2"},
			want: []string{
				"- +database +not checked", "- +inngest +not checked", "- +clerk +not checked", "- +webhooks +not",
				"- +reconcile +not", "- +inbox +not", "- +rows +not",
			},
			err: "3 checks failed",
		},
		"no database": {
			set: map[string]string{"MONGODB_URI": "mongodb://u:hunter2@127.0.0.1:1/?serverSelectionTimeoutMS=100"},
			want: append(slices.Clone(fine[3:8]),
				"FAIL +database +.*nothing listens on that port of the host .* .MONGODB_URI.$",
				"- +webhooks +not checked", "- +rows +not checked"),
			err: "1 check failed",
		},
		"no folder": {
			set:  map[string]string{"MONGODB_URI": settings["MONGODB_URI"] + "/none"},
			want: []string{"FAIL +database +there is no folder"}, err: "1 check failed",
		},
		"an empty database": {
			set:  map[string]string{"MONGODB_DATABASE": "other"},
			want: []string{"FAIL +database +it lacks indexes: start the service once", "ok +rows +0, as"},
			err:  "1 check failed",
		},
		"no Inngest": {
			set:  map[string]string{"INNGEST_BASE_URL": "http://u:hunter2@127.0.0.1:1"},
			want: []string{"FAIL +inngest +your Inngest cannot be reached: nothing listens on", "ok +rows"},
			not:  "EVENT_KEY", err: "1 check failed",
		},
		"no dev server": {
			set: map[string]string{
				"INNGEST_BASE_URL": "", "INNGEST_DEV": "http://127.0.0.1:1", "INNGEST_SIGNING_KEY": "",
			},
			want: []string{"FAIL +inngest +the dev server cannot be reached"}, err: "1 check failed",
		},
		"another event key": {
			set: map[string]string{"INNGEST_EVENT_KEY": "hunter2"},
			want: []string{
				"FAIL +inngest +INNGEST_EVENT_KEY is not accepted: set it",
				"ok +inngest +INNGEST_SIGNING_KEY is",
			}, err: "1 check failed",
		},
		"another signing key": {
			set:  map[string]string{"INNGEST_SIGNING_KEY": "signkey-test-ffff"},
			want: []string{"FAIL +inngest +INNGEST_SIGNING_KEY is not accepted: set it"}, not: "registered",
			err: "1 check failed",
		},
		"only the fallback": {
			set: map[string]string{
				"INNGEST_SIGNING_KEY": "signkey-test-ffff", "INNGEST_SIGNING_KEY_FALLBACK": ownSigningKey,
			},
			want: []string{"warn +inngest +only INNGEST_SIGNING_KEY_FALLBACK is accepted", fine[6]}, not: "FAIL",
		},
		"another app": {
			set:  map[string]string{"INNGEST_APP_ID": "other"},
			want: []string{`FAIL +inngest +the app "other" is not registered: start the service`},
			err:  "1 check failed",
		},
		"a function is missing": {
			set:  map[string]string{"SMTP_URL": "smtp://u:hunter2@127.0.0.1", "MAIL_FROM": "hello@app.example"},
			want: []string{`FAIL +inngest +the app "clerksync" lacks the function send-welcome-email`},
			err:  "1 check failed",
		},
		"the file with the key is missing": {
			set: map[string]string{"CLERK_SECRET_KEY": "", "CLERK_SECRET_KEY_FILE": "hunter2"},
			want: []string{
				"FAIL +settings +CLERK_SECRET_KEY cannot be read: no such file",
				"- +clerk +not checked: mend its settings",
				"- +inngest +functions not checked: mend the settings first", "ok +inbox",
			},
			not: "is not set", err: "1 check failed",
		},
		"the mail's settings are wrong": {
			set:  map[string]string{"SMTP_URL": "smtp://u:hunter2@127.0.0.1"},
			want: []string{"FAIL +settings +MAIL_FROM", "- +inngest +functions not checked"}, err: "1 check failed",
		},
		"an Inngest that lists nothing": {
			set: map[string]string{"INNGEST_BASE_URL": answers(t, http.StatusNotFound, "")}, err: "1 check failed",
			want: []string{
				"FAIL +inngest +events are not taken: it answers 404 Not Found",
				"warn +inngest +this server does not list its functions",
			},
		},
		"an Inngest that answers something else": {
			set: map[string]string{"INNGEST_BASE_URL": answers(t, http.StatusOK, "<html>")}, want: []string{
				"warn +inngest +this server does not list",
			},
		},
		"an Inngest in need": {
			set:  map[string]string{"INNGEST_BASE_URL": answers(t, http.StatusServiceUnavailable, "")},
			err:  "2 checks failed",
			want: []string{"FAIL +inngest +its API does not answer as it should: it answers 503 Service Unavailable"},
		},
		"an Inngest that writes to the terminal": {
			set: map[string]string{
				"INNGEST_BASE_URL": answers(t, http.StatusTeapot, `{"error":"\u001b[2Jgone\nnext"}`),
			},
			err:  "2 checks failed",
			want: []string{`FAIL +inngest +events are not taken: it answers 418 I'm a teapot: \\u001b\[2Jgone next$`},
		},
		"an Inngest with more functions": {
			set: map[string]string{
				"INNGEST_BASE_URL": answers(t, http.StatusOK, registeredWith(t, "clerksync", "add-crm-contact")),
			},
			want: []string{`warn +inngest +the app "clerksync" also has clerksync-add-crm-contact, which these ` +
				`settings do not make`}, not: "FAIL",
		},
		"no key of Clerk's": {
			set: map[string]string{"CLERK_SECRET_KEY": ""},
			want: []string{
				"warn +clerk +CLERK_SECRET_KEY is not set: backfill, reconcile",
				"- +rows +0; how many users Clerk has is not known",
			}, not: "(FAIL|reconcile +rows)",
		},
		"another key of Clerk's": {
			set:  map[string]string{"CLERK_SECRET_KEY": "sk_test_hunter2"},
			want: []string{`FAIL +clerk +.*CLERK_SECRET_KEY is not accepted \(Clerk answered 401\)`, "- +rows"},
			err:  "1 check failed",
		},
		"another instance": {
			set:  map[string]string{"CLERK_INSTANCE_ID": "ins_other"},
			want: []string{"FAIL +clerk +CLERK_SECRET_KEY is of the instance ins_2e2e, not of CLERK_INSTANCE_ID"},
			err:  "1 check failed",
		},
		"any instance": {
			set: map[string]string{"CLERK_INSTANCE_ID": ""}, want: []string{
				"ok +clerk +.*CLERK_INSTANCE_ID is not set, so",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			out, log, err := command(t, with(settings, tc.set), strings.Fields("doctor "+tc.args)...)
			if got := fmt.Sprint(err); got != tc.err && (err != nil || tc.err != "") {
				t.Errorf("got error %v, want %q", err, tc.err)
			}
			for _, l := range tc.want {
				if !regexp.MustCompile("(?m)^" + l).MatchString(out) {
					t.Errorf("printed\n%s, want a line %s", out, l)
				}
			}
			if tc.not != "" && regexp.MustCompile(tc.not).MatchString(out) {
				t.Errorf("printed\n%s, want nothing like %s", out, tc.not)
			}
			if text := fmt.Sprint(out, log, err); strings.Contains(text, "hunter2") ||
				strings.Contains(text, ownEventKey) || log != "" {
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
		"sync-user-from-clerk", "update-user-from-clerk", "delete-user-with-clerk", "mark-failed-event",
		"clean-up-old-records",
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
