package status_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"clerksync/activity"
	"clerksync/app"
	"clerksync/clerk"
	"clerksync/config"
	"clerksync/internal/dev"
	"clerksync/internal/testenv"
	"clerksync/internal/testenv/browser"
	"clerksync/internal/testenv/npm"
	"clerksync/store"
	"clerksync/store/mapping"

	"github.com/chromedp/chromedp/kb"
)

const adminToken = "a-token-of-many-characters"

// service is a whole service on a database in memory, with an Inngest in this process.
type service struct {
	t       *testing.T
	memory  *testenv.Memory
	inngest *testenv.Inngest
	set     []string // its settings
	dev     *app.Dev
	url     string
	stop    func()
}

// start starts a service that ends with the test. In development mode the page is open, and has its buttons.
func start(t *testing.T, development bool) *service {
	t.Helper()
	s := &service{t: t, memory: testenv.NewMemory(), inngest: testenv.NewInngest(t)}
	s.set = []string{
		"HOST=127.0.0.1", "CLERK_WEBHOOK_SIGNING_SECRET=" + testenv.Secret, "INNGEST_DEV=" + s.inngest.URL,
		"MONGODB_URI=" + s.memory.Listen(t, func(string) int32 { return 0 }), "MONGODB_DATABASE=test",
		"SHUTDOWN_TIMEOUT=2s",
	}
	if development {
		s.dev = &app.Dev{
			Play:   (&dev.Player{Secret: testenv.Secret}).Play,
			Routes: func(*activity.Activity, *store.Users) http.Handler { return http.NotFoundHandler() },
		}
	} else {
		s.set = append(s.set, "ADMIN_TOKEN="+adminToken)
	}
	s.set = append(s.set, fmt.Sprint("PORT=", testenv.FreePort(t)))
	s.run()
	return s
}

// run starts the service.
func (s *service) run(set ...string) {
	s.t.Helper()
	cfg, mistakes := config.Read(append(s.set, set...), nil)
	if err := mistakes.Err(); err != nil {
		s.t.Fatal(err)
	}
	a, err := app.New(s.t.Context(), app.Options{
		Config: cfg, Map: mapping.Default(), Log: slog.New(slog.DiscardHandler), Dev: s.dev,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.url = a.URL()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	stopped := false
	s.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := errors.Join(<-ended, a.Close(context.Background())); err != nil {
			s.t.Errorf("the service ended with %v", err)
		}
	}
	s.t.Cleanup(s.stop)
}

// restart stops the service and starts it on the same port.
func (s *service) restart(set ...string) {
	s.t.Helper()
	s.stop()
	s.run(set...)
}

// post posts a webhook about a user, whose data gets these values.
func (s *service) post(typ, userID string, values map[string]any) {
	s.t.Helper()
	data := map[string]any{
		"object": "user", "id": userID, "first_name": "Ada", "last_name": "Lovelace", "email_addresses": []any{},
		"created_at": time.Now().UnixMilli(), "updated_at": time.Now().UnixMilli(),
	}
	maps.Copy(data, values)
	raw, err := json.Marshal(data)
	if err != nil {
		s.t.Fatal(err)
	}
	s.postData(typ, raw)
}

// postData posts a webhook with this data.
func (s *service) postData(typ string, data json.RawMessage) {
	s.t.Helper()
	event, err := dev.Event(typ, data)
	if err != nil {
		s.t.Fatal(err)
	}
	code, said, err := dev.Post(s.t.Context(), s.url+"/webhooks/clerk", testenv.Secret, dev.MessageID(), event)
	if err != nil || code != http.StatusAccepted {
		s.t.Fatalf("got %d %s, %v, want 202", code, said, err)
	}
}

// deadLetter has an event of a new user fail for good.
func (s *service) deadLetter(userID string) {
	s.t.Helper()
	s.inngest.Break(true)
	s.post(clerk.UserCreated, userID, nil)
	for !s.holds("clerksync_inbox", "failure") {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-s.t.Context().Done():
			s.t.Fatal("it never failed for good")
		}
	}
	s.inngest.Break(false)
}

// holds tells whether a document of the collection has the field.
func (s *service) holds(collection, field string) bool {
	for _, d := range s.memory.Docs("test", collection) {
		if testenv.Doc(d).Get(field) != nil {
			return true
		}
	}
	return false
}

// id returns an id in the form of Clerk's.
func id(name string) string { return ("user_2" + name + strings.Repeat("0", 27))[:32] }

// logIn opens the page and logs in.
func logIn(tab *browser.Tab) {
	tab.Allow("status of 401")
	tab.Go("/status")
	tab.Type("#token", adminToken)
	if code := tab.Follow("#login button"); code != http.StatusOK {
		panic(fmt.Sprint("the login ended with ", code))
	}
}

// isLive is true when the page is told of changes.
const isLive = `document.getElementById('live')?.textContent === 'Live.'`

// TestBrowser is what a visitor of the page sees and does, in a real browser with a real service. Nothing that goes
// wrong there passes, see browser.Tab: no error in the console, no violation of the Content-Security-Policy, no request
// for anything but the service.
func TestBrowser(t *testing.T) {
	t.Parallel()
	b := browser.Start(t)

	t.Run("live update after a webhook", func(t *testing.T) {
		t.Parallel()
		s := start(t, true)
		tab := b.Open(t, s.url, browser.Look{})
		if code := tab.Go("/status"); code != http.StatusOK {
			t.Fatalf("got %d, want 200", code)
		}
		tab.UntilText("#headline", "ready")
		tab.UntilText("#last-webhook", "none yet")
		tab.Shot("dev-empty")
		tab.Until(isLive)
		browser.Eval[any](tab, "window.stays = 1, null") // gone after a reload
		s.post(clerk.UserCreated, id("live"), nil)
		tab.UntilText("#headline", "^It works$")
		tab.UntilText("#last-webhook", "ago")
		tab.UntilText("#users", "^Users\\s*1\\b")
		if !browser.Eval[bool](tab, "window.stays === 1") {
			t.Error("the page was loaded again: want it to change in its place")
		}
		tab.Shot("dev-live")
	})

	t.Run("buttons of dev", func(t *testing.T) {
		t.Parallel()
		s := start(t, true)
		tab := b.Open(t, s.url, browser.Look{})
		tab.Go("/status")
		tab.Until(isLive)
		const posted = "!document.querySelector('#try [aria-disabled]')" // the page takes one after the other
		tab.Click("#do-sign-up")
		tab.UntilText("#users", "^Users\\s*1\\b")
		tab.Until(posted)
		tab.Click("#do-change")
		tab.UntilText("body", "King")
		tab.Until(posted)
		tab.Click("#do-storm")
		tab.UntilText("#users", "^Users\\s*6\\b") // five of its ten users are deleted in the end
		tab.Until(posted)
		tab.Shot("dev-storm")
		tab.Click("#do-deletion")
		tab.UntilText("#users", "^Users\\s*5\\b")
	})

	t.Run("dead letter", func(t *testing.T) {
		t.Parallel()
		s := start(t, true)
		s.deadLetter(id("dead"))
		tab := b.Open(t, s.url, browser.Look{})
		tab.Go("/status")
		tab.Until(isLive)
		tab.UntilText("#verdict", "1 event failed for good")
		tab.Shot("dev-dead-letter")
		tab.Click("#dead-letters [value=replay]")
		tab.UntilText("#said", "will be sent again")
		tab.UntilText("#dead-letters", "None")
		tab.UntilText("#headline", "^It works$")
		tab.UntilText("#users", "^Users\\s*1\\b")

		s.deadLetter(id("drop"))
		tab.UntilText("#verdict", "1 event failed for good")
		tab.Click("#dead-letters [value=drop]")
		tab.UntilText("#said", "dropped")
		tab.UntilText("#dead-letters", "None")
		tab.UntilText("#users", "^Users\\s*1\\b")
	})

	t.Run("login and log-out", func(t *testing.T) {
		t.Parallel()
		s := start(t, false)
		s.post(clerk.UserCreated, id("secret"), map[string]any{"first_name": "Grace"})
		tab := b.Open(t, s.url, browser.Look{})
		tab.Allow("status of 401")
		if code := tab.Go("/status"); code != http.StatusUnauthorized {
			t.Errorf("without a session: got %d, want 401", code)
		}
		tab.Shot("login")
		tab.Type("#token", "wrong")
		if code := tab.Follow("#login button"); code != http.StatusUnauthorized {
			t.Errorf("with a wrong token: got %d, want 401", code)
		}
		tab.UntilText("#said", "wrong|not")
		if value := browser.Eval[string](tab, "document.querySelector('#token').value"); value != "" {
			t.Errorf("the form has %q, want nothing of what was typed", value)
		}
		tab.Shot("login-refused")

		tab.Type("#token", adminToken)
		if code := tab.Follow("#login button"); code != http.StatusOK {
			t.Errorf("with the token: got %d, want 200", code)
		}
		tab.Until(isLive)
		tab.UntilText("#users", "^Users\\s*1\\b") // what is looked up does not change by itself
		tab.Type("#q", id("secret"))
		tab.Follow("#find button")
		tab.UntilText("#found", "Grace")
		tab.Shot("user")
		if cookie := browser.Eval[string](tab, "document.cookie"); cookie != "" {
			t.Errorf("JavaScript reads the cookie %q", cookie)
		}
		second := tab.Another(browser.Look{})
		second.Allow("status of 401")
		second.Go("/status")
		second.Until(isLive)

		if code := tab.Follow("#logout"); code != http.StatusUnauthorized {
			t.Errorf("after the log-out: got %d, want 401", code)
		}
		tab.Until("document.querySelector('#login')")
		for range 2 { // to what was found, and to the page before
			tab.Back()
			tab.Until("document.readyState === 'complete'")
			if text := tab.Text("body"); strings.Contains(text, "Grace") || strings.Contains(text, id("secret")) {
				t.Errorf("the browser's button back shows after the log-out:\n%s", text)
			}
		}
		if code := second.Reload(); code != http.StatusUnauthorized {
			t.Errorf("the other tab of the same visitor: got %d, want 401", code)
		}
	})

	t.Run("restart", func(t *testing.T) {
		t.Parallel()
		s := start(t, true)
		tab := b.Open(t, s.url, browser.Look{})
		tab.Allow("ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED_ENCODING|ERR_EMPTY_RESPONSE|ERR_CONNECTION_RESET")
		tab.Go("/status")
		tab.Until(isLive)
		s.stop()
		tab.UntilText("#live", "Not live")
		tab.Shot("dev-gone")
		s.restart()
		tab.Until(isLive)
		s.post(clerk.UserCreated, id("again"), nil)
		tab.UntilText("#users", "^Users\\s*1\\b")
	})

	t.Run("session ends while the page is open", func(t *testing.T) {
		t.Parallel()
		s := start(t, false)
		tab := b.Open(t, s.url, browser.Look{})
		logIn(tab)
		tab.Until(isLive)
		tab.Allow("ERR_|status of 401")
		s.restart("ADMIN_TOKEN=another-token-of-many-characters")
		tab.UntilText("#live", "reload the page")
		if code := tab.Reload(); code != http.StatusUnauthorized {
			t.Errorf("got %d, want 401", code)
		}
	})

	t.Run("without JavaScript", func(t *testing.T) {
		t.Parallel()
		s := start(t, false)
		s.deadLetter(id("dead"))
		tab := b.Open(t, s.url, browser.Look{NoScript: true})
		logIn(tab)
		tab.UntilText("#verdict", "1 event failed for good")
		tab.Follow("#dead-letters [value=replay]")
		tab.UntilText("#said", "will be sent again")
		tab.Type("#q", id("dead"))
		tab.Follow("#find button")
		tab.UntilText("#found", id("dead"))
		tab.Shot("no-script")
		if code := tab.Follow("#logout"); code != http.StatusUnauthorized {
			t.Errorf("after the log-out: got %d, want 401", code)
		}
	})

	t.Run("keyboard only", func(t *testing.T) {
		t.Parallel()
		s := start(t, false)
		s.deadLetter(id("dead"))
		tab := b.Open(t, s.url, browser.Look{})
		tab.Allow("status of 401")
		tab.Go("/status")
		tab.Until("document.activeElement.id === 'token'") // which the browser sees to after the page is loaded
		tab.Press(adminToken + kb.Enter)
		tab.Until(isLive)
		want := []string{"q", "replay-", "drop-"}
		for range 30 {
			tab.Press(kb.Tab)
			at := focused(tab)
			if visible := browser.Eval[bool](tab, `(() => {
				const e = document.activeElement, s = getComputedStyle(e);
				return e === document.body || s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2;
			})()`); !visible {
				t.Errorf("the focus on %q cannot be seen", at)
			}
			if len(want) > 0 && strings.HasPrefix(at, want[0]) {
				want = want[1:]
			}
		}
		if len(want) > 0 {
			t.Errorf("the key Tab never comes to %q, in this order", want)
		}
		browser.Eval[any](tab, "document.querySelector('[id^=replay-]').focus(), null")
		tab.Press(kb.Enter)
		tab.UntilText("#dead-letters", "None")
		browser.Eval[any](tab, "document.querySelector('#q').focus(), null")
		tab.Press(id("dead") + kb.Enter)
		tab.UntilText("#found", id("dead"))
	})

	t.Run("what others write", func(t *testing.T) {
		t.Parallel()
		s := start(t, true)
		nasty := map[string]string{ // first names by user
			id("xss"):   `<img src=x onerror="alert(1)">`,
			id("bidi"):  "\u202Egpj.evil\u202C مرحبا שלום",
			id("emoji"): "👩‍👩‍👧‍👦 🇺🇦 e\u0301",
			id("long"):  strings.Repeat("Wolfeschlegelsteinhausen", 40),
			id("lines"): "data: x\n\ndata: </section><script>alert(1)</script>",
			id("nul"):   "a\u0000b\u2028c]]>",
		}
		tab := b.Open(t, s.url, browser.Look{Width: 360, Height: 740})
		tab.Go("/status")
		tab.Until(isLive)
		for id, name := range nasty {
			s.post(clerk.UserCreated, id, map[string]any{"first_name": name, "last_name": nil})
		}
		tab.UntilText("#users", "^Users\\s*6\\b")
		tab.Shot("nasty-live")
		for id := range nasty {
			browser.Eval[any](tab, "document.querySelector('#q').value = '', null")
			tab.Type("#q", id)
			tab.Follow("#find button")
			tab.UntilText("#found", id)
			fits(t, tab)
			if n := browser.Eval[int](tab, "document.querySelectorAll('main img, main script').length"); n > 0 {
				t.Errorf("the name %q has become an element of the page", nasty[id])
			}
			if at := browser.Eval[string](tab, "location.href"); strings.Contains(at, id) {
				t.Errorf("the URL %s has what was looked for", at)
			}
			tab.Shot("nasty-" + id)
		}
	})

	t.Run("other pages", func(t *testing.T) { otherPages(t, b) })
	t.Run("many dead letters", func(t *testing.T) { manyDeadLetters(t, b) })
	t.Run("every look", func(t *testing.T) { everyLook(t, b) })
	t.Run("pictures", func(t *testing.T) { pictures(t, b) })
}

// focused returns the id of the element that has the focus, or its name.
func focused(tab *browser.Tab) string {
	return browser.Eval[string](tab, "document.activeElement.id || document.activeElement.tagName")
}

// fits fails if the page is wider than the window.
func fits(t *testing.T, tab *browser.Tab) {
	t.Helper()
	wide := browser.Eval[[]string](tab, `[...document.querySelectorAll('body *')]
		.filter((e) => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest('[tabindex]'))
		.map((e) => e.outerHTML.slice(0, 120))`)
	if over := browser.Eval[int](tab, "document.documentElement.scrollWidth - innerWidth"); over > 0 || len(wide) > 0 {
		t.Errorf("it is %d px wider than the window: %s", over, strings.Join(wide, "\n"))
	}
}

// otherPages: what a page of somebody else's can do to this one, in the same browser, with the visitor's cookie.
func otherPages(t *testing.T, b *browser.Browser) {
	t.Parallel()
	s := start(t, false)
	s.deadLetter(id("dead"))
	letter := ""
	for _, d := range s.memory.Docs("test", "clerksync_inbox") {
		letter = testenv.Doc(d).Text("_id")
	}
	var form, frame, script string
	evil := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		switch r.URL.Path {
		case "/form":
			_, _ = w.Write([]byte(form))
		case "/frame":
			_, _ = w.Write([]byte(frame))
		case "/script":
			_, _ = w.Write([]byte(script))
		}
	}))
	t.Cleanup(evil.Close)
	form = `<form method=post action="` + s.url + `/status/deadletters"><input name=id value="` + letter + `">` +
		`<button name=do value=drop>Win a prize</button></form>`
	frame = `<iframe src="` + s.url + `/status"></iframe>`
	script = `<script>fetch("` + s.url + `/status", {credentials: "include"}).then((r) => r.text())` +
		`.then((text) => { document.title = text; }, () => { document.title = "refused"; });` +
		`new EventSource("` + s.url + `/status/events", {withCredentials: true}).onmessage = () => alert(1);</script>`

	victim := b.Open(t, s.url, browser.Look{})
	logIn(victim)
	tab := victim.Another(browser.Look{})
	tab.Allow("leaves the site|status of 403|ERR_FAILED") // the last is what CORS refuses
	tab.Visit(evil.URL + "/form")
	if code := tab.Follow("button"); code != http.StatusForbidden {
		t.Errorf("another page's form: got %d, want 403", code)
	}
	victim.UntilText("#dead-letters", letter)
	tab.Visit(evil.URL + "/script")
	tab.Until("document.title === 'refused'")
	tab.UntilWrong("CORS|Cors")
	tab.Visit(evil.URL + "/frame")
	tab.Until("frames.length === 1")
	tab.UntilWrong("frame-ancestors")
	if code := victim.Reload(); code != http.StatusOK {
		t.Errorf("the visitor: got %d, want 200", code)
	}

	open := start(t, true)
	rebound := b.Open(t, strings.Replace(open.url, "127.0.0.1", browser.Rebound, 1), browser.Look{})
	rebound.Allow("status of 40[13]|Cross-Origin-Opener-Policy")
	if code := rebound.Go("/status"); code < 400 || strings.Contains(rebound.Text("body"), "Try it") {
		t.Errorf("by a name that its owner points to this machine: got %d, want it refused", code)
	}
}

// manyDeadLetters: the page stays quick and says what it leaves out.
func manyDeadLetters(t *testing.T, b *browser.Browser) {
	t.Parallel()
	s := start(t, true)
	var letters []any
	for i := range 2_000 {
		why := "<b>an error</b>"
		if i%1000 == 999 {
			why = strings.Repeat("an error of ten kilobytes ", 400)
		}
		letters = append(letters, map[string]any{
			"_id": fmt.Sprintf("msg_2%05d", i), "name": "clerk/user.created", "data": "{}", "received_at": time.Now(),
			"give_up_at": time.Now(), "failure": map[string]any{"error": why, "at": time.Now()},
		})
	}
	db := s.memory.Connect(t, "test", nil, nil)
	if _, err := db.Database.Collection("clerksync_inbox").InsertMany(t.Context(), letters); err != nil {
		t.Fatal(err)
	}
	tab := b.Open(t, s.url, browser.Look{Width: 360, Height: 740})
	tab.Go("/status")
	tab.Until(isLive)
	tab.UntilText("#dead-count", "2,000")
	tab.UntilText("#dead-letters", "newest 50 of 2,000")
	fits(t, tab)
	if height := browser.Eval[int](tab, "document.documentElement.scrollHeight"); height > 100_000 {
		t.Errorf("the page is %d px high", height)
	}
	tab.Shot("many-dead-letters")
}

// everyLook: axe-core finds nothing on any page, and no page is wider than its window, for all kinds of visitors.
func everyLook(t *testing.T, b *browser.Browser) {
	project := npm.Project(t, filepath.Join("testdata", "axe"))
	t.Parallel()
	source, err := os.ReadFile(filepath.Join(project, "node_modules", "axe-core", "axe.min.js"))
	if err != nil {
		t.Fatal(err)
	}
	open, locked := start(t, true), start(t, false)
	for _, s := range []*service{open, locked} {
		s.deadLetter(id("dead"))
		s.post(clerk.UserCreated, id("ada"), nil)
		s.post(clerk.UserUpdated, id("ada"), map[string]any{"last_name": "King"})
	}
	for name, look := range map[string]browser.Look{
		"light":         {},
		"dark":          {Dark: true},
		"phone":         {Width: 360, Height: 740},
		"dark phone":    {Width: 360, Height: 740, Dark: true},
		"zoom 400 %":    {Width: 320, Height: 256},
		"high contrast": {HighContrast: true},
		"print":         {Print: true},
	} {
		t.Run(name, func(t *testing.T) {
			check := func(tab *browser.Tab, what string) {
				t.Helper()
				for _, found := range tab.Axe(string(source)) {
					t.Errorf("%s: %s", what, found)
				}
				fits(t, tab)
				tab.Shot("look-" + strings.NewReplacer(" ", "-", "%", "").Replace(name+"-"+what))
			}
			tab := b.Open(t, open.url, look)
			tab.Go("/status")
			tab.Until(isLive)
			check(tab, "dev")
			tab.Type("#q", id("ada"))
			tab.Follow("#find button")
			tab.UntilText("#found", id("ada"))
			check(tab, "dev-user")

			tab = b.Open(t, locked.url, look)
			tab.Allow("status of 401")
			tab.Go("/status")
			check(tab, "login")
			tab.Type("#token", "wrong")
			tab.Follow("#login button")
			check(tab, "login-refused")
			tab.Type("#token", adminToken)
			tab.Follow("#login button")
			tab.Until(isLive)
			check(tab, "page")
		})
	}
}

// pictures: the page as the docs show it. 'make pictures' writes them into docs/images.
func pictures(t *testing.T, b *browser.Browser) {
	t.Parallel()
	s := start(t, true)
	now := time.Now().UnixMilli()
	users := []testenv.ClerkUser{
		{ID: "user_2picGRACEH3R57FG4FWBYK6NHRKA", FirstName: "Grace", LastName: "Hopper", Email: "grace@example.com"},
		{ID: "user_2picMARYLH3R57FG4FWBYK6NHRKB", FirstName: "Mary", LastName: "Jackson", Email: "mary@example.com"},
		{ID: "user_2picADALSH3R57FG4FWBYK6NHRKC", FirstName: "Ada", LastName: "Lovelace", Email: "ada@example.com"},
	}
	for i, u := range users {
		u.Created, u.Updated = now+int64(i), now+int64(i)
		s.postData(clerk.UserCreated, u.JSON())
	}
	tab := b.Open(t, s.url, browser.Look{Width: 1040, Height: 760})
	tab.Go("/status")
	tab.Until(isLive)
	tab.UntilText("#users", "3 here")
	ada := users[2]
	ada.LastName, ada.Created, ada.Updated = "King", now+2, now+3
	s.postData(clerk.UserUpdated, ada.JSON())
	tab.UntilText("#rows", "Ada King")
	tab.UntilText("#recent", ada.ID+" → created") // and noted, which the page below does not wait for
	tab.UntilText("#headline", "It works")
	tab.ShotOf("status", "header")

	tab = tab.Another(browser.Look{Width: 1040, Height: 860})
	tab.Go("/status")
	tab.Type("#q", ada.Email)
	tab.Follow("#find button")
	tab.UntilText("#found", "created by webhook")
	tab.ShotOf("status-user", "#user")

	phone := tab.Another(browser.Look{Width: 390, Height: 844, Dark: true})
	phone.Go("/status")
	phone.Until(isLive)
	phone.ShotOf("status-phone", "#try")
}
