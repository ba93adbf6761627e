package clerk

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode"
)

// ErrNotUser is in every error of ParseUser and ParseDeleted: no retry can make a user of such data.
var ErrNotUser = errors.New("not a Clerk user")

// User is the part of Clerk's user object that rows are made of. The webhook's object and the Backend API's have the
// same properties.
type User struct {
	ID            string
	Username      string // Clerk's own user name, or ""
	FullName      string // first and last name, or ""
	Email         string // see primaryEmail; "" for a phone-only user
	EmailVerified bool
	ImageURL      string
	Banned        bool
	Locked        bool
	Deprovisioned bool // set instead of a deletion when a directory (SCIM) removes the user
	CreatedAt     Millis
	// ChangedAt is the newest time anywhere in the user, and the first half of its version: Clerk does not move
	// updated_at when an address or a phone number is added.
	ChangedAt Millis
}

// Payload is what the data of a clerk/user.* event holds, whichever way it came.
type Payload struct {
	User       json.RawMessage
	Timestamp  Millis // of the envelope, where the data is a whole envelope; else 0
	InstanceID string // likewise; else ""
}

type times struct {
	CreatedAt Millis `json:"created_at"`
	UpdatedAt Millis `json:"updated_at"`
}

// newest is the newest time in a list of objects that have created_at and updated_at. It reads any JSON: an account
// whose shape nobody has met yet has no time, and is no reason to lose the user.
type newest Millis

// UnmarshalJSON never fails.
func (n *newest) UnmarshalJSON(b []byte) error {
	*n = 0
	var list []json.RawMessage
	_ = json.Unmarshal(b, &list) // what is no list has no times
	for _, e := range list {
		var t times
		_ = json.Unmarshal(e, &t) // what is no object has no times
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

// Unwrap finds the user in the data of an event. Clerk's webhook and Inngest's own integration put the user itself
// there; some transforms in use put {data: user, …} there, others the whole envelope.
func Unwrap(data json.RawMessage) Payload {
	p := Payload{User: data}
	for range 3 { // an envelope in a wrapper in data is the deepest nesting met
		var w struct {
			ID         any             `json:"id"`
			Timestamp  Millis          `json:"timestamp"`
			InstanceID any             `json:"instance_id"`
			Data       json.RawMessage `json:"data"`
		}
		if json.Unmarshal(p.User, &w) != nil || w.ID != nil || !isObject(w.Data) {
			return p
		}
		p.User = w.Data
		if w.Timestamp != 0 {
			p.Timestamp = w.Timestamp
		}
		if id, ok := w.InstanceID.(string); ok {
			p.InstanceID = id
		}
	}
	return p
}

// ParseUser reads a user object. Every error holds ErrNotUser and none quotes the data.
func ParseUser(data json.RawMessage) (User, error) {
	j, err := parse(data)
	if err != nil {
		return User{}, err
	}
	if j.Deleted {
		return User{}, fmt.Errorf("%w: it is a deletion", ErrNotUser)
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
	}
	if a, ok := primaryEmail(j); ok {
		u.Email, u.EmailVerified = a.EmailAddress, a.verified()
	}
	for _, a := range j.EmailAddresses {
		u.ChangedAt = max(u.ChangedAt, a.CreatedAt, a.UpdatedAt)
	}
	u.ChangedAt = max(u.ChangedAt, Millis(max(
		j.PhoneNumbers, j.Web3Wallets, j.Passkeys, j.ExternalAccounts, j.SAMLAccounts, j.EnterpriseAccounts)))
	return u, nil
}

// ParseDeleted reads the object of a user.deleted event and returns the user's id. Every error holds ErrNotUser.
func ParseDeleted(data json.RawMessage) (string, error) {
	j, err := parse(data)
	return j.ID, err
}

func parse(data json.RawMessage) (userJSON, error) {
	var j userJSON
	if !isObject(data) {
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
	case len(j.ID) > 256 || strings.ContainsFunc(j.ID, func(r rune) bool { return unicode.IsControl(r) || r == unicode.ReplacementChar }):
		return j, fmt.Errorf("%w: its id is no Clerk id", ErrNotUser)
	case j.Object != "" && j.Object != "user":
		return j, fmt.Errorf("%w: its object is another thing than \"user\"", ErrNotUser)
	}
	return j, nil
}

// primaryEmail returns the address that primary_email_address_id names; if none, the first verified one; if none, the
// first. The first in the list is not the primary one: Clerk lists a new, unverified address first.
func primaryEmail(j userJSON) (emailAddress, bool) {
	var first, verified *emailAddress
	for i, a := range j.EmailAddresses {
		switch {
		case a.EmailAddress == "":
			continue
		case a.ID != "" && a.ID == j.PrimaryEmailAddressID:
			return a, true
		case verified == nil && a.verified():
			verified = &j.EmailAddresses[i]
		}
		if first == nil {
			first = &j.EmailAddresses[i]
		}
	}
	switch {
	case verified != nil:
		return *verified, true
	case first != nil:
		return *first, true
	}
	return emailAddress{}, false
}

func isObject(b json.RawMessage) bool {
	b = bytes.TrimLeft(b, " \t\r\n")
	return len(b) > 0 && b[0] == '{'
}
