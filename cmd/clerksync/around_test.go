package main

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"clerksync/config"
	"clerksync/inbox"
	"clerksync/internal/testenv"
	"clerksync/store/database"

	"github.com/emersion/go-smtp"
)

// day is how long ago Clerk made the users of a setting.
const day = 24 * time.Hour

// around is what is around a service: Clerk, Inngest and the mail server. They outlive its database, and its binary.
type around struct {
	t        *testing.T
	settings map[string]string
	clerk    *testenv.ClerkAPI
	mails    *testenv.SMTP
	away     atomic.Bool // Inngest takes no events
	known    atomic.Bool // Inngest knows where the service is; before that it takes none either
	began    time.Time
	service  service
	still    bool              // changes move no time of the user, only that of the event
	ids      map[string]string // of the users, by first name
	last     map[string]int64  // when their last changes were, in milliseconds since 1970
	sent     []hook
}

// hook is a webhook that Clerk has sent.
type hook struct{ typ, id, body string }

// newAround returns what is around a service that is not started. The mail server refuses the first mail to a user
// whose name begins with "refused".
func newAround(t *testing.T) *around {
	t.Helper()
	w := &around{t: t, settings: good(t), clerk: testenv.NewClerkAPI(t), began: time.Now()}
	w.ids, w.last = map[string]string{}, map[string]int64{}
	var refused sync.Map
	w.mails = testenv.NewSMTP(t, testenv.SMTPOptions{Rcpt: func(to string) error {
		if _, again := refused.LoadOrStore(to, true); strings.HasPrefix(to, "refused") && !again {
			return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no such user"}
		}
		return nil
	}})
	inngest, err := url.Parse(testenv.NewInngest(t).URL)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(inngest)
	gate := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/e/") && (w.away.Load() || !w.known.Load()) {
			rw.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		proxy.ServeHTTP(rw, r)
		if r.URL.Path == "/fn/register" {
			w.known.Store(true)
		}
	}))
	t.Cleanup(gate.Close)
	maps.Copy(w.settings, map[string]string{
		"INNGEST_DEV": gate.URL, "CLERK_SECRET_KEY": testenv.ClerkKey, "CLERK_API_URL": w.clerk.URL,
		"SMTP_URL": "smtp://" + w.mails.Addr + "?tls=off", "MAIL_FROM": "app@app.example", "INBOX_RESEND_AFTER": "2s",
	})
	return w
}

// happen changes a user at Clerk some time ago, and sends the webhook of it, which must be answered with code; 0 sends
// none.
func (w *around) happen(typ, name string, ago time.Duration, code int) {
	w.t.Helper()
	at := max(time.Now().Add(-ago).UnixMilli(), w.last[name]+1) // two changes of a user are never at the same time
	w.last[name] = at
	id, known := w.ids[name]
	if !known {
		id = testenv.UserID(w.began.Add(-day), int64(len(w.ids)))
		w.ids[name] = id
	}
	u, there := w.clerk.Get(id)
	if !there {
		u = testenv.ClerkUser{ID: id, FirstName: name, Email: name + "@mail.example", Created: at, Updated: at}
	}
	if u.LastName = fmt.Sprint("Lovelace ", len(w.sent)); !w.still {
		u.Updated = at
	}
	data := string(u.JSON())
	if w.clerk.Put(u); typ == "user.deleted" {
		w.clerk.Remove(id)
		data = fmt.Sprintf(`{"id":%q,"object":"user","deleted":true}`, id)
	}
	h := hook{
		typ, fmt.Sprintf("msg_%s_%d", name, len(w.sent)),
		fmt.Sprintf(`{"type":%q,"object":"event","timestamp":%d,"instance_id":%q,"data":%s}`,
			typ, at, testenv.ClerkInstance, data),
	}
	if w.sent = append(w.sent, h); code != 0 {
		w.deliver(h, code)
	}
}

func (w *around) deliver(h hook, code int) {
	w.t.Helper()
	url := w.service.url + "/webhooks/clerk"
	if got, text := do(w.t, testenv.Signed(w.t, url, testenv.Secret, h.id, time.Now(), []byte(h.body))); got != code {
		w.t.Fatalf("%s: got %d %s, want %d", h.id, got, text, code)
	}
}

// again delivers all webhooks once more, in any order, but for the deletions: only the tombstones tell of these then.
func (w *around) again() {
	w.t.Helper()
	for _, i := range rand.Perm(len(w.sent)) {
		if w.sent[i].typ != "user.deleted" {
			w.deliver(w.sent[i], http.StatusAccepted)
		}
	}
}

// settled waits until the inbox has no event that waits, and each of these users has got mail.
func (w *around) settled(mailed ...string) {
	w.t.Helper()
	w.database(func(ctx context.Context, db *database.DB) {
		until(w.t, "the inbox is empty", func() bool {
			p, err := inbox.NewTable(db).Pending(ctx)
			return err == nil && p.Events == 0
		})
	})
	until(w.t, fmt.Sprint("mails to ", mailed), func() bool {
		got := w.mailed()
		return !slices.ContainsFunc(mailed, func(name string) bool { return got[name] == 0 })
	})
}

// mailed returns how many mails each user got.
func (w *around) mailed() map[string]int {
	n := map[string]int{}
	for _, m := range w.mails.Mails() {
		name, _, _ := strings.Cut(m.To[0], "@")
		n[name]++
	}
	return n
}

// deadLetters waits until there are n dead letters.
func (w *around) deadLetters(n int) {
	w.t.Helper()
	w.database(func(ctx context.Context, db *database.DB) {
		until(w.t, fmt.Sprint("dead letters: ", n), func() bool {
			got, err := inbox.NewTable(db).CountDeadLetters(ctx)
			return err == nil && got == n
		})
	})
}

// database calls do with the database of the service, which runs.
func (w *around) database(do func(context.Context, *database.DB)) {
	w.t.Helper()
	if strings.HasPrefix(w.settings["MONGODB_URI"], config.EmbeddedPrefix) {
		withRunningDatabase(w.t, w.settings, do)
		return
	}
	do(w.t.Context(), testenv.Connect(w.t, w.settings["MONGODB_URI"], w.settings["MONGODB_DATABASE"]))
}
