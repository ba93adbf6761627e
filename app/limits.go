package app

import (
	"io"
	"net/http"
	"time"
)

// These limits bound the memory that requests take before anybody knows who sent them. A small request takes smallBody
// at most. All large requests together take at most largeWebhooks times webhook.MaxBody plus largeCalls times maxCall,
// and while Svix's library verifies a webhook, it makes three copies of it. The number of connections is bounded by the
// proxy in front of the service, or by the limit on open files.
const (
	// smallBody is in bytes, and far above the 2 to 4 KB of a usual webhook.
	smallBody     = 32 << 10
	largeWebhooks = 8
	largeCalls    = 8
	// maxCall is the size in bytes of the largest call of Inngest that is read. Inngest's servers send up to 4 MB; the
	// SDK's own limit is 100 MB.
	maxCall = 5 << 20
	// readTimeout is how long Clerk waits for an answer. Inngest's calls are small enough to be read in this time too.
	readTimeout = 15 * time.Second
	// progressBody is how many bytes of a large body must arrive within each limits.progress, or all the rest of it.
	progressBody = 64 << 10
)

// limits bound requests whose body is larger than smallBody or of unknown length.
type limits struct {
	slots    int           // how many of them are read at the same time
	wait     time.Duration // how long a further request waits for a slot; its body is not read meanwhile
	progress time.Duration // the next progressBody bytes must arrive within this time, or the connection is closed
	whole    time.Duration // the whole body must arrive within this time, or the connection is closed
}

// boundMemory passes at most n large requests to h at the same time. Other large requests wait, and get 503 if they
// wait too long.
func boundMemory(h http.Handler, n int) http.Handler {
	return limits{slots: n, wait: 5 * time.Second, progress: 2 * time.Second, whole: readTimeout}.bound(h)
}

// bound keeps a slot for each large request until h returns. The time limits are for the body only: after its last
// byte, h may take longer.
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
			w.WriteHeader(http.StatusServiceUnavailable) // without this, net/http would answer 200
		}
	})
}

// timedBody is a body whose next progressBody bytes must always arrive in time. If they do not, the read fails, and
// net/http closes the connection.
type timedBody struct {
	io.ReadCloser
	conn     *http.ResponseController
	progress time.Duration
	end      time.Time
	left     int // how many bytes are left until the deadline is set anew
	// over is true after the last byte. Then net/http has removed the deadline, and a new one would end the context of
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
