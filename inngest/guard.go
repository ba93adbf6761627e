package inngest

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

const (
	signatureHeader = "X-Inngest-Signature"
	// tolerance is how old a signature may be, as in the SDK, and how far it may be ahead of our clock.
	tolerance = 5 * time.Minute
	// canonicalBody, in bytes, and canonicalDepth, in levels, bound the bodies that are canonicalised before they are
	// verified. Inngest's servers sign the canonical form of their PUT, which holds one URL, but send another form.
	// When they call functions, they send the canonical form.
	canonicalBody  = 64 << 10
	canonicalDepth = 100
)

// The reasons why a call is refused.
var (
	errUnsigned = errors.New("it is not signed")
	errForm     = errors.New("its signature cannot be read")
	errTime     = errors.New("it was signed more than five minutes ago, or ahead of our clock: check the clocks")
	errWrong    = errors.New("it is signed with another key, or was changed: check the signing key")
)

// guard returns a handler that passes only calls that Inngest has signed to sdk, the handler of inngestgo. The SDK
// verifies calls too, but before that it canonicalises the body of any sender, recursively without a bound and in
// quadratic time. If it cannot canonicalise a body, it treats it as empty (github.com/gowebpki/jcs v1.0.0).
//
// It answers 401 if a call is not signed, 413 if the body has more than maxBody bytes, and 400 if the body cannot be
// decoded: it is not JSON, or has more than 10,000 levels, where Go's decoders stop. With fewer levels the SDK is safe,
// and Inngest's own servers cannot send more either.
func guard(sdk http.Handler, s Server, maxBody int64, log *slog.Logger) http.Handler {
	var keys [][]byte
	for _, k := range []string{s.SigningKey, s.SigningKeyFallback} {
		if _, bare := splitKey(k); bare != "" {
			keys = append(keys, []byte(bare))
		}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		refuse := func(why error) {
			level := slog.LevelWarn
			if errors.Is(why, errUnsigned) { // anybody who finds the path can cause this
				level = slog.LevelDebug
			}
			log.Log(r.Context(), level, "refused a call of the functions", "method", r.Method, "error", why)
			answer(w, http.StatusUnauthorized, "Unauthorized")
		}
		var sig signature
		if !s.Dev {
			var err error
			if sig, err = parse(r.Header.Get(signatureHeader), time.Now()); err != nil {
				refuse(err)
				return
			}
		}
		body, err := read(w, r, maxBody)
		if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
			answer(w, http.StatusRequestEntityTooLarge, "the body is too large")
			return
		} else if err != nil {
			answer(w, http.StatusBadRequest, "the body cannot be read")
			return
		}
		if !s.Dev && !sig.verifies(body, keys) {
			refuse(errWrong)
			return
		}
		twice, noUTF8 := jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true) // Go's decoders allow both
		if len(body) > 0 && !jsontext.Value(body).IsValid(twice, noUTF8) {
			answer(w, http.StatusBadRequest, "the body is no JSON, or too deep")
			return
		}
		verified := *r
		verified.Body = io.NopCloser(bytes.NewReader(body))
		sdk.ServeHTTP(w, &verified)
	})
}

func answer(w http.ResponseWriter, code int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = io.WriteString(w, `{"message":`+strconv.Quote(message)+"}\n") // the caller will call again
}

// read returns the whole body. The error is an http.MaxBytesError if the body has more than limit bytes.
func read(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	size := bytes.MinRead
	if n := r.ContentLength; n > 0 && n <= limit {
		size += int(n)
	}
	b := bytes.NewBuffer(make([]byte, 0, size))
	_, err := b.ReadFrom(http.MaxBytesReader(w, r.Body, limit))
	return b.Bytes(), err
}

// signature is a parsed "t=SECONDS&s=HMAC".
type signature struct {
	at  string
	mac []byte
}

// parse reads the signature header. The error is errUnsigned, errForm or errTime.
func parse(header string, now time.Time) (signature, error) {
	if header == "" {
		return signature{}, errUnsigned
	}
	t, s, _ := strings.Cut(strings.TrimPrefix(header, "t="), "&s=")
	at, err := strconv.ParseInt(t, 10, 64)
	if err != nil {
		return signature{}, errForm
	}
	mac, err := hex.DecodeString(s)
	if err != nil || len(mac) != sha256.Size {
		return signature{}, errForm
	}
	if most := int64(tolerance / time.Second); at < now.Unix()-most || at > now.Unix()+most {
		return signature{}, errTime
	}
	return signature{at: t, mac: mac}, nil
}

// verifies tells whether the signature is by one of the keys over the body as it is or, if the body is small, over its
// canonical form (RFC 8785).
func (s signature) verifies(body []byte, keys [][]byte) bool {
	if s.signs(body, keys) {
		return true
	}
	if len(body) == 0 || len(body) > canonicalBody || deeper(body, canonicalDepth) {
		return false
	}
	canonical := jsontext.Value(bytes.Clone(body))
	return canonical.Canonicalize() == nil && s.signs(canonical, keys)
}

func (s signature) signs(body []byte, keys [][]byte) bool {
	for _, k := range keys {
		mac := hmac.New(sha256.New, k)
		_, _ = mac.Write(body) // never fails
		_, _ = io.WriteString(mac, s.at)
		if hmac.Equal(mac.Sum(nil), s.mac) {
			return true
		}
	}
	return false
}

// deeper tells whether body has more than limit levels of JSON, or is not JSON.
func deeper(body []byte, limit int) bool {
	d := jsontext.NewDecoder(bytes.NewBuffer(body))
	for {
		if _, err := d.ReadToken(); err != nil {
			return !errors.Is(err, io.EOF)
		}
		if d.StackDepth() > limit {
			return true
		}
	}
}
