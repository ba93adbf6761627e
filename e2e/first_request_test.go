package e2e_test

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	firstrequest "clerksync/examples/first-request"
	"clerksync/internal/child"
	"clerksync/internal/testenv"
	"clerksync/internal/testenv/npm"

	"go.mongodb.org/mongo-driver/v2/bson"
	"golang.org/x/sync/errgroup"
)

const adminToken = "e2e-admin-token-e2e"

// TestFirstRequests: 200 users sign up, and while none of their webhooks has come, each sends five requests at once to
// an app with a helper of examples/first-request. All find the row, and Clerk is asked once for each user: for each
// helper alone, and when a user comes to all three apps at once. The webhooks that come then double nothing.
func TestFirstRequests(t *testing.T) {
	t.Parallel()
	endToEnd(t)
	node := npm.Project(t, "../examples/first-request")
	runNode(t, node, "node_modules/typescript/bin/tsc")
	tests := map[string]struct {
		app   testenv.App
		alone bool // each helper for itself, too
	}{
		"default map": {app: testenv.DefaultApp(), alone: true},
		"another key": {app: testenv.Apps(t)[1]},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fake := testenv.NewClerkAPI(t)
			w := newWorld(t, options{app: tt.app, env: askClerk(fake, testenv.ClerkKey)})
			apps := map[string]string{
				"Express": w.nodeApp(node, "testdata/express-app.js"),
				"Next.js": w.nodeApp(node, "testdata/nextjs-app.js"),
				"Go":      w.goApp(),
			}
			n := 200
			if tt.app.Map.Key != "_id" && w.dbAddr != "" {
				n = 10 // the embedded database reads the whole collection for each look-up by another key
			}
			everybody := testenv.People((len(apps) + 1) * n)
			everywhere := everybody[:n]
			if !tt.alone {
				everybody = everywhere
			}
			fake.Put(everybody...)
			left := everybody[n:]
			for name, url := range apps {
				if tt.alone {
					w.allFind(name, left[:n], url)
					left = left[n:]
				}
			}
			w.allFind("all at once", everywhere, apps["Express"], apps["Next.js"], apps["Go"])
			w.askedOnce(fake, everybody)
			before := w.everyRow()

			var late errgroup.Group
			late.SetLimit(16)
			for _, u := range everywhere {
				late.Go(func() error { w.deliver(changed(t, "user.created", u)); return nil })
			}
			_ = late.Wait() // deliver fails the test itself
			w.drained()
			after := w.everyRow()
			if len(after) != len(everybody) {
				t.Errorf("got %d rows, want %d", len(after), len(everybody))
			}
			for _, u := range everybody {
				got, first := after[u.ID], before[u.ID]
				if got["email"] != u.Email || got[tt.app.FullName] != "Ada "+u.LastName || got["_id"] != first["_id"] {
					t.Errorf("got %v for %s, at first %v", got, u.ID, first)
				}
			}
		})
	}
}

// TestFirstRequestsBeyondTheLimit: of a development instance's ten requests a second clerksync takes half, so 120 users
// who come at once need 24 s. Nobody waits for more than the helper's 10 s: it answers 503, and whoever comes again
// finds the row. Clerk is still asked once for each user.
func TestFirstRequestsBeyondTheLimit(t *testing.T) {
	t.Parallel()
	endToEnd(t)
	const key = "sk_test_" + "testenvtestenvtestenv"
	fake := testenv.NewClerkAPI(t)
	fake.SetKey(key)
	fake.Limit = 10 // in a second
	w := newWorld(t, options{env: askClerk(fake, key)})
	people := testenv.People(120)
	fake.Put(people...)
	w.allFind("a development key", people, w.goApp())
	w.askedOnce(fake, people)
}

// askedOnce checks that Clerk was asked for each user once.
func (w *world) askedOnce(fake *testenv.ClerkAPI, users []testenv.ClerkUser) {
	w.t.Helper()
	asked := map[string]int{}
	for _, r := range fake.Requests() {
		asked[strings.TrimSuffix(r, "?")]++
	}
	for _, u := range users {
		if n := asked["/v1/users/"+u.ID]; n != 1 {
			w.t.Errorf("Clerk was asked for %s %d times, want once", u.ID, n)
		}
	}
}

// askClerk returns settings for a service that asks Clerk for single users alone.
func askClerk(fake *testenv.ClerkAPI, key string) []string {
	return []string{
		"ADMIN_TOKEN=" + adminToken, "CLERK_SECRET_KEY=" + key, "CLERK_API_URL=" + fake.URL,
		"RECONCILE_RECENT_CRON=off", "RECONCILE_ABSENT_CRON=off", "RECONCILE_CRON=off", manyEvents,
	}
}

// runNode runs node to its end.
func runNode(t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "node", args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("node %v: %v\n%s", args, err, out)
	}
}

// nodeApp starts an app that prints its URL, and returns the URL.
func (w *world) nodeApp(dir, file string) string {
	w.t.Helper()
	cmd := exec.Command("node", "--import", "./testdata/no-next.js", file)
	cmd.Dir = dir
	cmd.Env = append(cmd.Environ(), "MONGODB_URI="+w.uri, "MONGODB_DATABASE="+w.name, "CLERKSYNC_URL="+w.url,
		"ADMIN_TOKEN="+adminToken, "COLLECTION="+w.app.Map.Collection, "KEY="+w.app.Map.Key)
	cmd.Stderr = w.log
	out, err := cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	app, err := child.Start(cmd)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { kill(app) })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		w.t.Fatalf("%s: %v\n%s", file, err, w.log)
	}
	return strings.TrimSpace(line)
}

// goApp starts an app in this process, and returns its URL.
func (w *world) goApp() string {
	rows := &firstrequest.Rows{
		Users: w.store.Database.Collection(w.app.Map.Collection), Key: w.app.Map.Key, URL: w.url, Token: adminToken,
		Log:    slog.New(slog.NewTextHandler(w.log, nil)),
		UserID: func(r *http.Request) string { return r.Header.Get("User") },
	}
	app := httptest.NewServer(rows.Require(http.HandlerFunc(func(res http.ResponseWriter, r *http.Request) {
		res.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(res, "{%q: %s}", w.app.Map.Key, firstrequest.Row(r.Context()).Lookup(w.app.Map.Key))
	})))
	w.t.Cleanup(app.Close)
	return app.URL
}

// allFind sends five requests of each user to each app, all at once. A request that gets 503 is sent again after
// Retry-After, as a page that reloads would. It logs how long the answers took.
func (w *world) allFind(what string, users []testenv.ClerkUser, urls ...string) {
	w.t.Helper()
	client := &http.Client{Timeout: patience, Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	var mu sync.Mutex
	var took, first []time.Duration
	refused := 0
	var all errgroup.Group
	for _, u := range users {
		for _, url := range slices.Repeat(urls, 5) {
			all.Go(func() error {
				begun := time.Now()
				for tries := 1; ; tries++ {
					code, after, err := w.me(client, url, u.ID)
					mu.Lock()
					if tries == 1 {
						first = append(first, time.Since(begun))
					}
					if code == http.StatusServiceUnavailable {
						refused++
					} else {
						took = append(took, time.Since(begun))
					}
					mu.Unlock()
					if code == http.StatusServiceUnavailable && tries < 20 {
						<-time.After(after)
						continue
					}
					return err
				}
			})
		}
	}
	if err := all.Wait(); err != nil {
		w.t.Errorf("%s: %v", what, err)
	}
	at := func(of []time.Duration, part float64) time.Duration {
		slices.Sort(of)
		return of[int(part*float64(len(of)-1))].Round(time.Millisecond)
	}
	w.t.Logf("%s: %d requests, first answer p50 %s p99 %s, row p50 %s p99 %s, %d times 503", what, len(first),
		at(first, 0.5), at(first, 0.99), at(took, 0.5), at(took, 0.99), refused)
}

// me makes a request of a user. The error says what is wrong with the answer.
func (w *world) me(client *http.Client, url, user string) (code int, after time.Duration, err error) {
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, url, nil)
	if err != nil {
		return 0, 0, err
	}
	req.Header.Set("User", user)
	res, err := client.Do(req)
	if err != nil {
		return 0, 0, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, 0, err
	}
	after, _ = time.ParseDuration(res.Header.Get("Retry-After") + "s")
	var row struct {
		ID      string `json:"_id"`
		ClerkID string `json:"clerkId"`
	}
	if res.StatusCode != http.StatusOK || json.Unmarshal(body, &row) != nil || user != cmp.Or(row.ClerkID, row.ID) {
		return res.StatusCode, after, fmt.Errorf("got %d %.100s for %s, want the row", res.StatusCode, body, user)
	}
	return res.StatusCode, after, nil
}

// everyRow returns the rows by user id.
func (w *world) everyRow() map[string]bson.M {
	w.t.Helper()
	found, err := w.store.Database.Collection(w.app.Map.Collection).Find(w.t.Context(), bson.M{})
	var all []bson.M
	if err == nil {
		err = found.All(w.t.Context(), &all)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	byID := map[string]bson.M{}
	for _, r := range all {
		id := fmt.Sprint(r[w.app.Map.Key])
		if byID[id] != nil {
			w.t.Errorf("%s has two rows", id)
		}
		byID[id] = r
	}
	return byID
}

// changed returns the webhook of a user as the API has the user.
func changed(t *testing.T, typ string, u testenv.ClerkUser) testenv.Webhook {
	t.Helper()
	body, err := json.Marshal(map[string]any{
		"type": typ, "object": "event", "timestamp": u.Updated, "data": u.JSON(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return testenv.Webhook{ID: "msg_" + u.ID + typ, Type: typ, Body: body}
}
