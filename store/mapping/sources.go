package mapping

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"clerksync/clerk"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Kind is the type of a field's values.
type Kind string

// The kinds.
const (
	Text   Kind = "text"
	Bool   Kind = "bool"
	Date   Kind = "date"
	Number Kind = "number" // only of constants
	Any    Kind = "any"    // whatever the metadata holds
)

// Now is the source with the time of the write. It is not from Clerk.
const Now = "now"

// The beginnings of the sources that are paths into metadata, such as "public_metadata.role".
const (
	Public = "public_metadata"
	Unsafe = "unsafe_metadata"
)

// Source is something that a field can be made from.
type Source struct {
	Name     string
	Kind     Kind
	Optional bool   // Clerk's user may not have it
	Note     string // for a person who writes a map
	Warn     string // why it needs care, "" if it needs none
	get      func(*user) any
}

// Sources returns all sources besides the metadata, in the order in which a person would look for them.
func Sources() []Source {
	return []Source{
		{Name: "id", Kind: Text, Note: "Clerk's id of the user", get: func(u *user) any { return u.ID }},
		{
			Name: "first_name", Kind: Text, Optional: true, Note: "the first name",
			get: func(u *user) any { return text(u.details().FirstName) },
		},
		{
			Name: "last_name", Kind: Text, Optional: true, Note: "the last name",
			get: func(u *user) any { return text(u.details().LastName) },
		},
		{
			Name: "full_name", Kind: Text, Optional: true, Note: "the first and the last name",
			get: func(u *user) any { return text(u.FullName) },
		},
		{
			Name: "username", Kind: Text, Optional: true, Note: "Clerk's own user name",
			get: func(u *user) any { return text(u.Username) },
		},
		{
			Name: "primary_email", Kind: Text, Optional: true, Note: "the primary e-mail address",
			get: func(u *user) any { return text(u.Email) },
		},
		{
			Name: "email_verified", Kind: Bool, Note: "whether the primary e-mail address is verified",
			get: func(u *user) any { return u.EmailVerified },
		},
		{
			Name: "primary_phone", Kind: Text, Optional: true, Note: "the primary phone number, in E.164",
			get: func(u *user) any { return text(u.details().Phone) },
		},
		{
			Name: "phone_verified", Kind: Bool, Note: "whether the primary phone number is verified",
			get: func(u *user) any { return u.details().PhoneVerified },
		},
		{
			Name: "image_url", Kind: Text, Optional: true, Note: "the picture; Clerk makes one if the user has none",
			get: func(u *user) any { return text(u.ImageURL) },
		},
		{
			Name: "has_image", Kind: Bool, Note: "whether the user has a picture that Clerk did not make",
			get: func(u *user) any { return u.details().HasImage },
		},
		{
			Name: "external_id", Kind: Text, Optional: true, Note: "the app's own id of the user, as Clerk keeps it",
			get: func(u *user) any { return text(u.details().ExternalID) },
		},
		{
			Name: "locale", Kind: Text, Optional: true, Note: "the language, such as de-CH",
			get: func(u *user) any { return text(u.details().Locale) },
		},
		{
			Name: "two_factor_enabled", Kind: Bool, Note: "whether a second factor is set up",
			get: func(u *user) any { return u.details().TwoFactor },
		},
		{Name: "banned", Kind: Bool, Note: "whether the user is banned", get: func(u *user) any { return u.Banned }},
		{Name: "locked", Kind: Bool, Note: "whether the user is locked", get: func(u *user) any { return u.Locked }},
		{
			Name: "deprovisioned", Kind: Bool, Note: "whether a directory (SCIM) has removed the user",
			get: func(u *user) any { return u.Deprovisioned },
		},
		{
			Name: "created_at", Kind: Date, Optional: true, Note: "when the user signed up at Clerk",
			get: func(u *user) any { return date(u.CreatedAt) },
		},
		{
			Name: "updated_at", Kind: Date, Optional: true, Note: "when Clerk changed the user",
			Warn: "Clerk does not change it for every change, such as a new address",
			get:  func(u *user) any { return date(u.details().UpdatedAt) },
		},
		{
			Name: "last_sign_in_at", Kind: Date, Optional: true, Note: "when the user signed in",
			Warn: "it costs a write for each sign-in, and Clerk does not promise an event for each",
			get:  func(u *user) any { return date(u.details().LastSignInAt) },
		},
		{
			Name: "legal_accepted_at", Kind: Date, Optional: true, Note: "when the user accepted the terms",
			get: func(u *user) any { return date(u.details().LegalAcceptedAt) },
		},
		{
			Name: Now, Kind: Date, Note: "the time of each write that changes something; not from Clerk",
			get: func(u *user) any { return bson.NewDateTimeFromTime(u.now) },
		},
	}
}

// LookUp returns the source with a name, which may be a path into the metadata, and whether there is one.
func LookUp(name string) (Source, bool) {
	for _, s := range Sources() {
		if s.Name == name {
			return s, true
		}
	}
	switch root, _, _ := strings.Cut(name, "."); root {
	case Public:
		return Source{Name: name, Kind: Any, Optional: true, Note: "what the app has stored at Clerk"}, true
	case Unsafe:
		return Source{
			Name: name, Kind: Any, Optional: true, Note: "what the user has stored at Clerk",
			Warn: "the user can write anything there: never trust it for rights, such as a role",
		}, true
	}
	return Source{}, false
}

// user is the user from whom the fields of one row are made.
type user struct {
	clerk.User
	now  time.Time
	more *clerk.Details // read when the first field needs them
}

func (u *user) details() clerk.Details {
	if u.more == nil {
		u.more = new(u.Details())
	}
	return *u.more
}

// getter returns the function that gets the value of the source, which is nil if the user does not have it.
func (s Source) getter() func(*user) (any, error) {
	if s.get != nil {
		return func(u *user) (any, error) { return s.get(u), nil }
	}
	path := strings.Split(s.Name, ".")
	return func(u *user) (any, error) {
		value := u.details().PublicMetadata
		if path[0] == Unsafe {
			value = u.details().UnsafeMetadata
		}
		for _, key := range path[1:] {
			var at map[string]json.RawMessage
			if value == nil || json.Unmarshal(value, &at) != nil {
				return nil, nil // it is no object, so it has nothing at this path
			}
			value = at[key]
		}
		if value == nil {
			return nil, nil
		}
		return fromJSON(value)
	}
}

var errTooDeep = errors.New("the metadata has more than 90 levels: MongoDB stores 100 in a document")

// fromJSON returns the BSON of a JSON value. Whole numbers become whole numbers if 64 bits hold them.
func fromJSON(value json.RawMessage) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(value))
	dec.UseNumber()
	return readJSON(dec, 90)
}

func readJSON(dec *json.Decoder, levels int) (any, error) {
	token, err := dec.Token()
	if err != nil {
		return nil, errors.New("the metadata is not JSON")
	}
	switch t := token.(type) {
	case json.Number:
		if n, err := t.Int64(); err == nil {
			return n, nil
		}
		n, err := t.Float64()
		if err != nil {
			return nil, errors.New("the metadata has a number beyond 64 bits of floating point")
		}
		return n, nil
	case json.Delim:
		if levels == 0 {
			return nil, errTooDeep
		}
		if t == '[' {
			return readList(dec, levels-1)
		}
		return readObject(dec, levels-1)
	}
	return token, nil
}

func readList(dec *json.Decoder, levels int) (any, error) {
	list := bson.A{}
	for dec.More() {
		v, err := readJSON(dec, levels)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	_, err := dec.Token()
	return list, err
}

func readObject(dec *json.Decoder, levels int) (any, error) {
	object := bson.D{}
	at := map[string]int{}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, errors.New("the metadata is not JSON")
		}
		name, _ := key.(string)
		if strings.ContainsRune(name, 0) {
			return nil, fmt.Errorf("the metadata has a key with a NUL in it, which BSON cannot hold")
		}
		v, err := readJSON(dec, levels)
		if err != nil {
			return nil, err
		}
		if i, twice := at[name]; twice { // JSON's readers take the last
			object[i].Value = v
			continue
		}
		at[name] = len(object)
		object = append(object, bson.E{Key: name, Value: v})
	}
	_, err := dec.Token()
	return object, err
}
