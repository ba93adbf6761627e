package main

import (
	"net/http"
	"time"
)

// What requests that nobody has authenticated yet may take of the memory: smallBody for each connection, and for all others together
// largeWebhooks times webhook.MaxBody and largeCalls times maxCall. How many connections there are, the proxy in front or the
// limit on open files decides.
const (
	// smallBody is far above the 2 to 4 KB of a usual webhook.
	smallBody     = 32 << 10
	largeWebhooks = 16
	largeCalls    = 8
	// maxCall is the largest call of Inngest, whose servers send up to 4 MB; the SDK takes 100 MB unless told.
	maxCall = 5 << 20
	// slotWait is how long a large body waits for its turn, unread.
	slotWait = 5 * time.Second
)

// boundMemory lets only n requests with a body over smallBody, or of unknown length, into h at once. Others wait, and get 503 when that
// takes too long.
func boundMemory(h http.Handler, n int) http.Handler {
	slots := make(chan struct{}, n)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength >= 0 && r.ContentLength <= smallBody {
			h.ServeHTTP(w, r)
			return
		}
		wait := time.NewTimer(slotWait)
		defer wait.Stop()
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
			h.ServeHTTP(w, r)
		case <-wait.C:
			w.Header().Set("Retry-After", "5")
			http.Error(w, "too many large requests at once: send it again", http.StatusServiceUnavailable)
		case <-r.Context().Done():
		}
	})
}
