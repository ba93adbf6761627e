package clerk

import (
	"encoding/json"
	"strings"
)

// Details is the part of Clerk's user object that only some maps need. A field that Clerk's object does not have, or
// has in a form that we do not know, is empty: it must not keep the rest of the user from being written.
type Details struct {
	FirstName, LastName string
	ExternalID          string
	Locale              string // such as "de-CH"
	Phone               string // the primary number, in E.164
	PhoneVerified       bool
	HasImage            bool // false if Clerk has made the picture
	TwoFactor           bool
	UpdatedAt           Millis
	LastSignInAt        Millis
	LegalAcceptedAt     Millis
	PublicMetadata      json.RawMessage // a JSON object, or nil
	UnsafeMetadata      json.RawMessage // likewise
}

// Details reads the details of the user from u.Object. It never fails.
func (u User) Details() Details {
	var all map[string]json.RawMessage
	if json.Unmarshal(u.Object, &all) != nil {
		return Details{}
	}
	d := Details{
		FirstName:       strings.TrimSpace(lenient[string](all["first_name"])),
		LastName:        strings.TrimSpace(lenient[string](all["last_name"])),
		ExternalID:      lenient[string](all["external_id"]),
		Locale:          lenient[string](all["locale"]),
		HasImage:        lenient[bool](all["has_image"]),
		TwoFactor:       lenient[bool](all["two_factor_enabled"]),
		UpdatedAt:       lenient[Millis](all["updated_at"]),
		LastSignInAt:    lenient[Millis](all["last_sign_in_at"]),
		LegalAcceptedAt: lenient[Millis](all["legal_accepted_at"]),
		PublicMetadata:  object(all["public_metadata"]),
		UnsafeMetadata:  object(all["unsafe_metadata"]),
	}
	d.Phone, d.PhoneVerified = primaryPhone(all["phone_numbers"], lenient[string](all["primary_phone_number_id"]))
	return d
}

// lenient returns a JSON value as a T, or the zero value if it is none.
func lenient[T any](value json.RawMessage) (v T) {
	if json.Unmarshal(value, &v) != nil {
		var zero T
		return zero
	}
	return v
}

// object returns a JSON value if it is an object.
func object(value json.RawMessage) json.RawMessage {
	if len(value) == 0 || value[0] != '{' {
		return nil
	}
	return value
}

// primaryPhone returns the number with the id primary, or else the first one.
func primaryPhone(numbers json.RawMessage, primary string) (number string, verified bool) {
	for i, raw := range lenient[[]json.RawMessage](numbers) {
		n := lenient[struct {
			ID           string `json:"id"`
			PhoneNumber  string `json:"phone_number"`
			Verification struct {
				Status string `json:"status"`
			} `json:"verification"`
		}](raw)
		if isPrimary := n.ID != "" && n.ID == primary; i == 0 || isPrimary {
			number, verified = n.PhoneNumber, n.Verification.Status == "verified"
			if isPrimary {
				break
			}
		}
	}
	return number, verified
}
