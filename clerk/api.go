package clerk

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// Errors of the API that callers branch on.
var (
	ErrNoUser = errors.New("no such user at Clerk")
	ErrKey    = errors.New("CLERK_SECRET_KEY")
)

// DefaultURL is Clerk's Backend API.
const DefaultURL = "https://api.clerk.com"

const (
	// MaxPage is the most users that Clerk lists in one answer.
	MaxPage = 500
	// MaxIDs is the most ids that Clerk takes in one request.
	MaxIDs = 100
	// overlap is how many users a page by offset has in common with the one before: deletions in between move users forward, and
	// without it they would be passed over.
	overlap = 100
	// attemptTimeout bounds one request: a page of 500 users is 2 MB, and large offsets are slow.
	attemptTimeout = 30 * time.Second
	// attempts is how often a request is tried: 0.5 + 1 + 2 + 4 s of waiting, or what Retry-After says.
	attempts = 5
	// maxWait is the longest Retry-After that is waited for in a call.
	maxWait = 30 * time.Second
	// maxBody bounds an answer: 500 users of 30 KB are 15 MB.
	maxBody = 64 << 20
)

// APIOptions is what NewAPI needs.
type APIOptions struct {
	SecretKey string
	URL       string  // "" is DefaultURL
	Share     float64 // of Clerk's rate limit that we may use, above 0 and at most 1
	PageSize  int     // 0 is MaxPage
}

// API is Clerk's Backend API as far as it is about users. It stays under Clerk's rate limit and tries again what may succeed. It is
// safe for concurrent use.
type API struct {
	o       APIOptions
	limiter *rate.Limiter
	client  *http.Client
	backoff time.Duration // before the second attempt; it doubles
	refused atomic.Int32  // how often the cursor was refused
}

// CheckKey returns an error that says what is wrong with a secret key, without quoting it.
func CheckKey(key string) error {
	if !strings.HasPrefix(key, "sk_live_") && !strings.HasPrefix(key, "sk_test_") {
		return fmt.Errorf("%w does not begin with sk_live_ or sk_test_: copy the secret key from Clerk's dashboard, API keys", ErrKey)
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
	// Per instance, all its callers together: https://clerk.com/docs/guides/how-clerk-works/system-limits
	perSecond := 100.0
	if IsDevelopment(o.SecretKey) {
		perSecond = 10
	}
	perSecond *= o.Share
	return &API{
		o: o, client: &http.Client{}, backoff: 500 * time.Millisecond,
		limiter: rate.NewLimiter(rate.Limit(perSecond), max(1, int(perSecond))),
	}, nil
}

// Page is an answer that lists users.
type Page struct {
	Users []User
	// At is when Clerk was asked, by the earlier of its clock and ours: a change that came later is newer than the page. It is the time of
	// the event that the page is. Clerk's clock is its Date header, in whole seconds, so At may be a second too early.
	At Millis
	// AnsweredAt is when the answer was there, by the later of our clock and of Clerk's, which is its Date header and the second that
	// this leaves open: nothing in the page happened after it, and a time in it that is later is wrong.
	AnsweredAt Millis
	// Next is where the next page begins; "" after the last.
	Next string
	// Skipped counts what in the page is not a user that we can read.
	Skipped int
}

// ListCreated returns a page of the users, oldest first. after is a page's Next; "" begins. A user that is created meanwhile is
// in a later page, and one that is deleted meanwhile makes no other be passed over.
func (a *API) ListCreated(ctx context.Context, after string) (Page, error) {
	offset, last, err := parseCursor(after)
	if err != nil {
		return Page{}, err
	}
	q := url.Values{"order_by": {"+created_at"}, "limit": {strconv.Itoa(a.o.PageSize)}}
	if last == "" {
		return a.listCreated(ctx, q, 0, "")
	}
	if a.refused.Load() < 3 {
		q.Set("starting_after", last)
		p, err := a.listCreated(ctx, q, offset, last)
		if err == nil && len(p.Users)+p.Skipped > 0 {
			return p, nil
		}
		// Refused, by a Clerk that has no cursor or because that user is deleted; or empty, for the latter reason or because it
		// was the last. The offset tells.
		if s := (statusError{}); err != nil && (!errors.As(err, &s) || s.code != http.StatusBadRequest && s.code != http.StatusNotFound && s.code != http.StatusUnprocessableEntity) {
			return Page{}, err
		}
		if err != nil {
			a.refused.Add(1)
		}
		q.Del("starting_after")
	}
	q.Set("offset", strconv.Itoa(max(0, offset-min(overlap, a.o.PageSize/2))))
	return a.listCreated(ctx, q, offset, last)
}

func (a *API) listCreated(ctx context.Context, q url.Values, offset int, last string) (Page, error) {
	p, n, err := a.list(ctx, q)
	if err != nil {
		return Page{}, err
	}
	seen := 0
	if from := q.Get("offset"); from != "" { // leave out what the page before had
		for i, u := range p.Users {
			if u.ID == last {
				p.Users, seen = p.Users[i+1:], i+1
				break
			}
		}
	}
	if n >= a.o.PageSize && len(p.Users) > 0 {
		p.Next = fmt.Sprintf("%d %s", offset+n-seen, p.Users[len(p.Users)-1].ID)
	}
	return p, nil
}

// parseCursor reads a Next of ListCreated: how many users came before, and the id of the last of them.
func parseCursor(s string) (int, string, error) {
	if s == "" {
		return 0, "", nil
	}
	n, id, ok := strings.Cut(s, " ")
	offset, err := strconv.Atoi(n)
	if !ok || err != nil {
		return 0, "", errors.New("the place in Clerk's list cannot be read")
	}
	return offset, id, nil
}

// ListChanged returns a page of the users, last changed first; after is a page's Next. A user who is changed meanwhile goes to the
// head of the list, so that another may be in two pages; none is passed over but by a deletion.
func (a *API) ListChanged(ctx context.Context, after string) (Page, error) {
	offset := 0
	if after != "" {
		var err error
		if offset, err = strconv.Atoi(after); err != nil {
			return Page{}, errors.New("the place in Clerk's list cannot be read")
		}
	}
	p, n, err := a.list(ctx, url.Values{"order_by": {"-updated_at"}, "limit": {strconv.Itoa(a.o.PageSize)}, "offset": {strconv.Itoa(offset)}})
	if n >= a.o.PageSize {
		p.Next = strconv.Itoa(offset + n)
	}
	return p, err
}

// ListIDs returns those of the users, MaxIDs at the most, whom Clerk has.
func (a *API) ListIDs(ctx context.Context, ids []string) (Page, error) {
	p, _, err := a.list(ctx, url.Values{"user_id": ids, "limit": {strconv.Itoa(MaxIDs)}})
	return p, err
}

// list also returns how many entries the answer had.
func (a *API) list(ctx context.Context, q url.Values) (Page, int, error) {
	var raw []json.RawMessage
	when, err := a.get(ctx, "/v1/users?"+q.Encode(), &raw)
	if err != nil {
		return Page{}, 0, fmt.Errorf("list Clerk's users: %w", err)
	}
	p := Page{At: when.asked, AnsweredAt: when.answered, Users: make([]User, 0, len(raw))}
	for _, r := range raw {
		u, err := ParseUser(r)
		if err != nil {
			p.Skipped++
			continue
		}
		p.Users = append(p.Users, u)
	}
	return p, len(raw), nil
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
	when, err := a.get(ctx, "/v1/users/"+url.PathEscape(id), &raw)
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
func (a *API) Count(ctx context.Context) (int, error) {
	var c struct {
		TotalCount *int `json:"total_count"`
	}
	if _, err := a.get(ctx, "/v1/users/count", &c); err != nil {
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
	_, err := a.get(ctx, "/v1/instance", &i)
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

// get fetches path into v and returns when that was.
func (a *API) get(ctx context.Context, path string, v any) (span, error) {
	wait := a.backoff
	for attempt := 1; ; attempt++ {
		if err := a.limiter.Wait(ctx); err != nil {
			return span{}, fmt.Errorf("wait for Clerk's rate limit: %w", err)
		}
		when, after, err := a.try(ctx, path, v)
		if err == nil {
			return when, nil
		}
		var s statusError
		again := !errors.As(err, &s) || s.code == http.StatusTooManyRequests || s.code >= http.StatusInternalServerError
		if !again || errors.Is(err, ErrKey) || attempt == attempts || after > maxWait || ctx.Err() != nil {
			return when, err
		}
		t := time.NewTimer(max(after, wait/2+rand.N(wait))) //nolint:gosec // jitter
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return span{}, ctx.Err()
		}
		wait *= 2
	}
}

// try makes one request. after is what Retry-After says.
func (a *API) try(ctx context.Context, path string, v any) (when span, after time.Duration, err error) {
	tctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(tctx, http.MethodGet, a.o.URL+path, nil)
	if err != nil {
		return span{}, 0, errors.New("CLERK_API_URL is no URL")
	}
	req.Header.Set("Authorization", "Bearer "+a.o.SecretKey)
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
	if err := json.Unmarshal(body, v); err != nil {
		return span{}, 0, statusError{res.StatusCode, "with something else than the JSON expected"}
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
