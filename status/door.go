package status

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"hash/maphash"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"golang.org/x/time/rate"
)

// This file says who gets in: whoever has ADMIN_TOKEN, as a bearer token or in exchange for a session, and, if the page
// is open, a browser on this machine.

const (
	cookieName  = "clerksync_session"
	sessionTime = 12 * time.Hour
	// After guesses wrong tokens in a row, one more may be tried every guessEvery. So an operator whose address
	// somebody else has used for guessing waits for seconds and not for ever, and an open session goes on meanwhile.
	guesses    = 10
	guessEvery = 6 * time.Second
)

// door lets requests in. It is safe for concurrent use.
type door struct {
	token string // "" if no token opens it
	open  bool   // also to browsers on this machine
	now   func() time.Time
	// limits count the wrong tokens. An address has one of them by its hash, which takes little memory whoever comes.
	limits [256]*rate.Limiter
	seed   maphash.Seed
}

func newDoor(token string, open bool, now func() time.Time) *door {
	d := &door{token: token, open: open, now: now, seed: maphash.MakeSeed()}
	for i := range d.limits {
		d.limits[i] = rate.NewLimiter(rate.Every(guessEvery), guesses)
	}
	return d
}

// visitor is somebody who was let in.
type visitor struct {
	until time.Time // when the session ends; the zero time if there is none
}

// who returns the visitor of a request, or the status and the words of the answer to somebody who is not let in.
func (d *door) who(r *http.Request) (v visitor, refused int, why string) {
	if d.open && localPeer(r) && localHost(r.Host) && !forwarded(r) {
		return v, 0, ""
	}
	if d.token == "" {
		return v, http.StatusForbidden, "This page is open only to a browser on the machine where clerksync dev " +
			"runs, at http://127.0.0.1:PORT/status and not through a tunnel or a proxy. For others, set ADMIN_TOKEN."
	}
	if token, is := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); is {
		refused, why = d.try(r, token)
		return v, refused, why
	}
	if c, err := r.Cookie(cookieName); err == nil {
		if until, ok := d.session(c.Value); ok {
			return visitor{until}, 0, ""
		}
	}
	return v, http.StatusUnauthorized, ""
}

// try compares a token with ADMIN_TOKEN. It returns 0 if they are equal.
func (d *door) try(r *http.Request, token string) (refused int, why string) {
	limit, now := d.limit(r), d.now()
	if limit.TokensAt(now) < 1 {
		return http.StatusTooManyRequests, "Too many wrong tokens came from this address: wait for a minute."
	}
	if !IsToken(token, d.token) {
		limit.AllowN(now, 1)
		return http.StatusUnauthorized, "That is not ADMIN_TOKEN."
	}
	return 0, ""
}

// limit returns that of the address that a request comes from. A few other addresses have it too.
func (d *door) limit(r *http.Request) *rate.Limiter {
	return d.limits[maphash.String(d.seed, address(r))%uint64(len(d.limits))]
}

// IsToken tells whether a token is the wanted one; none is if that is "". It compares hashes, so that the time does not
// tell the length of the token.
func IsToken(token, wanted string) bool {
	got, want := sha256.Sum256([]byte(token)), sha256.Sum256([]byte(wanted))
	return wanted != "" && subtle.ConstantTimeCompare(got[:], want[:]) == 1
}

// address returns the address that a request comes from, of IPv6 the network, of which one machine has all addresses.
func address(r *http.Request) string {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return ""
	}
	ip := peer.Addr().Unmap()
	if ip.Is6() {
		network, _ := ip.Prefix(64) // it fails only for lengths that there are not
		return network.String()
	}
	return ip.String()
}

// begin gives the browser a session.
func (d *door) begin(w http.ResponseWriter, r *http.Request) {
	until := d.now().Add(sessionTime).Unix()
	d.setCookie(w, r, strconv.FormatInt(until, 10)+"."+d.sign(until), int(sessionTime.Seconds()))
}

// end takes the session from the browser.
func (d *door) end(w http.ResponseWriter, r *http.Request) { d.setCookie(w, r, "", -1) }

func (d *door) setCookie(w http.ResponseWriter, r *http.Request, value string, maxAge int) {
	http.SetCookie(w, &http.Cookie{ //nolint:gosec // G124: Secure is below, and may be false only on this machine
		Name: cookieName, Value: value, Path: Path, MaxAge: maxAge, HttpOnly: true, SameSite: http.SameSiteLaxMode,
		// A browser that reaches the service as localhost uses no network, and some keep no secure cookie without TLS.
		Secure: !localHost(r.Host) || forwarded(r),
	})
}

// session returns when a session ends, and whether it is one of ours that has not ended. Nothing is stored for it, so
// it is good at every replica with the same ADMIN_TOKEN.
func (d *door) session(value string) (until time.Time, ok bool) {
	text, mac, _ := strings.Cut(value, ".")
	unix, err := strconv.ParseInt(text, 10, 64)
	if err != nil || subtle.ConstantTimeCompare([]byte(mac), []byte(d.sign(unix))) != 1 {
		return time.Time{}, false
	}
	until = time.Unix(unix, 0)
	return until, d.now().Before(until)
}

func (d *door) sign(until int64) string {
	h := hmac.New(sha256.New, []byte(d.token))
	_, _ = h.Write([]byte("clerksync session until " + strconv.FormatInt(until, 10))) // never fails
	return hex.EncodeToString(h.Sum(nil))
}

// localPeer tells whether the connection comes from this machine.
func localPeer(r *http.Request) bool {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && peer.Addr().Unmap().IsLoopback()
}

// localHost tells whether a browser that sends this Host header was told to go to this machine. If it was told another
// name, that name's owner may have pointed it here to read the page (DNS rebinding).
func localHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	switch strings.ToLower(host) {
	case "localhost", "127.0.0.1", "::1", "[::1]":
		return true
	}
	return false
}

// forwarded tells whether something between the browser and this machine passed the request on, such as a tunnel. All
// tunnels and proxies that are known to add a header add one of these; browsers send none of them.
func forwarded(r *http.Request) bool {
	for name := range r.Header {
		name = strings.ToLower(name)
		for _, begin := range []string{
			"forwarded", "via", "x-", "cf-", "cdn-", "ngrok-", "fly-", "fastly-", "tailscale-", "cloudfront-",
			"akamai-", "true-client-ip", "client-ip", "proxy-", "traceparent", "b3",
		} {
			if strings.HasPrefix(name, begin) {
				return true
			}
		}
	}
	return false
}
