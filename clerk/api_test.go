package clerk_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"clerksync/clerk"
	"clerksync/internal/testenv"

	"github.com/google/go-cmp/cmp"
)

func api(t *testing.T, fake *testenv.ClerkAPI, pageSize int) *clerk.API {
	t.Helper()
	a, err := clerk.NewAPI(clerk.APIOptions{
		SecretKey: testenv.ClerkKey, URL: fake.URL + "/", Share: 1, PageSize: pageSize,
	})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestListCreated: every user is listed once, whatever happens between the pages.
func TestListCreated(t *testing.T) {
	t.Parallel()
	people := testenv.People(25)
	for name, tc := range map[string]struct {
		noCursor bool
		between  func(*testenv.ClerkAPI, int) // before page n
		missing  []int
	}{
		"by cursor": {},
		"by offset": {noCursor: true},
		"by offset, one is gone": {
			noCursor: true, between: func(a *testenv.ClerkAPI, n int) { remove(a, n, 1, people[2]) }, missing: nil,
		},
		"the last listed is gone": {between: func(a *testenv.ClerkAPI, n int) { remove(a, n, 1, people[9]) }},
		"the last one of all": {
			between: func(a *testenv.ClerkAPI, n int) { remove(a, n, 2, people[24]) }, missing: []int{24},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fake := testenv.NewClerkAPI(t)
			fake.NoCursor = tc.noCursor
			fake.Put(people...)
			c := api(t, fake, 10)
			seen := map[string]int{}
			for n, next := 0, ""; n == 0 || next != ""; n++ {
				if tc.between != nil {
					tc.between(fake, n)
				}
				p, err := c.ListCreated(t.Context(), next)
				if err != nil {
					t.Fatal(err)
				}
				for _, u := range p.Users {
					seen[u.ID]++
				}
				if next = p.Next; n > 10 {
					t.Fatal("it does not end")
				}
			}
			for _, i := range tc.missing {
				seen[people[i].ID]++
			}
			for i, u := range people {
				if seen[u.ID] == 0 {
					t.Errorf("user %d is missing", i)
				}
			}
			if tc.between == nil && len(seen) != 25 {
				t.Errorf("got %d users", len(seen))
			}
			for id, n := range seen {
				if tc.between == nil && n != 1 {
					t.Errorf("%s was listed %d times", id, n)
				}
			}
		})
	}
}

// TestPassedOver: when the user of the cursor is deleted, and whoever else before him, nobody who is there all the time
// is passed over.
func TestPassedOver(t *testing.T) {
	t.Parallel()
	const all, page = 800, 100
	people := testenv.People(all)
	same := testenv.People(all) // an import: hundreds of the same moment
	for i := 120; i < 600; i++ {
		same[i].Created = same[120].Created
	}
	for kind, set := range map[string]func(*testenv.ClerkAPI){
		"422":        func(*testenv.ClerkAPI) {},
		"404":        func(a *testenv.ClerkAPI) { a.GoneCursor = http.StatusNotFound },
		"empty page": func(a *testenv.ClerkAPI) { a.GoneCursor = http.StatusOK },
		"no cursor":  func(a *testenv.ClerkAPI) { a.NoCursor = true },
	} {
		for name, tc := range map[string]struct {
			people   []testenv.ClerkUser
			deleted  int // the last that were listed,
			from, to int // before these pages
			most     int // are listed: everybody once, if it can be told
		}{
			"one a page":           {people, 1, 1, 100, all},
			"40 a page":            {people, 40, 1, 100, all},
			"60 a page":            {people, 60, 1, 100, all}, // more than the overlap
			"all that were listed": {people, 100, 1, 100, all},
			"half of all at once":  {people, 400, 4, 4, all},
			"one, of one moment":   {same, 1, 2, 3, all + 2*280},
			"60, of one moment":    {same, 60, 2, 3, all + 2*280},
		} {
			t.Run(kind+", "+name, func(t *testing.T) {
				t.Parallel()
				fake := testenv.NewClerkAPI(t)
				set(fake)
				fake.Put(tc.people...)
				c := api(t, fake, page)
				seen, deleted := map[string]bool{}, map[string]bool{}
				var listed []string
				for n, next := 0, ""; n == 0 || next != ""; n++ {
					if n >= tc.from && n <= tc.to {
						for i := max(0, len(listed)-tc.deleted); i < len(listed); i++ {
							deleted[listed[i]] = true
							fake.Remove(listed[i])
						}
					}
					p, err := c.ListCreated(t.Context(), next)
					if err != nil {
						t.Fatal(err)
					}
					for _, u := range p.Users {
						seen[u.ID] = true
						listed = append(listed, u.ID)
					}
					if next = p.Next; n > 100 {
						t.Fatal("it does not end")
					}
				}
				lost := 0
				for _, u := range tc.people {
					if !seen[u.ID] && !deleted[u.ID] {
						lost++
					}
				}
				if lost > 0 {
					t.Errorf("%d of %d users are passed over", lost, len(tc.people))
				}
				if len(listed) > tc.most {
					t.Errorf("%d are listed, want %d at the most", len(listed), tc.most)
				}
			})
		}
	}
}

// TestListChangedMissesNobody: when users are deleted or changed who were listed already, nobody else is missed in the
// list of the last changed.
func TestListChangedMissesNobody(t *testing.T) {
	t.Parallel()
	const page = 20
	for name, between := range map[string]func(fake *testenv.ClerkAPI, listed []string){
		"nothing":          func(*testenv.ClerkAPI, []string) {},
		"one is deleted":   func(fake *testenv.ClerkAPI, listed []string) { fake.Remove(listed[0]) },
		"ten are deleted":  func(fake *testenv.ClerkAPI, listed []string) { fake.Remove(listed[len(listed)-10:]...) },
		"some are changed": func(fake *testenv.ClerkAPI, listed []string) { change(fake, listed[:15]) },
		"all are changed":  func(fake *testenv.ClerkAPI, listed []string) { change(fake, listed) },
	} {
		for _, n := range []int{0, 1, page - 1, page, page + 1, 5 * page} {
			t.Run(fmt.Sprintf("%s of %d", name, n), func(t *testing.T) {
				t.Parallel()
				fake := testenv.NewClerkAPI(t)
				people := testenv.People(n)
				fake.Put(people...)
				c := api(t, fake, page)
				seen := map[string]int{}
				for pages, next := 0, ""; pages == 0 || next != ""; pages++ {
					p, err := c.ListChanged(t.Context(), next)
					if err != nil || pages > 20 {
						t.Fatalf("page %d: %v", pages, err)
					}
					var listed []string
					for _, u := range p.Users {
						seen[u.ID]++
						listed = append(listed, u.ID)
					}
					if next = p.Next; len(listed) >= 10 && pages < 3 {
						between(fake, listed)
					}
				}
				for _, u := range people {
					_, there := fake.Get(u.ID)
					if there && seen[u.ID] == 0 || name == "nothing" && seen[u.ID] != 1 {
						t.Errorf("%s was listed %d times", u.ID, seen[u.ID])
					}
				}
			})
		}
	}
}

// change changes users now.
func change(fake *testenv.ClerkAPI, ids []string) {
	for _, id := range ids {
		if u, ok := fake.Get(id); ok {
			u.Updated = time.Now().UnixMilli()
			fake.Put(u)
		}
	}
}

// TestCursorIgnored: an API that does not know starting_after lists from the beginning again; that is noticed.
func TestCursorIgnored(t *testing.T) {
	t.Parallel()
	fake := testenv.NewClerkHandler()
	fake.Put(testenv.People(25)...)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		q.Del("starting_after")
		r.URL.RawQuery = q.Encode()
		fake.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	fake.Server = s
	c := api(t, fake, 10)
	got := 0
	for n, next := 0, ""; n == 0 || next != ""; n++ {
		p, err := c.ListCreated(t.Context(), next)
		if err != nil {
			t.Fatal(err)
		}
		if got, next = got+len(p.Users), p.Next; n > 10 {
			t.Fatal("it does not end")
		}
	}
	if got != 25 {
		t.Errorf("got %d users, want 25", got)
	}
}

// TestUnreadable: users who cannot be read are named, and a page of nothing else is not taken for the last.
func TestUnreadable(t *testing.T) {
	t.Parallel()
	fake := testenv.NewClerkAPI(t)
	people := testenv.People(30)
	for i := 10; i < 20; i++ {
		people[i].Raw = fmt.Appendf(nil, `{"id":%q,"object":"user","first_name":[1],"created_at":%d}`, people[i].ID,
			people[i].Created)
	}
	fake.Put(people...)
	c := api(t, fake, 10)
	users, skipped := 0, map[string]bool{}
	for n, next := 0, ""; n == 0 || next != ""; n++ {
		p, err := c.ListCreated(t.Context(), next)
		if err != nil {
			t.Fatal(err)
		}
		users, next = users+len(p.Users), p.Next
		for _, s := range p.Skipped {
			if skipped[s.ID] = true; !errors.Is(s.Err, clerk.ErrNotUser) ||
				!strings.Contains(s.Err.Error(), "first_name") {
				t.Errorf("%s: got %v, want the field", s.ID, s.Err)
			}
		}
	}
	if users != 20 || len(skipped) != 10 || !skipped[people[10].ID] {
		t.Errorf("got %d users, and %v are skipped", users, skipped)
	}
}

func remove(a *testenv.ClerkAPI, n, at int, u testenv.ClerkUser) {
	if n == at {
		a.Remove(u.ID)
	}
}

// TestFullPages: a number of users that is a multiple of the page ends, and so does an instance without users.
func TestFullPages(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 10, 20} {
		fake := testenv.NewClerkAPI(t)
		fake.Put(testenv.People(n)...)
		c := api(t, fake, 10)
		got := 0
		for next, first := "", true; first || next != ""; first = false {
			p, err := c.ListCreated(t.Context(), next)
			if err != nil {
				t.Fatal(err)
			}
			got, next = got+len(p.Users), p.Next
		}
		if got != n {
			t.Errorf("got %d users, want %d", got, n)
		}
	}
}

func TestAPI(t *testing.T) {
	t.Parallel()
	fake := testenv.NewClerkAPI(t)
	people := testenv.People(30)
	people[3].Updated += 1_000_000
	fake.Put(people...)
	c := api(t, fake, 20)
	before := clerk.Millis(time.Now().Add(-2 * time.Second).UnixMilli())

	p, err := c.ListChanged(t.Context(), "")
	if err != nil || len(p.Users) != 20 || p.Users[0].ID != people[3].ID || p.Next == "" {
		t.Errorf("got %d users, next %q, %v", len(p.Users), p.Next, err)
	}
	if p.At < before || p.At > clerk.Millis(time.Now().UnixMilli()) {
		t.Errorf("asked at %v", p.At.Time())
	}
	has, err := c.ListIDs(t.Context(), []string{people[1].ID, "user_none", people[29].ID})
	if want := map[string]bool{people[1].ID: true, people[29].ID: true}; err != nil || !cmp.Equal(want, has) {
		t.Errorf("got %v, %v, want %v", has, err, want)
	}
	if has, err := c.ListIDs(t.Context(), nil); err != nil || len(has) != 0 {
		t.Errorf("of nobody: got %v, %v, want nobody", has, err)
	}
	f, err := c.User(t.Context(), people[1].ID)
	if u := f.User; err != nil || u.FullName != "Ada Lovelace 1" || u.Email != "person-1@mail.example" {
		t.Errorf("got %+v, %v", f, err)
	}
	if _, err := c.User(t.Context(), "user_none"); !errors.Is(err, clerk.ErrNoUser) {
		t.Errorf("got %v, want ErrNoUser", err)
	}
	if n, err := c.Count(t.Context()); err != nil || n != 30 {
		t.Errorf("got %d, %v", n, err)
	}
	if n, err := c.CountCreated(t.Context(), time.UnixMilli(people[9].Created)); err != nil || n != 20 {
		t.Errorf("got %d, %v", n, err)
	}
	if id, err := c.Instance(t.Context()); err != nil || id != testenv.ClerkInstance {
		t.Errorf("got %q, %v", id, err)
	}
}

// TestAPIFails: what may succeed is tried again, what cannot is not, and no error quotes the key or an id.
func TestAPIFails(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		fail  []int // the first answers
		want  string
		tries int32
	}{
		"it stumbles":            {[]int{500, 503}, "", 3},
		"too many requests":      {[]int{429}, "", 2},
		"it has a fault":         {[]int{500, 500, 500, 500, 500}, "500 injected: Clerk has a fault: try again", 5},
		"the key is not taken":   {[]int{401, 401}, "the secret key is not accepted", 1},
		"the request is refused": {[]int{400, 400}, "answer 400 injected", 1},
		"404 but not of Clerk":   {[]int{404, 404}, "check the URL of Clerk's API", 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fake := testenv.NewClerkAPI(t)
			fake.Put(testenv.People(1)...)
			var n atomic.Int32
			fake.Fail = func(*http.Request) int {
				if i := int(n.Add(1)) - 1; i < len(tc.fail) {
					return tc.fail[i]
				}
				return 0
			}
			_, err := api(t, fake, 0).User(t.Context(), testenv.People(1)[0].ID)
			got := ""
			if err != nil {
				got = err.Error()
			}
			if (tc.want == "") != (err == nil) || !strings.Contains(got, tc.want) || strings.Contains(got, "user_2") ||
				strings.Contains(got, "sk_live") {
				t.Errorf("got %v, want %q", err, tc.want)
			}
			if n.Load() != tc.tries {
				t.Errorf("got %d tries, want %d", n.Load(), tc.tries)
			}
		})
	}
}

// TestAnsweredAt: At is the earlier of both clocks when Clerk was asked, AnsweredAt the later when the answer was
// there. A Date header is whole seconds.
func TestAnsweredAt(t *testing.T) {
	t.Parallel()
	for name, ahead := range map[string]time.Duration{
		"Clerk's clock is ahead":  time.Hour,
		"Clerk's clock is behind": -time.Hour, "no Date": 0,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fake := testenv.NewClerkHandler()
			fake.Put(testenv.People(1)...)
			date := time.Now().Add(ahead)
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header()["Date"] = nil
				if ahead != 0 {
					w.Header().Set("Date", date.UTC().Format(http.TimeFormat))
				}
				fake.ServeHTTP(w, r)
			}))
			t.Cleanup(s.Close)
			c, err := clerk.NewAPI(clerk.APIOptions{SecretKey: testenv.ClerkKey, URL: s.URL, Share: 1})
			if err != nil {
				t.Fatal(err)
			}
			type times struct{ at, answered clerk.Millis }
			ask := map[string]func() (times, error){
				"page": func() (times, error) {
					p, err := c.ListCreated(t.Context(), "")
					return times{p.At, p.AnsweredAt}, err
				},
				"user": func() (times, error) {
					f, err := c.User(t.Context(), testenv.People(1)[0].ID)
					return times{f.At, f.AnsweredAt}, err
				},
				"nobody": func() (times, error) {
					f, err := c.User(t.Context(), "user_none")
					if !errors.Is(err, clerk.ErrNoUser) {
						return times{}, fmt.Errorf("got %w, want ErrNoUser", err)
					}
					return times{f.At, f.AnsweredAt}, nil
				},
			}
			for what, f := range ask {
				before := clerk.Millis(time.Now().UnixMilli())
				got, err := f()
				after := clerk.Millis(time.Now().UnixMilli())
				if err != nil {
					t.Fatal(err)
				}
				second := clerk.Millis(date.Truncate(time.Second).UnixMilli())
				asked, answered := got.at >= before && got.at <= after, got.answered >= got.at && got.answered <= after
				if ahead < 0 {
					asked = got.at == second
				}
				if ahead > 0 {
					answered = got.answered == second+1000
				}
				if !asked || !answered {
					t.Errorf("%s: got %+v, between %d and %d, Date %d", what, got, before, after, second)
				}
			}
		})
	}
}

// TestHalfAnAnswer: a 200 whose body is not what was asked for is a proxy's or broke off, and is tried again like a
// 502.
func TestHalfAnAnswer(t *testing.T) {
	t.Parallel()
	user := testenv.People(1)[0]
	for name, body := range map[string]string{
		"half":    string(user.JSON()[:100]),
		"HTML":    "<!DOCTYPE html><html><body>Just a moment...</body></html>",
		"nothing": "",
		"null":    " null\n",
		"another": `"ok"`,
		"two":     string(user.JSON()) + string(user.JSON()),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for what, ask := range map[string]func(*clerk.API) error{
				"list": func(c *clerk.API) error {
					p, err := c.ListCreated(t.Context(), "")
					if err == nil && len(p.Users) != 1 {
						err = fmt.Errorf("got %d users", len(p.Users))
					}
					return err
				},
				"user":     func(c *clerk.API) error { _, err := c.User(t.Context(), user.ID); return err },
				"count":    func(c *clerk.API) error { _, err := c.Count(t.Context()); return err },
				"instance": func(c *clerk.API) error { _, err := c.Instance(t.Context()); return err },
			} {
				fake := testenv.NewClerkAPI(t)
				fake.Put(user)
				var n atomic.Int32
				fake.Body = func(*http.Request) (string, bool) { return body, n.Add(1) == 1 }
				if err := ask(api(t, fake, 0)); err != nil || n.Load() != 2 {
					t.Errorf("%s: got %v after %d tries, want none after 2", what, err, n.Load())
				}
			}
		})
	}
}

// TestRateLimit: Retry-After is waited for.
func TestRateLimit(t *testing.T) {
	t.Parallel()
	fake := testenv.NewClerkAPI(t)
	fake.Limit = 2
	c := api(t, fake, 0)
	start := time.Now()
	for range 3 {
		if _, err := c.Count(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if d := time.Since(start); d < 900*time.Millisecond {
		t.Errorf("the third answer came after %v, before Retry-After", d)
	}
}

// TestNoTimeForTheAnswer: a request whose turn by the rate limit comes too late for its answer is not sent. When many
// calls with a deadline waited, each new one was sent just before its deadline, and its answer was lost.
func TestNoTimeForTheAnswer(t *testing.T) {
	t.Parallel()
	fake := testenv.NewClerkAPI(t)
	fake.SetKey("sk_test_x")
	c, err := clerk.NewAPI(clerk.APIOptions{SecretKey: "sk_test_x", URL: fake.URL, Share: 0.1}) // one in a second
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
	defer cancel()
	if _, err := c.Count(ctx); err == nil || len(fake.Requests()) > 0 {
		t.Errorf("got %v after %d requests, want an error without any", err, len(fake.Requests()))
	}
}

// TestLongRetryAfter: what Clerk wants to be left alone for longer than a call may last is not tried again.
func TestLongRetryAfter(t *testing.T) {
	t.Parallel()
	var n atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		n.Add(1)
		w.Header().Set("Retry-After", "31")
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	t.Cleanup(s.Close)
	c, err := clerk.NewAPI(clerk.APIOptions{SecretKey: testenv.ClerkKey, URL: s.URL, Share: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Count(t.Context()); err == nil || !strings.Contains(err.Error(), "answer 503") || n.Load() != 1 {
		t.Errorf("got %v after %d tries, want the answer 503 of the first", err, n.Load())
	}
}

// TestCauseIsNotLost: when the time of a call was over between two requests, the error was only that.
func TestCauseIsNotLost(t *testing.T) {
	t.Parallel()
	silent, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })
	for to, want := range map[string]string{
		"127.0.0.1:1":          "no answer from Clerk's API at CLERK_API_URL: in words: dial tcp 127.0.0.1:1: ",
		silent.Addr().String(): "no answer from Clerk's API at CLERK_API_URL: in words: context deadline exceeded",
	} {
		a, err := clerk.NewAPI(clerk.APIOptions{
			SecretKey: testenv.ClerkKey, URL: "http://" + to, URLName: "CLERK_API_URL", Share: 1,
			Explain: func(err error) error { return fmt.Errorf("in words: %w", err) },
		})
		if err != nil {
			t.Fatal(err)
		}
		// The next try is after 250 ms at the least.
		testenv.Within(t, 200*time.Millisecond, func(ctx context.Context) bool {
			_, err = a.Count(ctx)
			return err != nil && strings.Contains(err.Error(), want)
		})
		if err == nil || !strings.Contains(err.Error(), want) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: got %v, want %q", to, err, want)
		}
	}
}

// TestCancelledWait: a call that waits for its next attempt ends with its context.
func TestCancelledWait(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{}, 5)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "29")
		w.WriteHeader(http.StatusTooManyRequests)
		asked <- struct{}{}
	}))
	t.Cleanup(s.Close)
	c, err := clerk.NewAPI(clerk.APIOptions{SecretKey: testenv.ClerkKey, URL: s.URL, Share: 1})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-asked; cancel() }()
	start := time.Now()
	if _, err := c.Count(ctx); !errors.Is(err, context.Canceled) || time.Since(start) > 20*time.Second {
		t.Errorf("got %v after %v, want that it is cancelled", err, time.Since(start))
	}
}

func TestCheckKey(t *testing.T) {
	t.Parallel()
	got := map[string]bool{}
	for _, k := range []string{"", "pk_live_x", "sk_live_x", "sk_test_x"} {
		_, err := clerk.NewAPI(clerk.APIOptions{SecretKey: k, Share: 1})
		got[k] = err == nil
	}
	if d := cmp.Diff(map[string]bool{"": false, "pk_live_x": false, "sk_live_x": true, "sk_test_x": true},
		got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

// TestObserve: each request is told with the kind of its endpoint, those that are tried again too, and never with an
// id. An answer that does not come has no status.
func TestObserve(t *testing.T) {
	t.Parallel()
	people := testenv.People(1)
	fake := testenv.NewClerkAPI(t)
	fake.Put(people...)
	a := api(t, fake, 10)
	var got []string
	a.Observe(func(ctx context.Context, r clerk.Request) {
		if r.Took <= 0 || ctx == nil {
			t.Errorf("%v took %v", r.Endpoint, r.Took)
		}
		got = append(got, fmt.Sprint(r.Endpoint, " ", r.Status))
	})
	ctx := t.Context()
	_, _ = a.ListCreated(ctx, "")
	_, _ = a.ListIDs(ctx, []string{people[0].ID})
	_, _ = a.User(ctx, people[0].ID)
	_, _ = a.User(ctx, "user_?a=/v1/../x") // of anything that looks like a path
	_, _ = a.Count(ctx)
	_, _ = a.CountCreated(ctx, time.Now())
	_, _ = a.Instance(ctx)
	fake.SetKey("sk_test_another")
	_, _ = a.Count(ctx)
	want := []string{
		"users 200", "users 200", "user 200", "user 404", "count 200", "count 200", "instance 200", "count 401",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}

	cut := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = w.Write([]byte("{"))
	}))
	defer cut.Close()
	b, err := clerk.NewAPI(clerk.APIOptions{SecretKey: testenv.ClerkKey, URL: cut.URL, Share: 1})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(ctx)
	got = nil
	b.Observe(func(_ context.Context, r clerk.Request) {
		got = append(got, fmt.Sprint(r.Endpoint, " ", r.Status))
		cancel()
	})
	_, _ = b.Count(ctx)
	if d := cmp.Diff([]string{"count 0"}, got); d != "" {
		t.Errorf("an answer that is cut off (-want +got):\n%s", d)
	}
	for _, r := range append(want, got...) {
		if kind, _, _ := strings.Cut(r, " "); !slices.Contains([]string{"users", "user", "count", "instance"}, kind) {
			t.Errorf("%s is no kind of endpoint", kind)
		}
	}
}
