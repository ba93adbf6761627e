package inngest

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"time"

	"clerksync/reach"
)

// Errors that callers tell apart.
var (
	// ErrKey says that Inngest does not accept the key of a request.
	ErrKey = errors.New("the key is not accepted")
	// ErrNoLists says that this Inngest cannot list its functions.
	ErrNoLists = errors.New("this Inngest does not list functions")
	// errPart says that the answer was 2xx, but its body ended too soon.
	errPart = errors.New("it does not say all of its answer")
)

// ProbeEvent is the name of the event that SendProbe sends. No function listens to it.
const ProbeEvent = "clerksync/doctor.checked"

// maxAnswer is how many bytes of an answer are read.
const maxAnswer = 5 << 20

// Server is an Inngest server, with this app's keys and id there.
type Server struct {
	URL      string // of a dev server or a self-hosted Inngest, without a slash at the end; "" is Inngest Cloud
	Dev      bool   // it is a dev server, which accepts any event key and does not sign its calls
	EventKey string
	// SigningKey is hexadecimal, perhaps with a prefix such as "signkey-prod-". Calls may also be signed with the
	// fallback, which may be "".
	SigningKey, SigningKeyFallback string
	Env                            string // the branch environment; "" if there is none
	AppID                          string
}

// SelfHosted tells whether it is not Inngest Cloud, so that the functions must be registered with it. Inngest Cloud
// asks for them by a signed request; other servers do not read the answer to it
// (https://github.com/inngest/inngest/issues/4669).
func (s Server) SelfHosted() bool { return s.URL != "" }

// Name returns how texts call this Inngest.
func (s Server) Name() string {
	switch {
	case s.Dev:
		return "the dev server"
	case s.SelfHosted():
		return "your Inngest"
	}
	return "Inngest Cloud"
}

func (s Server) eventKey() string { return cmp.Or(s.EventKey, "dev") } // only with a dev server may it be empty
func (s Server) apiURL() string   { return cmp.Or(s.URL, "https://api.inngest.com") }
func (s Server) eventURL() string { return cmp.Or(s.URL, "https://inn.gs") }

// eventsURL returns the URL to which events are posted. It holds the event key.
func (s Server) eventsURL() string { return s.eventURL() + "/e/" + url.PathEscape(s.eventKey()) }

// Reach returns nil if the server to which events are sent answers, with anything but a 5xx.
func (s Server) Reach(ctx context.Context) error {
	_, err := s.ask(ctx, http.MethodGet, s.eventURL()+"/health", "", nil)
	if a, ok := errors.AsType[answered](err); errors.Is(err, ErrKey) || ok && a.code < http.StatusInternalServerError {
		return nil
	}
	return err
}

// SendProbe sends an event that does nothing. The error is ErrKey if Inngest does not accept the event key.
func (s Server) SendProbe(ctx context.Context) error {
	body := []byte(`[{"name":"` + ProbeEvent + `","data":{}}]`)
	_, err := s.ask(ctx, http.MethodPost, s.eventsURL(), "", body)
	return err
}

// FunctionIDs returns the ids of the app's functions that are registered with a dev server or a self-hosted Inngest, or
// none if it does not know the app. The error is ErrKey if Inngest does not accept the signing key, and ErrNoLists if
// it cannot list functions.
func (s Server) FunctionIDs(ctx context.Context, signingKey string) ([]string, error) {
	list := s.apiURL() + "/v1/apps/" + url.PathEscape(s.AppID) + "/functions"
	b, err := s.ask(ctx, http.MethodGet, list, hashed(signingKey), nil)
	if a, ok := errors.AsType[answered](err); ok && a.code == http.StatusNotFound {
		return nil, ErrNoLists
	}
	if err != nil {
		return nil, err
	}
	var all []struct {
		Slug     string    `json:"id"`
		Archived time.Time `json:"archived_at"`
	}
	if json.Unmarshal(b, &all) != nil {
		return nil, ErrNoLists
	}
	var ids []string
	for _, f := range all {
		if f.Archived.Year() <= 1 {
			ids = append(ids, f.Slug)
		}
	}
	return ids, nil
}

// CheckCloudKey sends a harmless request to Inngest Cloud. The error is ErrKey if Inngest does not accept the signing
// key.
func (s Server) CheckCloudKey(ctx context.Context, signingKey string) error {
	// This needs the key itself and not its hash: https://api-docs.inngest.com/authentication
	events := s.apiURL() + "/v1/events?limit=1&name=" + url.QueryEscape(ProbeEvent)
	_, err := s.ask(ctx, http.MethodGet, events, signingKey, nil)
	return err
}

// hasCheckpoints asks whether the server takes checkpoints; Inngest v1.12.1, for one, does not know their path. After
// an error nobody knows.
func (s Server) hasCheckpoints(ctx context.Context) (bool, error) {
	const noRun = "00000000000000000000000000" // a ULID
	err := s.post(ctx, "/v1/checkpoint/"+noRun+"/async", nil)
	a, ok := errors.AsType[answered](err)
	switch {
	case ok && a.code == http.StatusNotFound:
		return false, nil
	case err == nil, errors.Is(err, ErrKey), ok && a.code < http.StatusInternalServerError: // 400: nothing was sent
		return true, nil
	}
	return false, err
}

// exposes tells whether others on the network could read the signing key that the SDK sends with each checkpoint.
func (s Server) exposes() bool {
	u, err := url.Parse(s.apiURL())
	if err != nil || u.Scheme == "https" {
		return err != nil
	}
	return u.Hostname() != "localhost" && !net.ParseIP(u.Hostname()).IsLoopback()
}

// answered is an answer other than 2xx.
type answered struct {
	code int
	said string // the error text in the answer
}

func (a answered) Error() string {
	text := fmt.Sprintf("it answers %d %s", a.code, http.StatusText(a.code))
	if a.said != "" {
		text += ": " + a.said
	}
	return text
}

// post posts to the API with the signing key, or with the fallback if Inngest does not accept the signing key.
func (s Server) post(ctx context.Context, path string, body []byte) error {
	_, err := s.ask(ctx, http.MethodPost, s.apiURL()+path, hashed(s.SigningKey), body)
	if errors.Is(err, ErrKey) && s.SigningKeyFallback != "" {
		_, err = s.ask(ctx, http.MethodPost, s.apiURL()+path, hashed(s.SigningKeyFallback), body)
	}
	return err
}

// ask makes a request and returns the body of a 2xx answer. The error is ErrKey, answered, errPart or a network error.
func (s Server) ask(ctx context.Context, method, to, bearer string, body []byte) ([]byte, error) {
	res, err := s.call(ctx, &http.Client{}, method, to, bearer, body)
	switch {
	case res == nil:
		return nil, err
	case res.code == http.StatusUnauthorized || res.code == http.StatusForbidden:
		return nil, ErrKey
	case res.code >= http.StatusMultipleChoices:
		var answer struct{ Error string }
		_ = json.Unmarshal(res.body, &answer) // the status says enough
		return nil, answered{res.code, answer.Error}
	case err != nil:
		return nil, fmt.Errorf("%w: %w", errPart, err)
	}
	return res.body, nil
}

type response struct {
	code   int
	header http.Header
	body   []byte // perhaps not all of it
}

// call makes a request and returns the answer. The answer is nil if there is none. If only part of its body came, call
// returns both the answer and an error. No error quotes the URL, which may hold the event key.
func (s Server) call(
	ctx context.Context, client *http.Client, method, to, bearer string, body []byte,
) (*response, error) {
	req, err := http.NewRequestWithContext(ctx, method, to, bytes.NewReader(body))
	if err != nil {
		return nil, reach.Explain(err)
	}
	req.Header.Set("User-Agent", "clerksync")
	req.Header.Set("Content-Type", "application/json")
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	if s.Env != "" {
		req.Header.Set("X-Inngest-Env", s.Env)
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, reach.Explain(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	return &response{res.StatusCode, res.Header, b}, err
}

// hashed returns the hash of a signing key, which the SDKs send to Inngest's API. A self-hosted Inngest accepts the key
// itself too, but the connection may have no TLS.
func hashed(key string) string {
	prefix, bare := splitKey(key)
	raw, err := hex.DecodeString(bare)
	if key == "" || err != nil { // a dev server's, or a key that the check of the settings has reported
		return ""
	}
	sum := sha256.Sum256(raw)
	return prefix + hex.EncodeToString(sum[:])
}

// splitKey splits a signing key into its prefix, such as "signkey-prod-", and the key itself.
func splitKey(key string) (prefix, bare string) {
	prefix = regexp.MustCompile(`^signkey-\w+-`).FindString(key)
	return prefix, key[len(prefix):]
}

// App names the app at this server: a registration replaces what was registered by the same name. It holds no secret.
func (s Server) App() string { return s.AppID + " at " + s.PageURL() }

// PageURL returns the URL of the page where Inngest shows the functions and their runs, without a password that the
// server's URL may hold.
func (s Server) PageURL() string {
	if !s.SelfHosted() {
		return "https://app.inngest.com"
	}
	u, err := url.Parse(s.URL)
	if err != nil {
		return ""
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}
