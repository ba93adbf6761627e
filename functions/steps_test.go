package functions_test

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"clerksync/clerk"
	"clerksync/functions"
	"clerksync/internal/testenv"
	"clerksync/reconcile"
	"clerksync/store"
	"clerksync/store/database"
	"clerksync/store/mapping"
)

// TestSteps: the work is one named step, which shows ids and the outcome on Inngest's page. A server with a checkpoint
// API needs one request for it, another two.
func TestSteps(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		fn, data, step, want string
	}{
		"a sign-up": {syncUser, user, "write-user", `{"user_id":"user_a","outcome":"created"}`},
		"a change":  {updateUser, user, "write-user", `{"user_id":"user_a","outcome":"created"}`},
		"a deletion": {
			deleteUser, `{"id":"user_a","deleted":true}`, "delete-user", `{"user_id":"user_a","outcome":"deleted"}`,
		},
		"a mail": {sendWelcome, "", "send-mail", `{"user_id":"user_a","outcome":"sent"}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for server, requests := range map[string]int{
				"no checkpoints": 2, "checkpoints": 1,
				"checkpoints not known": 2,
			} {
				p := newPost(t, testenv.SMTPOptions{}, false, servers[server])
				e := signUp("msg_1", 0)
				if tc.data != "" {
					e.Data = json.RawMessage(tc.data)
				}
				if requests == 2 {
					code, _, body := newPost(t, testenv.SMTPOptions{}, false, servers[server]).Call(t.Context(), t,
						tc.fn, e, nil, 0, 21)
					var ops []struct {
						Op   string          `json:"op"`
						Name string          `json:"name"`
						Data json.RawMessage `json:"data"`
					}
					if err := json.Unmarshal(body, &ops); err != nil || code != http.StatusPartialContent ||
						len(ops) != 1 {
						t.Fatalf("%s: got %d %s, %v", server, code, body, err)
					}
					if o := ops[0]; o.Op != "StepRun" || o.Name != tc.step || string(o.Data) != tc.want {
						t.Errorf("%s: got %s, want step %s with %s", server, body, tc.step, tc.want)
					}
				}
				r := p.Run(t, tc.fn, e)
				if string(r.Output) != tc.want || r.Attempts != requests {
					t.Errorf("%s: got %s %s in %d requests, want %s in %d", server, r.Output, r.Error, r.Attempts,
						tc.want, requests)
				}
			}
		})
	}
}

// TestStepAgain: a step whose result was lost after its work, with the answer or before the checkpoint, is done again,
// which changes nothing.
func TestStepAgain(t *testing.T) {
	t.Parallel()
	for server, checkpoint := range servers {
		t.Run(server, func(t *testing.T) {
			t.Parallel()
			p := newPost(t, testenv.SMTPOptions{}, false, checkpoint)
			for _, tc := range []struct{ fn, data, want string }{
				{syncUser, user, "unchanged"},
				{updateUser, strings.Replace(user, "Lovelace", "King", 1), "unchanged"},
				{sendWelcome, "", "sent before"},
				{deleteUser, `{"id":"user_a","deleted":true}`, "deleted"},
			} {
				e := signUp("msg_"+tc.fn, 0)
				if tc.data != "" {
					e.Data = json.RawMessage(tc.data)
				}
				p.pending(e.ID)
				p.Call(t.Context(), t, tc.fn, e, nil, 0, 21) // its answer is lost
				if r := p.Run(t, tc.fn, e); !strings.Contains(string(r.Output), `"`+tc.want+`"`) {
					t.Errorf("%s: got %s %s, want %s", tc.fn, r.Output, r.Error, tc.want)
				}
			}
			if got := len(p.smtp.Mails()); got != 1 {
				t.Errorf("got %d mails, want 1", got)
			}
			if left := p.left(t); len(left) != 1 || left[0] != "msg_"+sendWelcome { // which is not the mail's to clear
				t.Errorf("left in the inbox: %v", left)
			}
		})
	}
}

// TestTierOutlastsRequest: a tier does each step in a request of its own, also with a server that has checkpoints: the
// SDK would run all steps in one then, which the HTTP server cuts off.
func TestTierOutlastsRequest(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	t.Parallel()
	const writeTimeout, pages, page = 2 * time.Second, 8, 600 * time.Millisecond
	fake := testenv.NewClerkAPI(t)
	fake.Put(testenv.People(pages)...)
	fake.Fail = func(r *http.Request) int {
		select {
		case <-time.After(page):
		case <-r.Context().Done():
		}
		return 0
	}
	api, err := clerk.NewAPI(clerk.APIOptions{SecretKey: testenv.ClerkKey, URL: fake.URL, Share: 1, PageSize: 1})
	if err != nil {
		t.Fatal(err)
	}
	db := testenv.NewMemory().Connect(t, "test", nil, nil)
	r := &reconcile.Reconcile{
		API: api, Users: store.NewUsers(db, mapping.Default()), State: database.NewCheckpoints(db),
		Log: slog.New(slog.DiscardHandler), MaxDelete: 1,
	}
	crons := functions.Reconcile(r, map[reconcile.Tier]string{reconcile.Full: "* * * * *"})
	f := setupWith(t, functions.Functions{Crons: crons}, servers["checkpoints"])
	srv := httptest.NewUnstartedServer(f.Handler)
	srv.Config.WriteTimeout = writeTimeout
	srv.Start()
	t.Cleanup(srv.Close)
	to, err := url.Parse(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	f.Handler = httputil.NewSingleHostReverseProxy(to)
	f.Attempts = 10 // a busy machine may take longer than the time for a page
	start := time.Now()
	got := f.Run(t, "reconcile-users-with-clerk", testenv.Event{Name: "inngest/scheduled.timer", Data: []byte(`{}`)})
	if took := time.Since(start); got.Failed || took < 2*writeTimeout {
		t.Errorf("got %+v after %v, want a run that takes longer than %v", got, took, writeTimeout)
	}
}
