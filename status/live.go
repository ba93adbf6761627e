package status

import (
	"bytes"
	"fmt"
	"net/http"
	"time"

	"clerksync/activity"
)

const (
	// maxViewers is how many streams there may be, each of which keeps a connection.
	maxViewers = 32
	// liveEvery is how often a stream sends the page.
	liveEvery = 5 * time.Second
	// writeTime is how long a viewer may take to read what was sent.
	writeTime = 30 * time.Second
)

// stream sends the parts of the page that change, as server-sent events: one event has the HTML of all of them, which
// page.js puts in their places. It ends with the session, and when the service ends.
func (p *Page) stream(w http.ResponseWriter, r *http.Request, v visitor) {
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" {
		http.Error(w, "another page cannot watch", http.StatusForbidden)
		return
	}
	select {
	case <-p.ended:
		http.Error(w, "the service ends", http.StatusServiceUnavailable)
		return
	default:
	}
	select {
	case p.viewers <- struct{}{}:
		defer func() { <-p.viewers }()
	default:
		http.Error(w, "too many are watching: reload the page by hand", http.StatusServiceUnavailable)
		return
	}
	var expired <-chan time.Time
	if !v.until.IsZero() {
		end := time.NewTimer(v.until.Sub(p.now()))
		defer end.Stop()
		expired = end.C
	}
	events, end := p.Activity.Subscribe()
	defer end()
	tick := time.NewTicker(liveEvery)
	defer tick.Stop()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // nginx would hold it back
	for {
		if p.send(w, r) != nil {
			return // the viewer has gone
		}
		if !p.wait(r, tick.C, events, expired) {
			return
		}
	}
}

// wait waits until there is something to send: at each tick, and soon after an event. It returns false if the
// stream is to end.
func (p *Page) wait(
	r *http.Request, tick <-chan time.Time, events <-chan activity.Event, expired <-chan time.Time,
) bool {
	var soon <-chan time.Time
	for {
		select {
		case <-events:
			if soon == nil { // by then the overview of now is too old
				p.mu.Lock()
				soon = time.After(p.rest())
				p.mu.Unlock()
			}
		case <-soon:
			return true
		case <-tick:
			return true
		case <-expired:
			return false
		case <-p.ended:
			return false
		case <-r.Context().Done():
			return false
		}
	}
}

// send sends the page as it is now.
func (p *Page) send(w http.ResponseWriter, r *http.Request) error {
	var html, event bytes.Buffer
	if err := p.page.ExecuteTemplate(&html, "live", p.view(r)); err != nil {
		return err
	}
	event.WriteString("retry: 3000\n")
	// A carriage return would end the line: the template leaves those alone that a user has typed.
	for line := range bytes.Lines(bytes.ReplaceAll(html.Bytes(), []byte("\r"), []byte("&#13;"))) {
		if line = bytes.TrimSpace(line); len(line) > 0 {
			fmt.Fprintf(&event, "data: %s\n", line)
		}
	}
	event.WriteString("\n")
	conn := http.NewResponseController(w)
	// The server's WriteTimeout is for answers that end. Where it cannot be moved, the browser connects again.
	_ = conn.SetWriteDeadline(time.Now().Add(writeTime))
	if _, err := w.Write(event.Bytes()); err != nil {
		return err
	}
	return conn.Flush()
}
