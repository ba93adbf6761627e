package firstrequest

import (
	"cmp"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"clerksync/internal/testenv"
	"clerksync/internal/testenv/npm"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// TestRequire: who is new gets a row by one request to clerksync, who is absent costs one, and what clerksync answers
// besides passes on as 503.
func TestRequire(t *testing.T) {
	t.Parallel()
	type answer struct {
		code int
		body string
	}
	const user, deleted = "user_2new", `{"error":"the user is deleted"}` + "\n"
	tests := map[string]struct {
		nobody, there bool
		key           string
		written       string   // the key under which clerksync writes the row; "" means _id
		answers       []answer // clerksync's, the last one for ever; a code below 0 breaks off
		want          []int    // for one request after the other
		atOnce        int
		asks          int // with atOnce: one at a time, and at least so many
	}{
		"nobody is signed in":    {nobody: true, want: []int{401}},
		"the row is there":       {there: true, want: []int{200}},
		"a new user":             {answers: []answer{{200, "{}"}}, want: []int{200, 200}, asks: 1},
		"a new user, 50 at once": {answers: []answer{{200, "{}"}}, want: []int{200}, atOnce: 50, asks: 1},
		"another key": {
			key: "clerkId", written: "clerkId", answers: []answer{{200, "{}"}}, want: []int{200}, asks: 1,
		},
		"the wrong key":                 {key: "email", answers: []answer{{200, "{}"}}, want: []int{503}, asks: 1},
		"a deleted user's old session":  {answers: []answer{{410, deleted}}, want: []int{403, 403}, asks: 1},
		"Clerk does not know the user":  {answers: []answer{{404, deleted}}, want: []int{403, 403}, asks: 1},
		"another server's 404":          {answers: []answer{{404, "<p>"}, {200, "{}"}}, want: []int{503, 200}, asks: 2},
		"the wrong token":               {answers: []answer{{401, `{"error":""}`}}, want: []int{503}, asks: 1},
		"503 that passes":               {answers: []answer{{503, "{}"}, {200, "{}"}}, want: []int{200}, asks: 2},
		"503 that stays":                {answers: []answer{{503, "{}"}}, want: []int{503}, asks: 2},
		"503, then deleted":             {answers: []answer{{503, "{}"}, {410, deleted}}, want: []int{403}, asks: 2},
		"it breaks off, and comes back": {answers: []answer{{-1, ""}, {200, "{}"}}, want: []int{503, 200}, asks: 2},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			users := testenv.NewMemory().Connect(t, "test", nil, nil).Database.Collection("users")
			insert := func() {
				row := bson.M{cmp.Or(tt.written, "_id"): user}
				if n, err := users.CountDocuments(t.Context(), row); err != nil || n > 0 {
					return // a request that read just before the row was written asks once more
				}
				if _, err := users.InsertOne(t.Context(), row); err != nil {
					t.Error(err)
				}
			}
			if tt.there {
				insert()
			}
			var asks, inFlight atomic.Int32
			clerksync := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if inFlight.Add(1) > 1 {
					t.Error("clerksync is asked twice at the same time")
				}
				defer inFlight.Add(-1)
				a := tt.answers[min(int(asks.Add(1)), len(tt.answers))-1]
				if got, want := r.Method+" "+r.URL.Path, "POST /users/"+user+"/ensure"; got != want {
					t.Errorf("got %s, want %s", got, want)
				}
				if got := r.Header.Get("Authorization"); got != "Bearer the token" {
					t.Errorf("got %q for authorization", got)
				}
				switch a.code {
				case -1:
					panic(http.ErrAbortHandler)
				case http.StatusOK:
					insert()
				}
				w.WriteHeader(a.code)
				fmt.Fprint(w, a.body)
			}))
			defer clerksync.Close()
			signedIn := user
			if tt.nobody {
				signedIn = ""
			}
			rows := &Rows{
				Users: users, Key: tt.key, URL: clerksync.URL, Token: "the token",
				Log:    slog.New(slog.DiscardHandler),
				UserID: func(*http.Request) string { return signedIn },
			}
			app := rows.Require(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if id := Row(r.Context()).Lookup(cmp.Or(tt.written, "_id")).StringValue(); id != user {
					t.Errorf("got the row of %q", id)
				}
			}))
			for _, want := range tt.want {
				var wg sync.WaitGroup
				for range max(1, tt.atOnce) {
					wg.Go(func() {
						res := httptest.NewRecorder()
						app.ServeHTTP(res, httptest.NewRequest(http.MethodGet, "/me", nil))
						if res.Code != want {
							t.Errorf("got %d, want %d", res.Code, want)
						}
						if after := res.Header().Get("Retry-After"); (after != "") != (want == 503) {
							t.Errorf("got %d with Retry-After %q", res.Code, after)
						}
					})
				}
				wg.Wait()
			}
			if got := int(asks.Load()); got != tt.asks && (tt.atOnce == 0 || got < tt.asks) {
				t.Errorf("clerksync was asked %d times, want %d", got, tt.asks)
			}
		})
	}
}

// TestAbsentIsBounded: however many users are absent, what is kept of them has a size and an end.
func TestAbsentIsBounded(t *testing.T) {
	t.Parallel()
	var rows Rows
	for i := range absentMost + 10 {
		rows.remember(fmt.Sprint("user_", i))
	}
	last := fmt.Sprint("user_", absentMost+9)
	if got := len(rows.absent); got != absentMost {
		t.Errorf("%d are kept, want %d", got, absentMost)
	}
	if until := time.Until(rows.absent[last]); until <= 0 || until > absentFor {
		t.Errorf("%s is kept for %s, want at most %s", last, until, absentFor)
	}
}

// TestNode: the helper for Next.js compiles, and the cases in first-request.test.js pass.
func TestNode(t *testing.T) {
	t.Parallel()
	dir := npm.Project(t, ".")
	for _, args := range [][]string{
		{"node_modules/typescript/bin/tsc"},
		{"--import", "./testdata/no-next.js", "--test", "first-request.test.js"},
	} {
		cmd := exec.CommandContext(t.Context(), "node", args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("node %v: %v\n%s", args, err, out)
		}
	}
}

// TestDocsQuote: what docs/your-app.md shows of a helper stands in its first comment.
func TestDocsQuote(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../../docs/your-app.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"require-user.js", "current-row.ts", "first_request.go"} {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var quoted strings.Builder
		for line := range strings.Lines(string(b)) {
			text, isComment := strings.CutPrefix(line, "//")
			if !isComment {
				break
			}
			if code, ok := strings.CutPrefix(text, "   "); ok {
				quoted.WriteString(code)
			} else if code, ok := strings.CutPrefix(text, "\t"); ok {
				quoted.WriteString(code)
			}
		}
		if quoted.Len() == 0 || !strings.Contains(string(doc), "\n"+quoted.String()+"```") {
			t.Errorf("docs/your-app.md does not quote the comment in %s:\n%s", name, &quoted)
		}
	}
}
