package testenv

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"
)

// Keys of the fake Clerk API.
const (
	ClerkKey      = "sk_live_" + "testenvtestenvtestenv"
	ClerkInstance = "ins_2e2e"
)

// apiVersion is the version of Clerk's API that the fake imitates.
const apiVersion = "2026-05-12"

// ClerkUser is a user at the fake Clerk API.
type ClerkUser struct {
	ID, Username, FirstName, LastName, Email string
	Created, Updated                         int64 // milliseconds since 1970
	Banned                                   bool
	Raw                                      json.RawMessage // the whole user, if set
}

// APIUser returns the user in a webhook as the API would return it.
func (w Webhook) APIUser(t testing.TB) ClerkUser {
	t.Helper()
	var u struct {
		ID        string `json:"id"`
		CreatedAt int64  `json:"created_at"`
		UpdatedAt int64  `json:"updated_at"`
	}
	if err := json.Unmarshal(w.Data, &u); err != nil {
		t.Fatal(err)
	}
	return ClerkUser{ID: u.ID, Created: u.CreatedAt, Updated: u.UpdatedAt, Raw: w.Data}
}

// JSON returns the user in the shape of Clerk's Backend API, which its webhooks have too.
func (u ClerkUser) JSON() json.RawMessage {
	if u.Raw != nil {
		return u.Raw
	}
	m := map[string]any{
		"id": u.ID, "object": "user", "username": orNull(u.Username), "first_name": orNull(u.FirstName),
		"last_name": orNull(u.LastName),
		"image_url": "https://img.example/" + u.ID, "has_image": false, "primary_email_address_id": nil,
		"email_addresses": []any{},
		"phone_numbers":   []any{}, "web3_wallets": []any{}, "passkeys": []any{}, "external_accounts": []any{},
		"saml_accounts":       []any{},
		"enterprise_accounts": []any{}, "public_metadata": map[string]any{},
		"private_metadata": map[string]any{"plan": "pro"},
		"unsafe_metadata":  map[string]any{}, "external_id": nil, "last_sign_in_at": nil, "banned": u.Banned,
		"locked":     false,
		"created_at": u.Created, "updated_at": u.Updated,
	}
	if u.Email != "" {
		m["primary_email_address_id"] = "idn_" + u.ID
		m["email_addresses"] = []any{map[string]any{
			"id": "idn_" + u.ID, "object": "email_address", "email_address": u.Email, "created_at": u.Created,
			"updated_at":   u.Created,
			"verification": map[string]any{"status": "verified", "strategy": "email_code"},
		}}
	}
	b, err := json.Marshal(m)
	if err != nil {
		panic(err) // strings and numbers
	}
	return b
}

// ClerkAPI is a fake of Clerk's Backend API behind a real socket. Set its fields before the first request.
type ClerkAPI struct {
	*httptest.Server
	Key      string
	Instance string // "" answers 404, as an API without /v1/instance would
	NoCursor bool   // answers starting_after with 422
	// GoneCursor is how it answers starting_after with a deleted user: 404, or 200 with an empty page; 0 means 422.
	GoneCursor int
	// ForgetIDs makes lists by id empty, as if the users were of another instance.
	ForgetIDs bool
	// Limit is how many requests it takes in limitPer; further ones get 429 with Retry-After. 0 means no limit.
	Limit    int
	limitPer time.Duration
	// Fail, if set, may answer a request with a status of its own; 0 lets it through.
	Fail func(r *http.Request) int
	// Body, if set, may answer a request with 200 and a body of its own.
	Body func(r *http.Request) (body string, ok bool)

	mu       sync.Mutex
	users    map[string]ClerkUser
	listed   map[string]ClerkUser   // see ListsAs
	sorted   map[string][]ClerkUser // by order_by; nil after a change
	requests []string               // path and query
	taken    []time.Time
}

// NewClerkAPI starts a fake without users, which ends with the test.
func NewClerkAPI(t testing.TB) *ClerkAPI {
	t.Helper()
	a := NewClerkHandler()
	a.Server = httptest.NewServer(a)
	t.Cleanup(a.Close)
	return a
}

// NewClerkHandler returns a fake without a socket.
func NewClerkHandler() *ClerkAPI {
	return &ClerkAPI{Key: ClerkKey, Instance: ClerkInstance, limitPer: time.Second, users: map[string]ClerkUser{}}
}

// SetKey makes it take another key from now on.
func (a *ClerkAPI) SetKey(key string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.Key = key
}

// Put adds or replaces users.
func (a *ClerkAPI) Put(users ...ClerkUser) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, u := range users {
		a.users[u.ID] = u
	}
	a.sorted = nil
}

// ListsAs makes lists lag behind: they keep showing this user as given here.
func (a *ClerkAPI) ListsAs(u ClerkUser) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.listed == nil {
		a.listed = map[string]ClerkUser{}
	}
	a.listed[u.ID] = u
}

// Remove deletes users.
func (a *ClerkAPI) Remove(ids ...string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, id := range ids {
		delete(a.users, id)
	}
	a.sorted = nil
}

// Get returns a user.
func (a *ClerkAPI) Get(id string) (ClerkUser, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	u, ok := a.users[id]
	return u, ok
}

// Requests returns path and query of the requests so far that were accepted.
func (a *ClerkAPI) Requests() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.requests)
}

// UserID returns an id in Clerk's form that was made at a time, to the second. Different n give different ids.
func UserID(made time.Time, n int64) string {
	ksuid := new(big.Int).Lsh(big.NewInt(made.Unix()-1_400_000_000), 128)
	digits := strings.Map(func(r rune) rune { // a KSUID has the capitals first
		switch {
		case unicode.IsLower(r):
			return unicode.ToUpper(r)
		case unicode.IsUpper(r):
			return unicode.ToLower(r)
		}
		return r
	}, ksuid.Add(ksuid, big.NewInt(n)).Text(62))
	return "user_" + strings.Repeat("0", 27-len(digits)) + digits
}

// People returns n users with different addresses; one in a hundred wants a user name that another has.
func People(n int) []ClerkUser {
	all := make([]ClerkUser, n)
	for i := range all {
		mail := fmt.Sprintf("person-%d@mail.example", i)
		if i%100 == 99 {
			mail = fmt.Sprintf("person-%d@other.example", i-1)
		}
		all[i] = ClerkUser{
			ID: fmt.Sprintf("user_2people%020d", i), FirstName: "Ada", LastName: fmt.Sprint("Lovelace ", i),
			Email:   mail,
			Created: 1767603600000 + int64(i), Updated: 1767603600000 + int64(i),
		}
	}
	return all
}

// ServeHTTP answers as Clerk does.
func (a *ClerkAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if a.Fail != nil {
		if code := a.Fail(r); code != 0 {
			decline(w, code, "injected")
			return
		}
	}
	if a.Body != nil {
		if body, ok := a.Body(r); ok {
			_, _ = io.WriteString(w, body) // whoever asked is gone
			return
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if r.Header.Get("Authorization") != "Bearer "+a.Key {
		decline(w, http.StatusUnauthorized, "authentication_invalid")
		return
	}
	if r.Header.Get("Clerk-API-Version") != apiVersion { // Clerk itself would answer by an older version
		decline(w, http.StatusBadRequest, "clerk_api_version_invalid")
		return
	}
	if !a.take() {
		w.Header().Set("Retry-After", "1")
		decline(w, http.StatusTooManyRequests, "too_many_requests")
		return
	}
	a.requests = append(a.requests, r.URL.Path+"?"+r.URL.RawQuery)
	if len(a.requests) > 100_000 {
		a.requests = nil
	}
	id, one := strings.CutPrefix(r.URL.Path, "/v1/users/")
	switch u, there := a.users[id]; {
	case r.URL.Path == "/v1/instance" && a.Instance != "":
		answer(w, map[string]string{"object": "instance", "id": a.Instance, "environment_type": "production"})
	case r.URL.Path == "/v1/users/count":
		after, _ := strconv.ParseInt(r.URL.Query().Get("created_at_after"), 10, 64)
		n := 0
		for _, u := range a.users {
			if u.Created > after {
				n++
			}
		}
		answer(w, map[string]any{"object": "total_count", "total_count": n})
	case r.URL.Path == "/v1/users":
		a.list(w, r.URL.Query())
	case one && there:
		answer(w, u.JSON())
	default:
		decline(w, http.StatusNotFound, "resource_not_found")
	}
}

// take counts a request and tells whether it is within the limit.
func (a *ClerkAPI) take() bool {
	if a.Limit == 0 {
		return true
	}
	now := time.Now()
	a.taken = slices.DeleteFunc(a.taken, func(t time.Time) bool { return now.Sub(t) > a.limitPer })
	if len(a.taken) >= a.Limit {
		return false
	}
	a.taken = append(a.taken, now)
	return true
}

func (a *ClerkAPI) list(w http.ResponseWriter, q url.Values) {
	limit, offset := 10, 0
	var err error
	for name, v := range map[string]*int{"limit": &limit, "offset": &offset} {
		if s := q.Get(name); s != "" && err == nil {
			*v, err = strconv.Atoi(s)
		}
	}
	ids, after := q["user_id"], q.Get("starting_after")
	for _, address := range q["email_address"] {
		for _, u := range a.users {
			if strings.Contains(string(u.JSON()), `"email_address":"`+address+`"`) {
				ids = append(ids, u.ID)
			}
		}
	}
	if len(q["email_address"]) > 0 && len(ids) == 0 {
		answer(w, []any{})
		return
	}
	order := cmp.Or(q.Get("order_by"), "-created_at")
	byCreation := strings.TrimLeft(order, "+-") == "created_at"
	badCursor := after != "" && (a.NoCursor || offset > 0 || !byCreation)
	if err != nil || limit < 1 || limit > 500 || offset < 0 || len(ids) > 100 || badCursor {
		decline(w, http.StatusUnprocessableEntity, "form_param_value_invalid")
		return
	}
	all := a.order(order)
	if len(ids) > 0 {
		all = nil
		for _, id := range ids {
			if u, ok := a.users[id]; ok && !a.ForgetIDs {
				all = append(all, u)
			}
		}
	}
	if after != "" {
		last, ok := a.users[after]
		switch {
		case !ok && a.GoneCursor == http.StatusOK:
			answer(w, []any{})
			return
		case !ok:
			decline(w, cmp.Or(a.GoneCursor, http.StatusUnprocessableEntity), "form_param_value_invalid")
			return
		}
		i, _ := slices.BinarySearchFunc(all, last, byOrder(order))
		offset = i + 1
	}
	page := []json.RawMessage{}
	for _, u := range all[min(offset, len(all)):min(offset+limit, len(all))] {
		if old, behind := a.listed[u.ID]; behind {
			u = old
		}
		page = append(page, u.JSON())
	}
	answer(w, page)
}

// order returns all users in the order that order_by names.
func (a *ClerkAPI) order(by string) []ClerkUser {
	if a.sorted == nil {
		a.sorted = map[string][]ClerkUser{}
	}
	if a.sorted[by] == nil {
		for _, u := range a.users {
			a.sorted[by] = append(a.sorted[by], u)
		}
		slices.SortFunc(a.sorted[by], byOrder(by))
	}
	return a.sorted[by]
}

func byOrder(by string) func(a, b ClerkUser) int {
	return func(x, y ClerkUser) int {
		c := cmp.Compare(x.Created, y.Created)
		if strings.HasSuffix(by, "updated_at") {
			c = cmp.Compare(x.Updated, y.Updated)
		}
		c = cmp.Or(c, cmp.Compare(x.ID, y.ID))
		if strings.HasPrefix(by, "-") {
			return -c
		}
		return c
	}
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // whoever asked is gone
}

func decline(w http.ResponseWriter, code int, text string) {
	w.WriteHeader(code)
	answer(w, map[string]any{"errors": []any{map[string]string{"code": text, "message": text}}})
}
