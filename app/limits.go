package app

import (
	"io"
	"net/http"
	"time"
)

// These bound the memory that requests take before it is known who sent them: smallBody for each connection, and for
// all larger ones together largeWebhooks times webhook.MaxBody and largeCalls times maxCall. Svix's library makes three
// copies of a webhook while it verifies it. The number of connections is bounded by the proxy in front, or by the limit
// on open files.
const (
	// smallBody is far above the 2 to 4 KB of a usual webhook.
	smallBody     = 32 << 10
	largeWebhooks = 8
	largeCalls    = 8
	// maxCall is the largest call of Inngest that is read. Its servers send up to 4 MB; the SDK's own limit is 100 MB.
	maxCall = 5 << 20
	// readTimeout is how long Clerk waits for an answer. Inngest's calls are small enough for it.
	readTimeout = 15 * time.Second
	// progressBody is what a large body must bring within limits.progress, unless it is the rest.
	progressBody = 64 << 10
)

// limits are for requests with a body over smallBody, or of unknown length.
type limits struct {
	slots    int           // how many of them are read at once
	wait     time.Duration // how long another one waits for a slot; nothing of it is read meanwhile
	progress time.Duration // within which the next progressBody bytes must come, or the connection is closed
	whole    time.Duration // within which the whole body must come, likewise
}

// boundMemory lets only n large requests into h at once. Others wait, and get 503 when that takes too long.
func boundMemory(h http.Handler, n int) http.Handler {
	return limits{slots: n, wait: 5 * time.Second, progress: 2 * time.Second, whole: readTimeout}.bound(h)
}

// bound keeps a slot until h returns. The limits of time are for the body: after its last byte, h may take longer.
func (l limits) bound(h http.Handler) http.Handler {
	slots := make(chan struct{}, l.slots)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength >= 0 && r.ContentLength <= smallBody {
			h.ServeHTTP(w, r)
			return
		}
		end := time.Now().Add(l.whole)
		wait := time.NewTimer(l.wait)
		defer wait.Stop()
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
			timed := *r
			conn := http.NewResponseController(w)
			timed.Body = &timedBody{ReadCloser: r.Body, conn: conn, progress: l.progress, end: end}
			h.ServeHTTP(w, &timed)
		case <-wait.C:
			w.Header().Set("Retry-After", "5")
			http.Error(w, "too many large requests at once: send it again", http.StatusServiceUnavailable)
		case <-r.Context().Done():
		}
	})
}

// timedBody is a body whose next progressBody bytes must come in time. If they do not, the read fails, and net/http
// closes the connection.
type timedBody struct {
	io.ReadCloser
	conn     *http.ResponseController
	progress time.Duration
	end      time.Time
	left     int // until the time begins anew
	// over is true after the last byte, when net/http has taken the deadline away: another one would end the context of
	// the handler that has read the body.
	over bool
}

func (b *timedBody) Read(p []byte) (int, error) {
	if b.left <= 0 && !b.over {
		b.left = progressBody
		by := time.Now().Add(b.progress)
		if by.After(b.end) {
			by = b.end
		}
		if err := b.conn.SetReadDeadline(by); err != nil {
			return 0, err
		}
	}
	n, err := b.ReadCloser.Read(p)
	b.left -= n
	b.over = b.over || err != nil
	return n, err
}
