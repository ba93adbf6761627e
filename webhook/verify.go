package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// tolerance is how far the time of a signature may be from ours.
const tolerance = 5 * time.Minute

// verify returns the id of the message, and to the second when it was sent, if one of the keys has signed the body
// within tolerance of now. No error quotes anything.
//
// It is what Svix's library does (https://docs.svix.com/receiving/verifying-payloads/how-manual; FuzzVerify compares the two) without the
// three copies of the body that the library makes, a fifth of a webhook's garbage.
func verify(keys [][]byte, body []byte, header http.Header, now time.Time) (id string, sent time.Time, err error) {
	signed := func(prefix string) (id, at, signatures string, ok bool) {
		id, at, signatures = header.Get(prefix+"-id"), header.Get(prefix+"-timestamp"), header.Get(prefix+"-signature")
		return id, at, signatures, id != "" && at != "" && signatures != ""
	}
	id, at, signatures, ok := signed("Svix")
	if !ok {
		id, at, signatures, ok = signed("Webhook")
	}
	if !ok {
		return "", time.Time{}, errors.New("missing required headers")
	}
	seconds, err := strconv.ParseInt(at, 10, 64)
	if err != nil {
		return "", time.Time{}, errors.New("invalid signature headers")
	}
	switch sent = time.Unix(seconds, 0); {
	case now.Sub(sent) > tolerance:
		return "", time.Time{}, errors.New("message timestamp too old")
	case seconds > now.Add(tolerance).Unix():
		return "", time.Time{}, errors.New("message timestamp too new")
	}
	prefix := append(strconv.AppendInt([]byte(id+"."), seconds, 10), '.')
	for _, k := range keys {
		mac := hmac.New(sha256.New, k)
		mac.Write(prefix)
		mac.Write(body)
		want := base64.StdEncoding.AppendEncode(nil, mac.Sum(nil))
		for s := range strings.SplitSeq(signatures, " ") {
			version, signature, _ := strings.Cut(s, ",")
			signature, _, _ = strings.Cut(signature, ",")
			if version == "v1" && hmac.Equal([]byte(signature), want) {
				return id, sent, nil
			}
		}
	}
	return "", time.Time{}, errors.New("no matching signature found")
}
