package mapping

import (
	"bytes"
	"encoding/json"
	"errors"
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
	const optional = true
	return []Source{
		{"id", Text, false, "Clerk's id of the user", "", func(u *user) any { return u.ID }},
		{"first_name", Text, optional, "the first name", "", func(u *user) any { return u.details().FirstName }},
		{"last_name", Text, optional, "the last name", "", func(u *user) any { return u.details().LastName }},
		{"full_name", Text, optional, "the first and the last name", "", func(u *user) any { return u.FullName }},
		{"username", Text, optional, "Clerk's own user name", "", func(u *user) any { return u.Username }},
		{"primary_email", Text, optional, "the primary e-mail address", "", func(u *user) any { return u.Email }},
		{
			"email_verified", Bool, false, "whether the primary e-mail address is verified", "",
			func(u *user) any { return u.EmailVerified },
		},
		{
			"primary_phone", Text, optional, "the primary phone number, in E.164", "",
			func(u *user) any { return u.details().Phone },
		},
		{
			"phone_verified", Bool, false, "whether the primary phone number is verified", "",
			func(u *user) any { return u.details().PhoneVerified },
		},
		{
			"image_url", Text, optional, "the picture; Clerk makes one if the user has none", "",
			func(u *user) any { return u.ImageURL },
		},
		{
			"has_image", Bool, false, "whether the user has a picture that Clerk did not make", "",
			func(u *user) any { return u.details().HasImage },
		},
		{
			"external_id", Text, optional, "the app's own id of the user, as Clerk keeps it", "",
			func(u *user) any { return u.details().ExternalID },
		},
		{"locale", Text, optional, "the language, such as de-CH", "", func(u *user) any { return u.details().Locale }},
		{
			"two_factor_enabled", Bool, false, "whether a second factor is set up", "",
			func(u *user) any { return u.details().TwoFactor },
		},
		{"banned", Bool, false, "whether the user is banned", "", func(u *user) any { return u.Banned }},
		{"locked", Bool, false, "whether the user is locked", "", func(u *user) any { return u.Locked }},
		{
			"deprovisioned", Bool, false, "whether a directory (SCIM) has removed the user", "",
			func(u *user) any { return u.Deprovisioned },
		},
		{
			"created_at", Date, optional, "when the user signed up at Clerk", "",
			func(u *user) any { return u.CreatedAt },
		},
		{
			"updated_at", Date, optional, "when Clerk changed the user",
			"Clerk does not change it for every change, such as a new address",
			func(u *user) any { return u.details().UpdatedAt },
		},
		{
			"last_sign_in_at", Date, optional, "when the user signed in",
			"it costs a write for each sign-in, and Clerk does not promise an event for each",
			func(u *user) any { return u.details().LastSignInAt },
		},
		{
			"legal_accepted_at", Date, optional, "when the user accepted the terms", "",
			func(u *user) any { return u.details().LegalAcceptedAt },
		},
		{
			Now, Date, false, "the time of each write that changes something; not from Clerk", "",
			func(u *user) any { return bson.NewDateTimeFromTime(u.now) },
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
	path := strings.Split(name, ".")
	switch path[0] {
	case Public:
		return Source{name, Any, true, "what the app has stored at Clerk", "", func(u *user) any {
			return inside(u.details().PublicMetadata, path[1:])
		}}, true
	case Unsafe:
		const warn = "the user can write anything there: never trust it for rights, such as a role"
		return Source{name, Any, true, "what the user has stored at Clerk", warn, func(u *user) any {
			return inside(u.details().UnsafeMetadata, path[1:])
		}}, true
	}
	return Source{}, false
}

// inside returns what is at a path in a JSON value, or nil.
func inside(value json.RawMessage, path []string) json.RawMessage {
	for _, key := range path {
		var object map[string]json.RawMessage
		if value == nil || json.Unmarshal(value, &object) != nil {
			return nil // it is no object, so it has nothing at this path
		}
		value = object[key]
	}
	return value
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

// value returns the BSON of what the source has for the user, or nil if that is nothing.
func (s Source) value(u *user) (any, error) {
	switch v := s.get(u).(type) {
	case string:
		if v == "" {
			return nil, nil
		}
		return v, nil
	case clerk.Millis:
		if v == 0 {
			return nil, nil
		}
		return bson.DateTime(v), nil
	case json.RawMessage:
		if v == nil {
			return nil, nil
		}
		return fromJSON(v)
	default:
		return v, nil
	}
}

// fromJSON returns the BSON of a JSON value. Whole numbers become whole numbers if 64 bits hold them.
func fromJSON(value json.RawMessage) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(value))
	dec.UseNumber()
	return readJSON(dec, 90)
}

// readJSON reads the next value, which may have so many levels.
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
			return nil, errors.New("the metadata has more than 90 levels: MongoDB stores 100 in a document")
		}
		list, object := bson.A{}, bson.D{}
		for dec.More() {
			var name any
			if t == '{' {
				name, _ = dec.Token() // if it fails, so does the next
			}
			v, err := readJSON(dec, levels-1)
			if err != nil {
				return nil, err
			}
			key, _ := name.(string)
			if strings.ContainsRune(key, 0) {
				return nil, errors.New("the metadata has a key with a NUL in it, which BSON cannot hold")
			}
			if t == '{' {
				object = put(object, []string{key}, v) // of a name that is there twice JSON's readers take the last
				continue
			}
			list = append(list, v)
		}
		if _, err = dec.Token(); t == '[' {
			return list, err
		}
		return object, err
	}
	return token, nil
}
