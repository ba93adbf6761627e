package e2e_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"clerksync/internal/testenv"
)

// TestRollingUpgrade: a process with one more function starts beside an old one, which goes on. From its registration
// on, the function gets each event: the old process does not remove it from Inngest, and where it is called instead of
// the new one, Inngest calls again.
func TestRollingUpgrade(t *testing.T) {
	t.Parallel()
	var calls, unknown atomic.Int64
	var replicas [2]atomic.Pointer[url.URL]
	balancer := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			to := replicas[calls.Add(1)%2].Load()
			if to == nil { // the new one has not started yet
				to = replicas[0].Load()
			}
			r.SetURL(to)
		},
		ModifyResponse: func(res *http.Response) error {
			if res.StatusCode == http.StatusGone {
				unknown.Add(1)
			}
			return nil
		},
	})
	t.Cleanup(balancer.Close)
	w := newWorld(t, options{later: true, env: []string{"INNGEST_SERVE_ORIGIN=" + balancer.URL}})
	mails := testenv.NewSMTP(t, testenv.SMTPOptions{})
	start := func(i int, set ...string) {
		t.Helper()
		w.url = fmt.Sprintf("http://127.0.0.1:%d", testenv.FreePort(t))
		u, err := url.Parse(w.url)
		if err != nil {
			t.Fatal(err)
		}
		replicas[i].Store(u)
		w.env = append(append(w.env, "PORT="+u.Port()), set...) // the last of two counts
		w.startService()
		process := w.service
		t.Cleanup(func() { kill(process) })
	}
	start(0)
	old := w.log // of its own, so that the new one's registration is told from one of the old one
	w.log = &logFile{}
	t.Cleanup(func() { _, _ = w.log.Write([]byte(old.String())) }) // which the world looks through at its end
	// Each registers every 5 seconds, so the function would be gone for 3 of these.
	<-time.After(2 * time.Second)
	start(1, "SMTP_URL=smtp://"+mails.Addr, "MAIL_FROM=App <hello@app.example>")

	n := 0
	for end := time.Now().Add(7 * time.Second); time.Now().Before(end) || unknown.Load() == 0 && n < 500; n++ {
		w.url = replicas[n%2].Load().String()
		w.deliver(signUp(t, n))
		<-time.After(150 * time.Millisecond)
	}
	w.drained()
	until(t, "there is a mail for each sign-up", 2*time.Minute, func() bool { return len(mails.Mails()) >= n })
	got := map[string]int{}
	for _, m := range mails.Mails() {
		got[strings.Join(m.To, " ")]++
	}
	for i := range n {
		if to := fmt.Sprintf("ada-%d@mail.example", i); got[to] != 1 {
			t.Errorf("got %d mails to %s, want 1", got[to], to)
		}
	}
	if unknown.Load() == 0 {
		t.Error("the old process was never asked for the new function")
	}
	const stopped = "a process that started later has other functions"
	w.until("the old process says that it has stopped to register its functions", func() bool {
		return old.count(stopped) > 0
	})
	if n := old.count(stopped); n != 1 {
		t.Errorf("the old process says %d times that it has stopped to register its functions, want once", n)
	}
	t.Logf("%d sign-ups, %d calls, %d of them of a function that the process does not have", n, calls.Load(),
		unknown.Load())
}
