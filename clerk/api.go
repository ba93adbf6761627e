package clerk

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unicode"

	"github.com/cenkalti/backoff/v5"
	"github.com/go-json-experiment/json/jsontext"
	"golang.org/x/time/rate"
)

// Errors of the API that callers branch on.
var (
	ErrNoUser = errors.New("no such user at Clerk")
	ErrKey    = errors.New("CLERK_SECRET_KEY")
)

// DefaultURL is Clerk's Backend API.
const DefaultURL = "https://api.clerk.com"

// apiVersion is the specification that this package was written by (github.com/clerk/openapi-specs,
// bapi/2026-05-12.yml): without the header Clerk answers by an older one, or by the one that the dashboard names.
const apiVersion = "2026-05-12"

const (
	// MaxPage is the most users that Clerk lists in one answer.
	MaxPage = 500
	// MaxIDs is the most ids that Clerk takes in one request.
	MaxIDs = 100
	// overlap is how many users a page by offset has in common with the one before: deletions in between move users
	// forward, and without it they would be passed over.
	overlap = 100
	// attemptTimeout bounds one request: a page of 500 users is 2 MB, and large offsets are slow.
	attemptTimeout = 30 * time.Second
	// attempts is how often a request is tried: firstWait, and then twice as long each time, 0.5 + 1 + 2 + 4 s, or what
	// Retry-After says if that is longer.
	attempts  = 5
	firstWait = 500 * time.Millisecond
	// maxWait is the longest Retry-After that is waited for in a call.
	maxWait = 30 * time.Second
	// maxBody bounds an answer: 500 users of 30 KB are 15 MB.
	maxBody = 64 << 20
)

// APIOptions is what NewAPI needs.
type APIOptions struct {
	SecretKey string
	URL       string  // "" is DefaultURL
	Share     float64 // of Clerk's rate limit that we may use, at most 1
	PageSize  int     // 0 is MaxPage; 2 at least
}

// API is Clerk's Backend API as far as it is about users. It stays under Clerk's rate limit and tries again what may
// succeed. It is safe for concurrent use.
type API struct {
	o       APIOptions
	limiter *rate.Limiter
	client  *http.Client
	refused atomic.Int32 // how often the cursor was refused
}

// CheckKey returns an error that says what is wrong with a secret key, without quoting it.
func CheckKey(key string) error {
	if !strings.HasPrefix(key, "sk_live_") && !strings.HasPrefix(key, "sk_test_") {
		return fmt.Errorf("%w does not begin with sk_live_ or sk_test_: copy the secret key from Clerk's dashboard, API keys", ErrKey)
	}
	if strings.ContainsFunc(key, unicode.IsSpace) {
		return fmt.Errorf("%w holds white space: copy the secret key alone, without the end of the line", ErrKey)
	}
	return nil
}

// IsDevelopment tells whether a secret key is of a development instance.
func IsDevelopment(key string) bool { return strings.HasPrefix(key, "sk_test_") }

// NewAPI returns a client; it makes no request. The errors are CheckKey's.
func NewAPI(o APIOptions) (*API, error) {
	if err := CheckKey(o.SecretKey); err != nil {
		return nil, err
	}
	if o.URL == "" {
		o.URL = DefaultURL
	}
	o.URL = strings.TrimRight(o.URL, "/")
	if o.PageSize == 0 {
		o.PageSize = MaxPage
	}
	o.PageSize = max(2, o.PageSize) // pages by offset overlap
	// Per instance, all its callers together: https://clerk.com/docs/guides/how-clerk-works/system-limits
	perSecond := 100.0
	if IsDevelopment(o.SecretKey) {
		perSecond = 10
	}
	// A bucket of one that begins empty: Clerk counts ten seconds, and a burst would come on top of what they may hold.
	limiter := rate.NewLimiter(rate.Limit(perSecond*o.Share), 1)
	limiter.Allow()
	return &API{o: o, client: &http.Client{}, limiter: limiter}, nil
}

// Page is an answer that lists users.
type Page struct {
	Users []User
	// At is when Clerk was asked, by the earlier of its clock and ours: a change that came later is newer than the
	// page. It is the time of the event that the page is. Clerk's clock is its Date header, in whole seconds, so At may
	// be a second too early.
	At Millis
	// AnsweredAt is when the answer was there, by the later of our clock and of Clerk's, which is its Date header and
	// the second that this leaves open: nothing in the page happened after it, and a time in it that is later is wrong.
	AnsweredAt Millis
	// Next is where the next page begins; "" after the last.
	Next string
	// Skipped is what in the page is not a user that we can read.
	Skipped []Skipped
}

// Skipped is an entry of a list that cannot be read as a user.
type Skipped struct {
	ID  string // "" if it has none
	Err error  // holds ErrNotUser, and quotes no data
}

// ListCreated returns a page of the users, oldest first. after is a page's Next; "" begins. A user who is created
// meanwhile is in a later page, and however many are deleted meanwhile, no other is passed over; some may be in two
// pages then.
func (a *API) ListCreated(ctx context.Context, after string) (Page, error) {
	last, err := parsePlace(after)
	if err != nil {
		return Page{}, err
	}
	q := url.Values{"order_by": {"+created_at"}, "limit": {strconv.Itoa(a.o.PageSize)}}
	if last.id == "" {
		all, when, err := a.list(ctx, q)
		if err != nil {
			return Page{}, err
		}
		return a.page(all, all, when, 0)
	}
	if a.refused.Load() < 3 {
		q.Set("starting_after", last.id)
		all, when, err := a.list(ctx, q)
		if err == nil && len(all) > 0 && all[0].created >= last.created {
			a.refused.Store(0)
			return a.page(all, all, when, last.offset)
		}
		// Refused or ignored, by a Clerk that has no cursor or because that user is deleted; or empty, for the latter
		// reason or because it was the last. The offset tells.
		if s := (statusError{}); err != nil && (!errors.As(err, &s) || s.code != http.StatusBadRequest && s.code != http.StatusNotFound && s.code != http.StatusUnprocessableEntity) {
			return Page{}, err
		}
		if err != nil || len(all) > 0 {
			a.refused.Add(1)
		}
		q.Del("starting_after")
	}
	// Each user before the last who is deleted moves all that follow forward: so begin further back, until a user is
	// there who was listed.
	step := min(overlap, a.o.PageSize/2)
	for start, back := last.offset-step, step; ; {
		start = max(0, start)
		q.Set("offset", strconv.Itoa(start))
		all, when, err := a.list(ctx, q)
		if err != nil {
			return Page{}, err
		}
		rest, joins := last.rest(all)
		switch {
		case !joins && start > 0:
			back *= 2
			start -= back
		case len(rest) == 0 && len(all) >= a.o.PageSize: // that was too far
			start, back = start+len(all)-step, step
		default:
			return a.page(rest, all, when, start)
		}
	}
}

// page makes a page of rest, which is what is new of all that an answer listed, from offset start on.
func (a *API) page(rest, all []entry, when span, start int) (Page, error) {
	p := newPage(rest, when)
	if len(all) < a.o.PageSize {
		return p, nil
	}
	for _, e := range slices.Backward(rest) {
		if e.id != "" {
			p.Next = place{start + len(all), e.created, e.id}.String()
			return p, nil
		}
	}
	return Page{}, errors.New("list Clerk's users: nothing in a page has an id")
}

// place is a place in the list of ListCreated: behind the user who is last there.
type place struct {
	offset  int // how many came before, if none of them has been deleted since
	created Millis
	id      string
}

func (l place) String() string { return fmt.Sprintf("%d %d %s", l.offset, l.created, l.id) }

func parsePlace(s string) (place, error) {
	if s == "" {
		return place{}, nil
	}
	var l place
	if n, err := fmt.Sscanf(s, "%d %d %s", &l.offset, &l.created, &l.id); n != 3 || err != nil {
		return place{}, errors.New("the place in Clerk's list cannot be read: begin with the first user again (--restart)")
	}
	return l, nil
}

// rest returns those of a list that come after the place, and whether the list begins before it, so that nobody is
// between the two. If the last user is deleted, those of the same moment are taken for new.
func (l place) rest(all []entry) (rest []entry, joins bool) {
	for i, e := range all {
		if e.id == l.id {
			return all[i+1:], true
		}
	}
	for i, e := range all {
		if e.created >= l.created {
			return all[i:], i > 0
		}
	}
	return nil, len(all) > 0
}

// ListChanged returns a page of the users, last changed first; after is a page's Next. A user who is changed meanwhile
// goes to the head of the list, so that another may be in two pages; none is passed over but by a deletion.
func (a *API) ListChanged(ctx context.Context, after string) (Page, error) {
	offset := 0
	if after != "" {
		var err error
		if offset, err = strconv.Atoi(after); err != nil {
			return Page{}, errors.New("the place in Clerk's list cannot be read")
		}
	}
	all, when, err := a.list(ctx, url.Values{"order_by": {"-updated_at"}, "limit": {strconv.Itoa(a.o.PageSize)}, "offset": {strconv.Itoa(offset)}})
	p := newPage(all, when)
	if len(all) >= a.o.PageSize {
		p.Next = strconv.Itoa(offset + len(all))
	}
	return p, err
}

// ListIDs returns which of the users, MaxIDs at the most, Clerk has, also if they cannot be read.
func (a *API) ListIDs(ctx context.Context, ids []string) (map[string]bool, error) {
	has := map[string]bool{}
	if len(ids) == 0 { // without ids Clerk would list all users
		return has, nil
	}
	all, _, err := a.list(ctx, url.Values{"user_id": ids, "limit": {strconv.Itoa(MaxIDs)}})
	for _, e := range all {
		has[e.id] = true
	}
	return has, err
}

// entry is what stands in a list: a user, or why it is none.
type entry struct {
	id      string // "" if it has none
	created Millis
	user    User
	err     error
}

func (a *API) list(ctx context.Context, q url.Values) ([]entry, span, error) {
	var raw []json.RawMessage
	when, err := a.get(ctx, "/v1/users?"+q.Encode(), '[', &raw)
	if err != nil {
		return nil, span{}, fmt.Errorf("list Clerk's users: %w", err)
	}
	all := make([]entry, len(raw))
	for i, r := range raw {
		e := &all[i]
		if e.user, e.err = ParseUser(r); e.err == nil {
			e.id, e.created = e.user.ID, e.user.CreatedAt
			continue
		}
		var u struct {
			ID        string `json:"id"`
			CreatedAt Millis `json:"created_at"`
		}
		_ = json.Unmarshal(r, &u) // what is no user either has no id
		e.id, e.created = u.ID, u.CreatedAt
	}
	return all, when, nil
}

func newPage(all []entry, when span) Page {
	p := Page{At: when.asked, AnsweredAt: when.answered, Users: make([]User, 0, len(all))}
	for _, e := range all {
		if e.err != nil {
			p.Skipped = append(p.Skipped, Skipped{e.id, e.err})
			continue
		}
		p.Users = append(p.Users, e.user)
	}
	return p
}

// Fetched is an answer about one user. Its times are those of a Page.
type Fetched struct {
	User       User
	At         Millis
	AnsweredAt Millis
}

// User returns one user, or ErrNoUser if Clerk says that there is none; the times are set with ErrNoUser too.
func (a *API) User(ctx context.Context, id string) (Fetched, error) {
	var raw json.RawMessage
	when, err := a.get(ctx, "/v1/users/"+url.PathEscape(id), '{', &raw)
	if s := (statusError{}); errors.As(err, &s) && s.code == http.StatusNotFound {
		// Only Clerk's own 404: that of a proxy, or of a wrong CLERK_API_URL, must delete nobody.
		if s.clerk == "resource_not_found" {
			return Fetched{At: when.asked, AnsweredAt: when.answered}, ErrNoUser
		}
		return Fetched{}, errors.New("ask Clerk for a user: 404, but not of Clerk's kind: check CLERK_API_URL")
	}
	if err != nil {
		return Fetched{}, fmt.Errorf("ask Clerk for a user: %w", err)
	}
	u, err := ParseUser(raw)
	if err == nil && u.ID != id {
		err = errors.New("ask Clerk for a user: the answer is another user")
	}
	return Fetched{User: u, At: when.asked, AnsweredAt: when.answered}, err
}

// Count returns how many users Clerk has.
func (a *API) Count(ctx context.Context) (int, error) { return a.count(ctx, "") }

// CountCreated returns how many users Clerk has whom it says to be created after a time.
func (a *API) CountCreated(ctx context.Context, after time.Time) (int, error) {
	return a.count(ctx, "?created_at_after="+strconv.FormatInt(after.UnixMilli(), 10))
}

func (a *API) count(ctx context.Context, query string) (int, error) {
	var c struct {
		TotalCount *int `json:"total_count"`
	}
	if _, err := a.get(ctx, "/v1/users/count"+query, '{', &c); err != nil {
		return 0, fmt.Errorf("count Clerk's users: %w", err)
	}
	if c.TotalCount == nil {
		return 0, errors.New("count Clerk's users: the answer has no total_count")
	}
	return *c.TotalCount, nil
}

// Instance returns the id of the Clerk instance that the key is of, or "" if Clerk does not tell.
func (a *API) Instance(ctx context.Context) (string, error) {
	var i struct {
		ID string `json:"id"`
	}
	_, err := a.get(ctx, "/v1/instance", '{', &i)
	if s := (statusError{}); errors.As(err, &s) && s.code == http.StatusNotFound {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("ask Clerk for the instance: %w", err)
	}
	return i.ID, nil
}

// statusError is an answer other than 200.
type statusError struct {
	code  int
	clerk string // Clerk's code of the error, such as resource_not_found
}

func (e statusError) Error() string {
	return strings.TrimSpace(fmt.Sprintf("answer %d %s", e.code, e.clerk))
}

// span is when Clerk was asked and had answered; see Page.
type span struct{ asked, answered Millis }

// waits is how long get waits between two attempts.
type waits struct {
	backoff.ExponentialBackOff
	atLeast time.Duration // what Retry-After says
}

// NextBackOff returns what is longer. With backoff.RetryAfterError the waits would begin anew, and all attempts be used
// up within seconds.
func (w *waits) NextBackOff() time.Duration {
	return max(w.atLeast, w.ExponentialBackOff.NextBackOff())
}

// get fetches path, whose answer is of a kind, into v, and returns when that was. It tries again what may succeed.
func (a *API) get(ctx context.Context, path string, kind jsontext.Kind, v any) (span, error) {
	w := &waits{ExponentialBackOff: backoff.ExponentialBackOff{InitialInterval: firstWait, RandomizationFactor: 0.5, Multiplier: 2, MaxInterval: maxWait}}
	return backoff.Retry(ctx, func() (when span, err error) {
		if err := a.limiter.Wait(ctx); err != nil {
			return span{}, backoff.Permanent(fmt.Errorf("wait for Clerk's rate limit: %w", err))
		}
		when, w.atLeast, err = a.try(ctx, path, kind, v)
		s, ok := errors.AsType[statusError](err)
		final := ok && s.code != http.StatusTooManyRequests && s.code < http.StatusInternalServerError
		if final || errors.Is(err, ErrKey) || w.atLeast > maxWait {
			err = backoff.Permanent(err)
		}
		return when, err
	}, backoff.WithMaxTries(attempts), backoff.WithBackOff(w))
}

// try makes one request. after is what Retry-After says.
func (a *API) try(ctx context.Context, path string, kind jsontext.Kind, v any) (when span, after time.Duration, err error) {
	tctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(tctx, http.MethodGet, a.o.URL+path, nil)
	if err != nil {
		return span{}, 0, errors.New("CLERK_API_URL is no URL")
	}
	req.Header.Set("Authorization", "Bearer "+a.o.SecretKey)
	req.Header.Set("Clerk-API-Version", apiVersion)
	start := time.Now()
	res, err := a.client.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return span{}, 0, ctx.Err()
		}
		// Without the URL, which may hold ids.
		if e := (*url.Error)(nil); errors.As(err, &e) {
			err = e.Err
		}
		return span{}, 0, fmt.Errorf("no answer from Clerk: %w", err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxBody))
	when = span{Millis(start.UnixMilli()), Millis(time.Now().UnixMilli())}
	if d, err := http.ParseTime(res.Header.Get("Date")); err == nil { // whole seconds: it is up to a second late
		when.asked, when.answered = min(when.asked, Millis(d.UnixMilli())), max(when.answered, Millis(d.Add(time.Second).UnixMilli()))
	}
	switch {
	case err != nil:
		return span{}, 0, fmt.Errorf("the answer broke off: %w", err)
	case res.StatusCode == http.StatusUnauthorized || res.StatusCode == http.StatusForbidden:
		return span{}, 0, fmt.Errorf("%w is not accepted (Clerk answered %d): copy the secret key again from Clerk's dashboard, API keys", ErrKey, res.StatusCode)
	case res.StatusCode != http.StatusOK:
		if s, err := strconv.Atoi(res.Header.Get("Retry-After")); err == nil && s > 0 {
			after = time.Duration(s) * time.Second
		}
		return when, after, statusError{res.StatusCode, errorCode(body)}
	}
	// Half of it, or a page of HTML: that is no answer of Clerk's, but of what is in between, and soon over.
	if jsontext.Value(body).Kind() != kind || json.Unmarshal(body, v) != nil {
		return span{}, 0, errors.New("an answer 200 that is not the JSON expected: check CLERK_API_URL, and what is between Clerk and here")
	}
	return when, 0, nil
}

// errorCode returns the code in the body of an error, if it looks like one.
func errorCode(body []byte) string {
	var b struct {
		Errors []struct {
			Code string `json:"code"`
		} `json:"errors"`
	}
	if json.Unmarshal(body, &b) != nil || len(b.Errors) == 0 || len(b.Errors[0].Code) > 64 ||
		strings.ContainsFunc(b.Errors[0].Code, func(r rune) bool { return (r < 'a' || r > 'z') && r != '_' }) {
		return ""
	}
	return b.Errors[0].Code
}
