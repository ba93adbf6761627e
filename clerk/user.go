package clerk

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/go-json-experiment/json/jsontext"
)

// ErrNotUser is wrapped by every error of ParseUser and ParseDeleted. No retry can help with such data.
var ErrNotUser = errors.New("not a Clerk user")

// User is the part of Clerk's user object that rows are made from. Webhooks and the Backend API have the same object.
type User struct {
	ID            string
	Username      string // Clerk's own user name, or ""
	FullName      string // first and last name, or ""
	Email         string // see primaryEmail; "" for a phone-only user
	EmailVerified bool
	ImageURL      string
	Banned        bool
	Locked        bool
	Deprovisioned bool // set when a directory (SCIM) removes the user; Clerk does not delete the user then
	CreatedAt     Millis
	// ChangedAt is the newest time anywhere in the user, and the first half of the user's version. UpdatedAt alone does
	// not do, because Clerk leaves it as it is when an address or a phone number is added.
	ChangedAt Millis
	// Object is the whole user as Clerk sent it, from which Details reads what only some maps need; nil for none.
	Object json.RawMessage
}

// Payload is what the data of a clerk/user.* event contains, from whatever source the event is.
type Payload struct {
	User       json.RawMessage
	Timestamp  Millis // of the envelope, if the data is a whole envelope; else 0
	InstanceID string // likewise, else ""
}

type times struct {
	CreatedAt Millis `json:"created_at"`
	UpdatedAt Millis `json:"updated_at"`
}

// newest is the newest time in a list of objects that have created_at and updated_at. It can be read from any JSON: an
// account in a form that we do not know has no time, but must not keep the user from being written.
type newest Millis

// UnmarshalJSON never fails.
func (n *newest) UnmarshalJSON(b []byte) error {
	*n = 0
	var list []json.RawMessage
	_ = json.Unmarshal(b, &list) // if this fails, it is not a list and has no times
	for _, e := range list {
		var t times
		_ = json.Unmarshal(e, &t) // likewise
		*n = max(*n, newest(t.CreatedAt), newest(t.UpdatedAt))
	}
	return nil
}

type emailAddress struct {
	times
	ID           string `json:"id"`
	EmailAddress string `json:"email_address"`
	Verification *struct {
		Status string `json:"status"`
	} `json:"verification"`
}

func (a emailAddress) verified() bool {
	return a.Verification != nil && a.Verification.Status == "verified"
}

type userJSON struct {
	times
	Object                string         `json:"object"`
	ID                    string         `json:"id"`
	Deleted               bool           `json:"deleted"`
	Username              string         `json:"username"`
	FirstName             string         `json:"first_name"`
	LastName              string         `json:"last_name"`
	ImageURL              string         `json:"image_url"`
	PrimaryEmailAddressID string         `json:"primary_email_address_id"`
	EmailAddresses        []emailAddress `json:"email_addresses"`
	PhoneNumbers          newest         `json:"phone_numbers"`
	Web3Wallets           newest         `json:"web3_wallets"`
	Passkeys              newest         `json:"passkeys"`
	ExternalAccounts      newest         `json:"external_accounts"`
	SAMLAccounts          newest         `json:"saml_accounts"`
	EnterpriseAccounts    newest         `json:"enterprise_accounts"`
	Banned                bool           `json:"banned"`
	Locked                bool           `json:"locked"`
	Deprovisioned         bool           `json:"deprovisioned"`
}

// Unwrap finds the user in the data of an event. In events of our webhook and of Inngest's own integration, the data is
// the user. With some transforms that people use in Inngest it is {data: user, …}, with others the whole envelope.
func Unwrap(data json.RawMessage) Payload {
	p := Payload{User: data}
	for range 3 { // the deepest nesting seen is an envelope in a wrapper
		var w struct {
			ID         any             `json:"id"`
			Timestamp  Millis          `json:"timestamp"`
			InstanceID any             `json:"instance_id"`
			Data       json.RawMessage `json:"data"`
		}
		if json.Unmarshal(p.User, &w) != nil || w.ID != nil || jsontext.Value(w.Data).Kind() != '{' {
			return p
		}
		p.User = w.Data
		p.Timestamp = cmp.Or(w.Timestamp, p.Timestamp)
		if id, ok := w.InstanceID.(string); ok {
			p.InstanceID = id
		}
	}
	return p
}

// ParseUser reads a user object. Every error wraps ErrNotUser, and none quotes the data. With an error, the user has at
// most its ID and CreatedAt, if these can be read.
func ParseUser(data json.RawMessage) (User, error) {
	j, err := parse(data)
	if err == nil && j.Deleted {
		err = fmt.Errorf("%w: it is a deletion", ErrNotUser)
	}
	if err != nil {
		return User{ID: j.ID, CreatedAt: j.CreatedAt}, err
	}
	u := User{
		ID:            j.ID,
		Username:      strings.TrimSpace(j.Username),
		FullName:      strings.TrimSpace(strings.TrimSpace(j.FirstName) + " " + strings.TrimSpace(j.LastName)),
		ImageURL:      j.ImageURL,
		Banned:        j.Banned,
		Locked:        j.Locked,
		Deprovisioned: j.Deprovisioned,
		CreatedAt:     j.CreatedAt,
		ChangedAt:     j.UpdatedAt,
		Object:        data,
	}
	primary := primaryEmail(j)
	u.Email, u.EmailVerified = primary.EmailAddress, primary.verified()
	for _, a := range j.EmailAddresses {
		u.ChangedAt = max(u.ChangedAt, a.CreatedAt, a.UpdatedAt)
	}
	u.ChangedAt = max(u.ChangedAt, Millis(max(
		j.PhoneNumbers, j.Web3Wallets, j.Passkeys, j.ExternalAccounts, j.SAMLAccounts, j.EnterpriseAccounts)))
	return u, nil
}

// ParseDeleted returns the user's id from the data of a user.deleted event. Every error wraps ErrNotUser.
func ParseDeleted(data json.RawMessage) (string, error) {
	j, err := parse(data)
	return j.ID, err
}

func parse(data json.RawMessage) (userJSON, error) {
	var j userJSON
	if jsontext.Value(data).Kind() != '{' {
		return j, fmt.Errorf("%w: the event's data is no object", ErrNotUser)
	}
	if err := json.Unmarshal(data, &j); err != nil {
		if t, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			return j, fmt.Errorf("%w: %q is a %s", ErrNotUser, t.Field, strings.Fields(t.Value)[0])
		}
		return j, fmt.Errorf("%w: the event's data is not JSON", ErrNotUser)
	}
	switch {
	case j.ID == "":
		return j, fmt.Errorf("%w: it has no id", ErrNotUser)
	case len(j.ID) > 256 || strings.ContainsFunc(j.ID, unicode.IsControl) || strings.ContainsRune(j.ID, '\ufffd'):
		return j, fmt.Errorf("%w: its id is no Clerk id", ErrNotUser)
	case j.Object != "" && j.Object != "user":
		return j, fmt.Errorf("%w: its object is another thing than \"user\"", ErrNotUser)
	}
	return j, nil
}

// primaryEmail returns the address that primary_email_address_id names. If there is none, it returns the first verified
// address, else the first one. It cannot simply take the first: Clerk lists a new, unverified address first.
func primaryEmail(j userJSON) emailAddress {
	for _, fits := range []func(emailAddress) bool{
		func(a emailAddress) bool { return a.ID != "" && a.ID == j.PrimaryEmailAddressID },
		emailAddress.verified,
		func(emailAddress) bool { return true },
	} {
		for _, a := range j.EmailAddresses {
			if a.EmailAddress != "" && fits(a) {
				return a
			}
		}
	}
	return emailAddress{}
}
