package clerk

import (
	"cmp"
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

var (
	// ErrNoUser is returned by API.User if Clerk says that there is no such user.
	ErrNoUser = errors.New("no such user at Clerk")
	// ErrKey matches every KeyError.
	ErrKey = errors.New("the secret key cannot be used")
)

// KeyError is an error that only another secret key can end. Its text says what to do, and does not quote the key.
type KeyError string

func (e KeyError) Error() string { return string(e) }

// Is makes errors.Is find ErrKey.
func (KeyError) Is(target error) bool { return target == ErrKey }

// defaultURL is Clerk's Backend API.
const defaultURL = "https://api.clerk.com"

// apiVersion is the version of the API that this package was written for (github.com/clerk/openapi-specs,
// bapi/2026-05-12.yml). Without this header, Clerk uses an older version, or the one set in the dashboard.
const apiVersion = "2026-05-12"

const (
	// maxPage is the most users that Clerk lists in one answer.
	maxPage = 500
	// MaxIDs is the most ids that Clerk takes in one request.
	MaxIDs = 100
	// overlap is how many users a page by offset repeats from the page before. When users are deleted between the two
	// requests, all later users move forward; without an overlap, some of them would be missed.
	overlap = 100
	// attemptTimeout is the limit for one request. A page of 500 users is 2 MB, and large offsets are slow.
	attemptTimeout = 30 * time.Second
	// answerTime is how much of the time that a call has left is kept for the answer, but at most half of that time.
	answerTime = 5 * time.Second
	// attempts is how often a request is tried. The waits between are 0.5, 1, 2 and 4 s (firstWait, then doubled), or
	// the time in Retry-After if that is longer.
	attempts  = 5
	firstWait = 500 * time.Millisecond
	// maxWait is the longest Retry-After that a call waits for. If Clerk asks for more, the call fails.
	maxWait = 30 * time.Second
	// maxBody limits how much of an answer is read: 500 users of 30 KB each are 15 MB.
	maxBody = 64 << 20
)

// APIOptions is what NewAPI needs.
type APIOptions struct {
	SecretKey string
	URL       string // "" means api.clerk.com
	KeyName   string // what error messages call the secret key, such as the name of an environment variable
	URLName   string // what they call the URL
	// Explain says in words why nothing has answered; nil leaves the network's errors as they are.
	Explain func(error) error

	Share     float64           // how much of Clerk's rate limit may be used: more than 0, at most 1
	PageSize  int               // 0 means the largest page that Clerk allows; the least is 2
	Transport http.RoundTripper // nil means http.DefaultTransport
}

// API is a client of those parts of Clerk's Backend API that are about users. It stays below Clerk's rate limit and
// repeats requests that may succeed later. It is safe for concurrent use.
type API struct {
	o       APIOptions
	limiter *rate.Limiter
	client  *http.Client
	refused atomic.Int32 // how often in a row Clerk has refused the cursor

	observers []func(context.Context, Request)
}

// Request is a request to Clerk that has ended.
type Request struct {
	Endpoint string // "users" is a list, and "user" one of them; "count" is their number; "instance"
	Status   int    // of the answer; 0 if none came, or only a part of it
	Took     time.Duration
}

// Observe makes f be called after each request, one that is tried again too, with the context of who asked for it. Call
// Observe before anything else uses the API.
func (a *API) Observe(f func(ctx context.Context, r Request)) { a.observers = append(a.observers, f) }

// endpoint returns the kind of a request to a path.
func endpoint(path string) string {
	path, _, _ = strings.Cut(path, "?")
	switch rest, isUsers := strings.CutPrefix(path, "/v1/users"); {
	case !isUsers:
		return "instance"
	case rest == "":
		return "users"
	case rest == "/count":
		return "count"
	}
	return "user"
}

// CheckKey returns an error if the secret key cannot be right. The text of the error is meant to follow the name of the
// key, and does not quote it.
func CheckKey(key string) error {
	if !strings.HasPrefix(key, "sk_live_") && !strings.HasPrefix(key, "sk_test_") {
		return errors.New("does not begin with sk_live_ or sk_test_: " +
			"copy the secret key from Clerk's dashboard, API keys")
	}
	if strings.ContainsFunc(key, unicode.IsSpace) {
		return errors.New("holds white space: copy the secret key alone, without the end of the line")
	}
	return nil
}

// IsDevelopment tells whether a secret key belongs to a development instance.
func IsDevelopment(key string) bool { return strings.HasPrefix(key, "sk_test_") }

// NewAPI returns a client. It makes no request. Its only error is a KeyError.
func NewAPI(o APIOptions) (*API, error) {
	o.KeyName, o.URLName = cmp.Or(o.KeyName, "the secret key"), cmp.Or(o.URLName, "the URL of Clerk's API")
	if err := CheckKey(o.SecretKey); err != nil {
		return nil, KeyError(o.KeyName + " " + err.Error())
	}
	o.URL = strings.TrimRight(cmp.Or(o.URL, defaultURL), "/")
	o.PageSize = max(2, cmp.Or(o.PageSize, maxPage)) // pages by offset must overlap
	// The limit holds for an instance, all its callers together:
	// https://clerk.com/docs/guides/how-clerk-works/system-limits
	perSecond := 100.0
	if IsDevelopment(o.SecretKey) {
		perSecond = 10
	}
	// No bursts, and none at the start: Clerk counts over ten seconds, and others may have used most of these already.
	limiter := rate.NewLimiter(rate.Limit(perSecond*o.Share), 1)
	limiter.Allow()
	return &API{o: o, client: &http.Client{Transport: o.Transport}, limiter: limiter}, nil
}

// name returns how errors call the API: the operator can only mend the address of one that is not Clerk's usual one.
func (a *API) name() string {
	if a.o.URL == defaultURL {
		return "Clerk"
	}
	return "Clerk's API at " + a.o.URLName
}

// Times are when an answer was made.
type Times struct {
	// At is when the request was sent, by Clerk's clock or by ours, whichever is earlier. Every change after that is
	// newer than the answer, so rows are written as if the answer were an event of this time. Clerk's clock is known
	// from the Date header, in whole seconds, so At may be up to a second too early.
	At Millis
	// AnsweredAt is when the answer had arrived, by Clerk's clock or by ours, whichever is later, plus the second that
	// the Date header leaves open. Nothing in the answer happened after it: a later time in the answer must be wrong.
	AnsweredAt Millis
}

// Page is an answer that lists users.
type Page struct {
	Times
	Users []User
	// Next is what to pass to get the next page; "" after the last one.
	Next string
	// Skipped are the entries of the page that cannot be read as users.
	Skipped []Skipped
}

// Skipped is an entry of a list that cannot be read as a user.
type Skipped struct {
	ID  string // "" if it has none
	Err error  // wraps ErrNotUser, and quotes no data
}

// ListCreated returns a page of all users, oldest first. after is the Next of the page before, or "" for the first
// page. Users created while the pages are read appear in a later page. However many users are deleted meanwhile, no
// other user is missed; some users may then appear in two pages.
func (a *API) ListCreated(ctx context.Context, after string) (Page, error) {
	last, err := parsePlace(after)
	if err != nil {
		return Page{}, err
	}
	q := url.Values{"order_by": {"+created_at"}, "limit": {strconv.Itoa(a.o.PageSize)}}
	if last.id != "" && a.refused.Load() < 3 {
		q.Set("starting_after", last.id)
		all, when, err := a.list(ctx, q)
		if err == nil && len(all) > 0 && all[0].CreatedAt >= last.created {
			a.refused.Store(0)
			return a.page(all, all, when, last.offset)
		}
		if err != nil && !isCode(err, http.StatusBadRequest, http.StatusNotFound, http.StatusUnprocessableEntity) {
			return Page{}, err
		}
		// Clerk has refused or ignored the cursor: it does not know cursors, or the user of the cursor is deleted. Or
		// the page is empty, because that user is deleted or was the last one. The list by offset below decides.
		if err != nil || len(all) > 0 {
			a.refused.Add(1)
		}
		q.Del("starting_after")
	}
	return a.listByOffset(ctx, q, last)
}

// listByOffset returns the page that follows a place. Each deletion of an earlier user moves all later ones forward, so
// it begins before the place, and goes back further until the page begins with a user who was listed before.
func (a *API) listByOffset(ctx context.Context, q url.Values, last place) (Page, error) {
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
		case len(rest) == 0 && len(all) >= a.o.PageSize: // too far: everybody in the page was listed before
			start, back = start+len(all)-step, step
		default:
			return a.page(rest, all, when, start)
		}
	}
}

// page returns rest as a Page: the new ones among all the entries of an answer, which began at offset start.
func (a *API) page(rest, all []entry, when Times, start int) (Page, error) {
	p := Page{Times: when, Users: make([]User, 0, len(rest))}
	next := place{}
	for _, e := range rest {
		if e.ID != "" {
			next = place{start + len(all), e.CreatedAt, e.ID}
		}
		if e.err != nil {
			p.Skipped = append(p.Skipped, Skipped{e.ID, e.err})
		} else {
			p.Users = append(p.Users, e.User)
		}
	}
	if len(all) < a.o.PageSize { // the last page
		return p, nil
	}
	if next.id == "" {
		return Page{}, errors.New("list Clerk's users: nothing in a page has an id")
	}
	p.Next = next.String()
	return p, nil
}

// place is a place in the list of ListCreated: directly after the user who was listed last.
type place struct {
	offset  int // how many users came before it when they were listed
	created Millis
	id      string
}

func (l place) String() string { return fmt.Sprintf("%d %d %s", l.offset, l.created, l.id) }

func parsePlace(s string) (l place, err error) {
	if s == "" {
		return l, nil
	}
	if _, err := fmt.Sscanf(s, "%d %d %s", &l.offset, &l.created, &l.id); err != nil {
		return place{}, errors.New("the place in Clerk's list cannot be read: " +
			"begin with the first user again (--restart)")
	}
	return l, nil
}

// rest returns the entries of a list that come after the place, and whether the list begins before the place, so that
// nobody can be missing between the two. If the user of the place is deleted, users who were created at the same
// millisecond count as coming after it.
func (l place) rest(all []entry) (rest []entry, joins bool) {
	if i := l.index(all); i >= 0 {
		return all[i+1:], true
	}
	if i := slices.IndexFunc(all, func(e entry) bool { return e.CreatedAt >= l.created }); i >= 0 {
		return all[i:], i > 0
	}
	return nil, len(all) > 0
}

// index returns where in a list the user of the place is, or -1.
func (l place) index(all []entry) int {
	return slices.IndexFunc(all, func(e entry) bool { return e.ID != "" && e.ID == l.id })
}

// ListChanged returns a page of all users, last changed first. after is the Next of the page before, or "" for the
// first page. A user who is changed meanwhile moves to the head of the list, so another user may appear in two pages.
// A page begins with users of the page before, so up to 100 deletions between the two make it miss nobody.
func (a *API) ListChanged(ctx context.Context, after string) (Page, error) {
	last, err := parsePlace(after)
	if err != nil {
		return Page{}, err
	}
	start := max(0, last.offset-min(overlap, a.o.PageSize/2))
	all, when, err := a.list(ctx, url.Values{
		"order_by": {"-updated_at"}, "limit": {strconv.Itoa(a.o.PageSize)}, "offset": {strconv.Itoa(start)},
	})
	if err != nil {
		return Page{}, err
	}
	rest := all[1+last.index(all):]
	if len(rest) == 0 && len(all) == a.o.PageSize { // so many changed that the place is the end of this page
		rest = all
	}
	return a.page(rest, all, when, start)
}

// ListIDs returns which of these users Clerk has, also those that cannot be read. It takes at most MaxIDs ids.
func (a *API) ListIDs(ctx context.Context, ids []string) (map[string]bool, error) {
	has := map[string]bool{}
	if len(ids) == 0 { // without ids Clerk would list all users
		return has, nil
	}
	all, _, err := a.list(ctx, url.Values{"user_id": ids, "limit": {strconv.Itoa(MaxIDs)}})
	for _, e := range all {
		has[e.ID] = true
	}
	return has, err
}

// ListUsers returns those of these users that Clerk has and that can be read. It takes at most MaxIDs ids.
func (a *API) ListUsers(ctx context.Context, ids []string) ([]User, error) {
	return a.listBy(ctx, "user_id", ids)
}

// ListByAddress returns the users that have one of these e-mail addresses and can be read. It takes at most MaxIDs
// addresses.
func (a *API) ListByAddress(ctx context.Context, addresses []string) ([]User, error) {
	return a.listBy(ctx, "email_address", addresses)
}

func (a *API) listBy(ctx context.Context, parameter string, values []string) (users []User, _ error) {
	if len(values) == 0 { // without them Clerk would list all users
		return nil, nil
	}
	all, _, err := a.list(ctx, url.Values{parameter: values, "limit": {strconv.Itoa(maxPage)}})
	for _, e := range all {
		if e.err == nil {
			users = append(users, e.User)
		}
	}
	return users, err
}

// entry is one entry of a list, as ParseUser returns it.
type entry struct {
	User
	err error
}

func (a *API) list(ctx context.Context, q url.Values) ([]entry, Times, error) {
	var raw []json.RawMessage
	when, err := a.get(ctx, "/v1/users?"+q.Encode(), '[', &raw)
	if err != nil {
		return nil, Times{}, fmt.Errorf("list Clerk's users: %w", err)
	}
	all := make([]entry, len(raw))
	for i, r := range raw {
		all[i].User, all[i].err = ParseUser(r)
	}
	return all, when, nil
}

// Fetched is an answer about one user.
type Fetched struct {
	Times
	User User
}

// User returns one user, or ErrNoUser if Clerk says that there is none. The times are set with ErrNoUser too.
func (a *API) User(ctx context.Context, id string) (Fetched, error) {
	var raw json.RawMessage
	when, err := a.get(ctx, "/v1/users/"+url.PathEscape(id), '{', &raw)
	f := Fetched{Times: when}
	if s, ok := errors.AsType[statusError](err); ok && s.code == http.StatusNotFound {
		// A 404 of a proxy, or of a wrong address, must not delete a user: only Clerk's own has this code.
		if s.clerk != "resource_not_found" {
			return f, errors.New("ask Clerk for a user: 404, but not of Clerk's kind: check " + a.o.URLName)
		}
		return f, ErrNoUser
	}
	if err != nil {
		return f, fmt.Errorf("ask Clerk for a user: %w", err)
	}
	f.User, err = ParseUser(raw)
	if err == nil && f.User.ID != id {
		err = errors.New("ask Clerk for a user: the answer is another user")
	}
	return f, err
}

// Count returns how many users Clerk has.
func (a *API) Count(ctx context.Context) (int, error) { return a.count(ctx, "") }

// CountCreated returns how many users Clerk has who were created after a time.
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

// Instance returns the id of the Clerk instance that the key belongs to, or "" if Clerk does not say.
func (a *API) Instance(ctx context.Context) (string, error) {
	var i struct{ ID string }
	_, err := a.get(ctx, "/v1/instance", '{', &i)
	if err != nil && !isCode(err, http.StatusNotFound) {
		return "", fmt.Errorf("ask Clerk for the instance: %w", err)
	}
	return i.ID, nil
}

// statusError is an answer with a status other than 200.
type statusError struct {
	code  int
	clerk string        // Clerk's own code of the error, such as resource_not_found
	after time.Duration // what Retry-After says, or 0
}

func (e statusError) Error() string {
	text := strings.TrimSpace(fmt.Sprintf("answer %d %s", e.code, e.clerk))
	switch {
	case e.code == http.StatusTooManyRequests:
		text += ": Clerk takes no more requests for now: try again in a minute"
	case e.code >= http.StatusInternalServerError:
		text += ": Clerk has a fault: try again later"
	}
	return text
}

// isCode tells whether the error is an answer with one of the codes.
func isCode(err error, codes ...int) bool {
	s, ok := errors.AsType[statusError](err)
	return ok && slices.Contains(codes, s.code)
}

// waits tells how long get waits between two attempts.
type waits struct {
	backoff.ExponentialBackOff
	atLeast time.Duration // what Retry-After says
}

// NextBackOff returns the longer of Retry-After and the exponential back-off. (backoff.RetryAfterError does not do:
// it resets the back-off, so all attempts would be used up within seconds.)
func (w *waits) NextBackOff() time.Duration {
	return max(w.atLeast, w.ExponentialBackOff.NextBackOff())
}

// get requests a path, stores the JSON of the answer in v, and returns when that happened. kind is what the JSON must
// be: an object or a list. It repeats requests that may succeed later.
func (a *API) get(ctx context.Context, path string, kind jsontext.Kind, v any) (Times, error) {
	w := &waits{ExponentialBackOff: backoff.ExponentialBackOff{
		InitialInterval: firstWait, RandomizationFactor: 0.5, Multiplier: 2, MaxInterval: maxWait,
	}}
	var last error // of the last request, which tells more than that the time is over
	when, err := backoff.Retry(ctx, func() (when Times, err error) {
		if err := a.wait(ctx); err != nil {
			return Times{}, backoff.Permanent(cmp.Or(last, fmt.Errorf("wait for Clerk's rate limit: %w", err)))
		}
		when, err = a.try(ctx, path, kind, v)
		last = err
		s, answered := errors.AsType[statusError](err)
		w.atLeast = s.after
		final := answered && s.code != http.StatusTooManyRequests && s.code < http.StatusInternalServerError
		if final || errors.Is(err, ErrKey) || w.atLeast > maxWait {
			err = backoff.Permanent(err)
		}
		return when, err
	}, backoff.WithMaxTries(attempts), backoff.WithBackOff(w))
	switch {
	case last == nil || !errors.Is(err, context.DeadlineExceeded):
		return when, err
	case errors.Is(last, context.DeadlineExceeded):
		return when, last
	}
	return when, fmt.Errorf("%w (%w)", last, err)
}

// wait waits until the rate limit lets a request through. It fails if too little of ctx would be left for the answer:
// a request that is sent just before the deadline spends some of the limit on nothing.
func (a *API) wait(ctx context.Context) error {
	if end, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, end.Add(-min(answerTime, time.Until(end)/2)))
		defer cancel()
	}
	return a.limiter.Wait(ctx)
}

// try makes one request.
func (a *API) try(ctx context.Context, path string, kind jsontext.Kind, v any) (Times, error) {
	start, status := time.Now(), 0
	defer func() {
		for _, f := range a.observers {
			f(ctx, Request{endpoint(path), status, time.Since(start)})
		}
	}()
	tctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(tctx, http.MethodGet, a.o.URL+path, nil)
	if err != nil {
		return Times{}, errors.New(a.o.URLName + " is not a URL")
	}
	req.Header.Set("Authorization", "Bearer "+a.o.SecretKey)
	req.Header.Set("Clerk-API-Version", apiVersion)
	res, err := a.client.Do(req)
	if err != nil {
		if errors.Is(ctx.Err(), context.Canceled) {
			return Times{}, ctx.Err()
		}
		if e, ok := errors.AsType[*url.Error](err); ok { // whose text has the URL, which may contain ids
			err = e.Err
		}
		if a.o.Explain != nil {
			err = a.o.Explain(err)
		}
		return Times{}, fmt.Errorf("no answer from %s: %w", a.name(), err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxBody))
	when := Times{Millis(start.UnixMilli()), Millis(time.Now().UnixMilli())}
	if d, err := http.ParseTime(res.Header.Get("Date")); err == nil { // cut off to whole seconds
		when.At = min(when.At, Millis(d.UnixMilli()))
		when.AnsweredAt = max(when.AnsweredAt, Millis(d.Add(time.Second).UnixMilli()))
	}
	if err != nil {
		return Times{}, fmt.Errorf("the answer broke off: %w", err)
	}
	status = res.StatusCode
	switch {
	case res.StatusCode == http.StatusUnauthorized || res.StatusCode == http.StatusForbidden:
		return Times{}, KeyError(fmt.Sprintf("%s is not accepted (Clerk answered %d): "+
			"copy the secret key again from Clerk's dashboard, API keys", a.o.KeyName, res.StatusCode))
	case res.StatusCode != http.StatusOK:
		s := statusError{code: res.StatusCode, clerk: errorCode(body)}
		if n, err := strconv.Atoi(res.Header.Get("Retry-After")); err == nil {
			s.after = time.Duration(n) * time.Second
		}
		return when, s
	}
	// An answer 200 with other content, such as a page of HTML or half an answer, does not come from Clerk but from
	// something in between. That usually passes, so get tries again.
	if jsontext.Value(body).Kind() != kind || json.Unmarshal(body, v) != nil {
		return Times{}, errors.New("an answer 200 that is not the JSON expected: check " +
			a.o.URLName + ", and what is between Clerk and here")
	}
	return when, nil
}

// errorCode returns Clerk's code in the body of an error, or "" if there is nothing that looks like one.
func errorCode(body []byte) string {
	var b struct{ Errors []struct{ Code string } }
	if json.Unmarshal(body, &b) != nil || len(b.Errors) == 0 {
		return ""
	}
	code := b.Errors[0].Code
	if len(code) > 64 || strings.Trim(code, "abcdefghijklmnopqrstuvwxyz_") != "" {
		return ""
	}
	return code
}
