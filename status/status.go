// Package status is the page that shows whether the sync works and why a user's row is as it is. It only reads, but for
// the replay and the dropping of dead letters. Nothing else of clerksync needs it.
package status

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"html/template"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"clerksync/activity"
	"clerksync/functions"
	"clerksync/history"
	"clerksync/inbox"
	"clerksync/inngest"
	"clerksync/reconcile"
	"clerksync/store"
	"clerksync/store/database"
)

// Path is where the page is; all else of it is below.
const Path = "/status"

// maxForm is how many bytes of a form are read.
const maxForm = 8 << 10

//go:embed page.html style.css page.js icon.svg
var files embed.FS

// Options is what New needs.
type Options struct {
	Token string // ADMIN_TOKEN; "" if nobody can log in
	Open  bool   // to browsers on this machine without a login: only for development

	DB         *database.DB
	Users      *store.Users
	History    *history.History
	Activity   *activity.Activity
	Inngest    inngest.Server
	Functions  []string                               // their ids
	Tiers      []reconcile.Tier                       // those that run
	ClerkUsers func(ctx context.Context) (int, error) // how many users Clerk has; nil without a key

	// Play posts a sample webhook, or many, through the signed door; nil outside of development. What it plays is one
	// of sign-up, change, deletion and storm. Its error is a line for the page.
	Play func(ctx context.Context, what string) error

	Log *slog.Logger
}

// Page is the page. It is an http.Handler for Path and all that is below.
type Page struct {
	Options
	http.Handler

	door      *door
	inbox     inbox.Table
	state     database.Checkpoints
	page      *template.Template
	now       func() time.Time
	readEvery time.Duration // see the constants
	viewers   chan struct{} // one for each stream
	ended     chan struct{}
	end       func() // closes ended

	mu    sync.Mutex
	last  overview      // what was read last
	took  time.Duration // how long that took
	clerk users         // what Clerk said last
	// looking and playing are locked while somebody looks for a user or presses a button of 'clerksync dev'.
	looking, playing sync.Mutex
}

// New returns a page.
func New(o Options) (*Page, error) {
	p := &Page{
		Options: o, door: newDoor(o.Token, o.Open, time.Now), now: time.Now,
		inbox: inbox.NewTable(o.DB), state: database.NewCheckpoints(o.DB),
		readEvery: readEvery, viewers: make(chan struct{}, maxViewers), ended: make(chan struct{}),
	}
	p.end = sync.OnceFunc(func() { close(p.ended) })
	if o.Play != nil {
		p.readEvery = readEveryDev
	}
	var err error
	if p.page, err = template.New("").ParseFS(files, "page.html"); err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+Path, p.inside(func(w http.ResponseWriter, r *http.Request, _ visitor) {
		p.show(w, http.StatusOK, p.view(r))
	}))
	mux.HandleFunc("GET "+Path+"/{$}", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, Path, http.StatusSeeOther)
	})
	mux.HandleFunc("GET "+Path+"/events", p.inside(p.stream))
	mux.HandleFunc("POST "+Path+"/user", p.inside(p.lookUp))
	mux.HandleFunc("POST "+Path+"/deadletters", p.inside(p.deadLetter))
	mux.HandleFunc("POST "+Path+"/login", p.logIn)
	mux.HandleFunc("POST "+Path+"/logout", p.logOut)
	if o.Play != nil {
		mux.HandleFunc("POST "+Path+"/dev", p.inside(p.play))
	}
	for _, name := range []string{"style.css", "page.js", "icon.svg"} {
		mux.HandleFunc("GET "+Path+"/"+name, func(w http.ResponseWriter, r *http.Request) {
			http.ServeFileFS(w, r, files, name)
		})
	}
	p.Handler = secure(mux)
	return p, nil
}

// End ends all streams, so that they do not hold up the end of the service.
func (p *Page) End() { p.end() }

// secure adds the headers that keep other pages from using this one, refuses what they post, and bounds what is read.
func secure(h http.Handler) http.Handler {
	h = http.NewCrossOriginProtection().Handler(h) // the browser itself says that another page has posted it
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for name, value := range map[string]string{
			"Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; " +
				"img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
			"X-Content-Type-Options":       "nosniff",
			"X-Frame-Options":              "DENY",
			"Cache-Control":                "no-store",
			"Referrer-Policy":              "same-origin", // without a referrer browsers hide the origin of a form too
			"Cross-Origin-Opener-Policy":   "same-origin",
			"Cross-Origin-Resource-Policy": "same-origin",
		} {
			w.Header().Set(name, value)
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		h.ServeHTTP(w, r)
	})
}

// inside passes the requests of those who are let in to h, and gives others the login.
func (p *Page) inside(h func(http.ResponseWriter, *http.Request, visitor)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, refused, why := p.door.who(r)
		if refused != 0 {
			p.refuse(w, refused, why)
			return
		}
		if r.Method == http.MethodPost && !p.form(w, r) {
			return
		}
		h(w, r, v)
	}
}

// form reads the form of a request, and answers the request if that fails.
func (p *Page) form(w http.ResponseWriter, r *http.Request) bool {
	if err := r.ParseForm(); err != nil {
		code := http.StatusBadRequest
		if errors.As(err, new(*http.MaxBytesError)) {
			code = http.StatusRequestEntityTooLarge
		}
		http.Error(w, "this is no form of the page", code)
		return false
	}
	return true
}

// refuse answers somebody who is not let in, with the login if there is one.
func (p *Page) refuse(w http.ResponseWriter, code int, why string) {
	switch code {
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", "Bearer")
	case http.StatusTooManyRequests:
		w.Header().Set("Retry-After", "60")
	}
	p.show(w, code, view{Login: p.Token != "", Refused: why})
}

func (p *Page) logIn(w http.ResponseWriter, r *http.Request) {
	if p.Token == "" {
		http.NotFound(w, r)
		return
	}
	if !p.form(w, r) {
		return
	}
	if refused, why := p.door.try(r, r.PostForm.Get("token")); refused != 0 {
		p.refuse(w, refused, why)
		return
	}
	p.door.begin(w, r)
	http.Redirect(w, r, Path, http.StatusSeeOther)
}

func (p *Page) logOut(w http.ResponseWriter, r *http.Request) {
	p.door.end(w, r)
	http.Redirect(w, r, Path, http.StatusSeeOther)
}

// show answers with the page.
func (p *Page) show(w http.ResponseWriter, code int, v view) {
	var page bytes.Buffer
	if err := p.page.ExecuteTemplate(&page, "page", v); err != nil {
		p.Log.Error("the status page cannot be made", "error", err)
		http.Error(w, "the page cannot be made: see the service's log", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(code)
	_, _ = w.Write(page.Bytes()) // the browser has gone
}

// deadLetter replays or drops a dead letter, as 'clerksync deadletters' does.
func (p *Page) deadLetter(w http.ResponseWriter, r *http.Request, _ visitor) {
	id, said, err := r.PostForm.Get("id"), "", error(nil)
	switch r.PostForm.Get("do") {
	case "replay":
		var perhaps bool
		if perhaps, err = functions.Replay(r.Context(), p.DB, id, false); perhaps {
			said = "replayed-mail"
		} else {
			said = "replayed"
		}
	case "drop":
		said, err = "dropped", p.inbox.Drop(r.Context(), id)
	default:
		http.Error(w, "do is neither replay nor drop", http.StatusBadRequest)
		return
	}
	switch {
	case errors.Is(err, inbox.ErrNoDeadLetter):
		said = "gone"
	case errors.Is(err, inbox.ErrOld):
		said = "old"
	case err != nil:
		p.Log.WarnContext(r.Context(), "a dead letter could not be changed", "svix_id", id, "error", err)
		said = "failed"
	}
	p.said(w, r, said, "dead-letters")
}

// said goes back to the page, which then says in words what was done. Only the name of the words is in the URL.
func (p *Page) said(w http.ResponseWriter, r *http.Request, said, section string) {
	p.forget()
	http.Redirect(w, r, Path+"?said="+said+"#"+section, http.StatusSeeOther)
}

// words are what the page says after something was done, by their names.
func words(said string) string {
	return map[string]string{
		"replayed":      "The event will be sent again, within seconds, under a new id.",
		"replayed-mail": "The mail will be sent again. Perhaps it was sent before: the user may get two.",
		"dropped":       "The event is dropped. For 30 days 'clerksync deadletters replay' can bring it back.",
		"gone":          "That is no dead letter any more: somebody was faster.",
		"old": "The event is older than 90 days, and its user may have been deleted since: look at it with " +
			"'clerksync deadletters show', then drop it, or replay it with --force.",
		"failed":  "That failed: the database did not answer. Try again.",
		"played":  "Sent through the signed door. The rows below change as the events are written.",
		"playing": "The last one is still being sent: wait for it.",
	}[said]
}

// playTime bounds how long a button of 'clerksync dev' works.
const playTime = time.Minute

// play posts sample webhooks, one button after the other.
func (p *Page) play(w http.ResponseWriter, r *http.Request, _ visitor) {
	what := r.PostForm.Get("do")
	if !slices.Contains([]string{"sign-up", "change", "deletion", "storm"}, what) {
		http.Error(w, "do is no button of the page", http.StatusBadRequest)
		return
	}
	if !p.playing.TryLock() {
		p.said(w, r, "playing", "try")
		return
	}
	defer p.playing.Unlock()
	ctx, cancel := context.WithTimeout(r.Context(), playTime)
	defer cancel()
	if err := p.Play(ctx, what); err != nil {
		v := p.view(r)
		v.Said = "That failed: " + err.Error()
		p.show(w, http.StatusBadGateway, v)
		return
	}
	p.said(w, r, "played", "try")
}
