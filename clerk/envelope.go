// Package clerk reads Clerk's JSON: the envelope of a webhook and the user in it, tolerantly, because Clerk adds fields all the
// time. It imports nothing else of this project.
package clerk

import (
	"bytes"
	"encoding/json"
	"errors"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// The types of event that make rows.
const (
	UserCreated = "user.created"
	UserUpdated = "user.updated"
	UserDeleted = "user.deleted"
)

// Errors of ParseEnvelope.
var (
	ErrNotObject = errors.New("the body is not a JSON object in UTF-8 with each key once")
	ErrNoType    = errors.New("the event has no type")
)

// ErrNumber says that a number is larger than what those who read the event after us can hold: Inngest refuses the whole event.
var ErrNumber = errors.New("the event holds a number beyond 64 bits of floating point")

// Envelope is what Clerk posts to a webhook.
type Envelope struct {
	Type       string          // such as "user.created"
	Timestamp  Millis          // when the event happened; 0 if Clerk did not say
	InstanceID string          // the Clerk instance it comes from; "" before April 2025
	Data       json.RawMessage // the user, or another object
}

// ParseEnvelope reads the body of a webhook. It returns ErrNotObject if the body is no JSON object, or one that two readers could
// read differently, and ErrNoType if the object names no type.
func ParseEnvelope(body []byte) (Envelope, error) {
	var raw struct {
		Type       any             `json:"type"`
		Timestamp  Millis          `json:"timestamp"`
		InstanceID any             `json:"instance_id"`
		Data       json.RawMessage `json:"data"`
	}
	if b := bytes.TrimLeft(body, " \t\r\n"); len(b) == 0 || b[0] != '{' {
		return Envelope{}, ErrNotObject
	}
	// A lone surrogate, as a name that was cut in the middle of an emoji may hold, is no reason to lose a user.
	if !utf8.Valid(body) || !jsontext.Value(body).IsValid(jsontext.AllowInvalidUTF8(true)) || json.Unmarshal(body, &raw) != nil {
		return Envelope{}, ErrNotObject
	}
	e := Envelope{Timestamp: raw.Timestamp, Data: raw.Data}
	e.Type, _ = raw.Type.(string)
	e.InstanceID, _ = raw.InstanceID.(string)
	if e.Type == "" {
		return Envelope{}, ErrNoType
	}
	return e, nil
}

// WithoutSecrets returns data without what has no business in a queue: every phone number's backup_codes and, unless
// keepPrivate, every private_metadata, wherever they stand (a session's event holds its user). What the app itself keeps under
// public_metadata and unsafe_metadata is left as it is. Keys come out sorted, as Clerk's webhooks have them. It returns
// ErrNotObject if data is not JSON, and ErrNumber.
func WithoutSecrets(data json.RawMessage, keepPrivate bool) (json.RawMessage, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber() // large numbers keep their digits
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, ErrNotObject
	}
	if err := prune(v, keepPrivate, false); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSpace(out.Bytes()), nil
}

// prune takes the secrets out of v, unless it is what the app keeps, and looks at its numbers.
func prune(v any, keepPrivate, app bool) error {
	switch v := v.(type) {
	case json.Number:
		if _, err := v.Float64(); err != nil {
			return ErrNumber
		}
	case []any:
		for _, e := range v {
			if err := prune(e, keepPrivate, app); err != nil {
				return err
			}
		}
	case map[string]any:
		if !app {
			delete(v, "backup_codes")
		}
		if !app && !keepPrivate {
			delete(v, "private_metadata")
		}
		for k, e := range v {
			if err := prune(e, keepPrivate, app || k == "public_metadata" || k == "unsafe_metadata" || k == "private_metadata"); err != nil {
				return err
			}
		}
	}
	return nil
}
