// Package browser gives tests a headless Chromium that reaches nothing but this machine.
package browser

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"clerksync/internal/testenv/program"

	"github.com/chromedp/cdproto/audits"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// Shots is the environment variable that names a folder, by its whole path, into which Tab.Shot writes pictures.
// Without it there are none.
const Shots = "CLERKSYNC_TEST_SHOTS"

// Rebound is the name of a host whose owner points it to this machine (DNS rebinding).
const Rebound = "rebound.example"

// patience is how long a test waits for the page: much longer than it takes, for the machine may be busy.
const patience = 2 * time.Minute

// Browser is a running Chromium.
type Browser struct {
	ctx context.Context
}

// Start starts a Chromium for t and its subtests, which ends with t. The test is skipped with -short, and where there
// is no Chromium (see program.Find).
func Start(t testing.TB) *Browser {
	t.Helper()
	if testing.Short() {
		t.Skip("it needs a browser: left out by -short")
	}
	home := t.TempDir()
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(program.Find(t, program.Chromium())),
		chromedp.UserDataDir(filepath.Join(home, "profile")),
		chromedp.Env("HOME="+home, "XDG_CONFIG_HOME="+home, "XDG_CACHE_HOME="+home),
		chromedp.Flag("host-resolver-rules",
			"MAP "+Rebound+" 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost"),
		chromedp.Flag("no-proxy-server", true),
		chromedp.Flag("hide-scrollbars", true),
		chromedp.Flag("force-prefers-reduced-motion", true),
		chromedp.DisableGPU,
	)
	allocator, end := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(end)
	ctx, cancel := chromedp.NewContext(allocator)
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil { // it starts
		t.Fatalf("start Chromium: %v", err)
	}
	return &Browser{ctx}
}

// Look is how a visitor sees the page.
type Look struct {
	Width, Height int     // in CSS pixels; 0 means 1280 by 800
	Zoom          float64 // of the pixels of a picture; 0 means 1
	Dark          bool
	HighContrast  bool // the visitor's own colours, as of Windows
	Print         bool
	NoScript      bool // JavaScript is off
}

// Tab is a tab of a visitor who has nothing in common with those of other tabs. What goes wrong in it, such as an error
// in the console, a violation of the Content-Security-Policy or a request for anything but the site, fails the test at
// its end.
type Tab struct {
	t    testing.TB
	ctx  context.Context
	site string

	mu      sync.Mutex
	wrong   []string
	allowed []*regexp.Regexp
}

// Open opens a tab for the site, a URL without a path, which is left empty until Go.
func (b *Browser) Open(t testing.TB, site string, look Look) *Tab {
	t.Helper()
	tab := &Tab{t: t, site: site}
	tab.open(b.ctx, look, chromedp.WithNewBrowserContext())
	return tab
}

// Another opens another tab of the same visitor, who has the same cookies.
func (tab *Tab) Another(look Look) *Tab {
	tab.t.Helper()
	another := &Tab{t: tab.t, site: tab.site}
	another.open(tab.ctx, look)
	return another
}

func (tab *Tab) open(ctx context.Context, look Look, options ...chromedp.ContextOption) {
	t := tab.t
	t.Helper()
	ctx, cancel := chromedp.NewContext(ctx, options...)
	tab.ctx = ctx
	t.Cleanup(func() {
		if t.Failed() {
			tab.Shot("failed-" + strings.ReplaceAll(t.Name(), "/", "-"))
		}
		cancel()
		tab.mu.Lock()
		defer tab.mu.Unlock()
		for _, wrong := range tab.wrong {
			t.Error(wrong)
		}
	})
	// The tab lives as long as the context that it is opened with, so that has no time-out.
	if err := errors.Join(chromedp.Do(ctx), chromedp.Listen(ctx, tab.note)); err != nil {
		t.Fatal(err)
	}
	width, height, zoom := cmp.Or(look.Width, 1280), cmp.Or(look.Height, 800), cmp.Or(look.Zoom, 1)
	media := emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: pick(look.Dark, "dark", "light")},
		{Name: "forced-colors", Value: pick(look.HighContrast, "active", "none")},
		{Name: "prefers-reduced-motion", Value: "reduce"},
	}}
	if look.Print {
		media.Media = "print"
	}
	tab.do(
		call(audits.Enable, cdp.Empty{}),
		call(emulation.SetEmulatedMedia, media),
		call(emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: look.NoScript}),
		chromedp.EmulateViewport(int64(width), int64(height), chromedp.EmulateScale(zoom)),
	)
}

func pick(b bool, yes, no string) string {
	if b {
		return yes
	}
	return no
}

// Allow has what matches the pattern not count as wrong.
func (tab *Tab) Allow(pattern string) {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	tab.allowed = append(tab.allowed, regexp.MustCompile(pattern))
}

// note is called with each event of the tab.
func (tab *Tab) note(event any) {
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		text := e.ExceptionDetails.Text
		if e.ExceptionDetails.Exception != nil {
			text += " " + e.ExceptionDetails.Exception.Description
		}
		tab.add("exception: " + text)
	case *runtime.EventConsoleAPICalled:
		switch e.Type {
		case runtime.ConsoleAPICalledTypeError, runtime.ConsoleAPICalledTypeWarning, runtime.ConsoleAPICalledTypeAssert:
			var text strings.Builder
			for _, arg := range e.Args {
				text.WriteString(" " + string(arg.Value) + arg.Description)
			}
			tab.add(fmt.Sprintf("console.%s:%s", e.Type, text.String()))
		}
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning {
			tab.add(fmt.Sprintf("%s %s: %s %s", e.Entry.Source, e.Entry.Level, e.Entry.Text, e.Entry.URL))
		}
	case *audits.EventIssueAdded:
		// The others are about the browser's own pages, and about what is slow in a test.
		if e.Issue.Code != audits.InspectorIssueCodeQuirksModeIssue &&
			e.Issue.Code != audits.InspectorIssueCodePerformanceIssue {
			details, _ := json.Marshal(e.Issue.Details)
			tab.add(fmt.Sprintf("issue %s: %s", e.Issue.Code, details))
		}
	case *network.EventRequestWillBeSent:
		at, err := url.Parse(e.Request.URL)
		if err != nil || at.Scheme+"://"+at.Host != tab.site && at.Scheme != "data" && at.Scheme != "about" {
			tab.add("a request that leaves the site: " + e.Request.URL)
		}
	}
}

func (tab *Tab) add(wrong string) {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	for _, pattern := range tab.allowed {
		if pattern.MatchString(wrong) {
			return
		}
	}
	tab.wrong = append(tab.wrong, wrong)
}

// UntilWrong waits until something that matches the pattern goes wrong, which then counts no more than with Allow: the
// browser tells one thing in several ways, one after the other.
func (tab *Tab) UntilWrong(pattern string) {
	tab.t.Helper()
	limit := time.After(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for wanted := regexp.MustCompile(pattern); ; {
		tab.mu.Lock()
		wrong := slices.Clone(tab.wrong)
		there := slices.ContainsFunc(wrong, wanted.MatchString)
		if there {
			tab.wrong = slices.DeleteFunc(tab.wrong, wanted.MatchString)
			tab.allowed = append(tab.allowed, wanted)
		}
		tab.mu.Unlock()
		if there {
			return
		}
		select {
		case <-tick.C:
		case <-limit:
			tab.t.Fatalf("%q never went wrong, only %q", pattern, wrong)
		}
	}
}

func call[P, R any](command cdp.Command[P, R], params P) chromedp.Action[chromedp.Void] {
	return func(ctx context.Context, _ *chromedp.Target) (chromedp.Void, error) {
		_, err := chromedp.Call(ctx, command, params)
		return chromedp.Void{}, err
	}
}

// do carries out the steps, and fails the test if that takes too long.
func (tab *Tab) do(steps ...chromedp.Action[chromedp.Void]) {
	tab.t.Helper()
	ctx, cancel := context.WithTimeout(tab.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		tab.t.Fatal(err)
	}
}

// Visit loads another page than the site's.
func (tab *Tab) Visit(url string) {
	tab.t.Helper()
	tab.do(chromedp.Navigate(url))
}

// Go loads a path of the site, and returns the status of the answer.
func (tab *Tab) Go(path string) int {
	tab.t.Helper()
	return tab.loads(chromedp.Navigate(tab.site + path))
}

// Reload loads the page again.
func (tab *Tab) Reload() int {
	tab.t.Helper()
	return tab.loads(chromedp.Reload())
}

// Back goes back, as the browser's button does. The page may be one that the browser no longer has and will not ask for
// again by itself, such as the answer to a form.
func (tab *Tab) Back() {
	tab.t.Helper()
	ctx, cancel := context.WithTimeout(tab.ctx, patience)
	defer cancel()
	err := chromedp.Do(ctx, chromedp.NavigateBack())
	if err != nil && !strings.Contains(err.Error(), "ERR_CACHE_MISS") {
		tab.t.Fatal(err)
	}
}

// Click clicks on the element, once it can be seen.
func (tab *Tab) Click(selector string) {
	tab.t.Helper()
	tab.do(click(selector)...)
}

// Follow clicks on the element, waits until the page that it leads to is there, and returns the status of its answer.
func (tab *Tab) Follow(selector string) int {
	tab.t.Helper()
	return tab.loads(click(selector)...)
}

// click clicks on the element, once it can be seen. A page that changes by itself could replace it, or move it away,
// after it was found and before the click. So the page is told first that the button is down, which holds its changes.
func click(selector string) []chromedp.Action[chromedp.Void] {
	at := chromedp.CSS(selector)
	return []chromedp.Action[chromedp.Void]{
		chromedp.WaitVisible(at),
		func(ctx context.Context, target *chromedp.Target) (chromedp.Void, error) {
			_, err := chromedp.Evaluate[any]("dispatchEvent(new PointerEvent('pointerdown')), null")(ctx, target)
			return chromedp.Void{}, err
		},
		chromedp.Click(at),
	}
}

func (tab *Tab) loads(steps ...chromedp.Action[chromedp.Void]) int {
	tab.t.Helper()
	ctx, cancel := context.WithTimeout(tab.ctx, patience)
	defer cancel()
	answer, err := chromedp.RunResponse(ctx, steps...)
	if err != nil {
		tab.t.Fatal(err)
	}
	if answer == nil {
		return 0 // as for a place in the same page
	}
	return int(answer.Status)
}

// Type types into the element.
func (tab *Tab) Type(selector, text string) {
	tab.t.Helper()
	tab.do(chromedp.SendKeys(chromedp.CSS(selector), text, chromedp.NodeVisible))
}

// Press presses a key, one of package kb or a character.
func (tab *Tab) Press(keys string) {
	tab.t.Helper()
	tab.do(chromedp.KeyEvent(keys))
}

// Text returns the words that the element shows, or "" if there is none.
func (tab *Tab) Text(selector string) string {
	tab.t.Helper()
	quoted, _ := json.Marshal(selector)
	return Eval[string](tab, "document.querySelector("+string(quoted)+")?.innerText ?? ''")
}

// Eval returns the value of a JavaScript expression; a promise is waited for. The Content-Security-Policy does not hold
// for it.
func Eval[T any](tab *Tab, expression string) T {
	tab.t.Helper()
	ctx, cancel := context.WithTimeout(tab.ctx, patience)
	defer cancel()
	value, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		tab.t.Fatalf("%s: %v", first(expression), err)
	}
	return value
}

// Until waits until the JavaScript expression is true.
func (tab *Tab) Until(expression string) {
	tab.t.Helper()
	ctx, cancel := context.WithTimeout(tab.ctx, patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		// While a page is replaced by the next one, it cannot be asked.
		is, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("Boolean("+expression+")"))
		if err == nil && is {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			tab.t.Fatalf("never true: %s (%v); the page says:\n%s", expression, err, tab.words())
		}
	}
}

// UntilText waits until the element shows words that match the pattern.
func (tab *Tab) UntilText(selector, pattern string) {
	tab.t.Helper()
	at, _ := json.Marshal(selector)
	words, _ := json.Marshal(pattern)
	tab.Until(fmt.Sprintf("RegExp(%s).test(document.querySelector(%s)?.innerText ?? '')", words, at))
}

// words returns all that the page says, for the message of a test that fails.
func (tab *Tab) words() string {
	ctx, cancel := context.WithTimeout(tab.ctx, patience)
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string]("document.body.innerText"))
	return errors.Join(errors.New(text), err).Error()
}

// Shot writes a picture of the whole page into the folder that Shots names.
func (tab *Tab) Shot(name string) {
	tab.t.Helper()
	tab.shot(name, true)
}

// ShotOf writes a picture of what the window shows when the element is at its top.
func (tab *Tab) ShotOf(name, selector string) {
	tab.t.Helper()
	quoted, _ := json.Marshal(selector)
	Eval[any](tab, fmt.Sprintf(
		"scrollTo(0, document.querySelector(%s).getBoundingClientRect().top + scrollY - 16), null", quoted))
	tab.shot(name, false)
}

func (tab *Tab) shot(name string, whole bool) {
	tab.t.Helper()
	folder := os.Getenv(Shots)
	if folder == "" {
		return
	}
	ctx, cancel := context.WithTimeout(tab.ctx, patience)
	defer cancel()
	shot, err := chromedp.Run(ctx, func(ctx context.Context, _ *chromedp.Target) ([]byte, error) {
		r, err := chromedp.Call(ctx, page.CaptureScreenshot, page.CaptureScreenshotParams{
			CaptureBeyondViewport: new(whole),
		})
		return r.Data, err
	})
	if err == nil {
		err = errors.Join(os.MkdirAll(folder, 0o755), os.WriteFile(filepath.Join(folder, name+".png"), shot, 0o644))
	}
	if err != nil {
		tab.t.Errorf("the picture %s: %v", name, err)
	}
}

// first returns the beginning of a long text.
func first(text string) string { return text[:min(len(text), 100)] }

// Axe checks the page with axe-core, whose source is given, and returns what it finds, a line each
// (https://github.com/dequelabs/axe-core/blob/develop/doc/API.md).
func (tab *Tab) Axe(source string) []string {
	tab.t.Helper()
	Eval[any](tab, source+"; null")
	return Eval[[]string](tab, `axe.run().then((found) => found.violations.flatMap((v) =>
		v.nodes.map((n) => v.id + ": " + v.help + ": " + n.html.slice(0, 200) + ": " + n.failureSummary)))`)
}
