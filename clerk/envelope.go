// Package clerk reads Clerk's JSON: the envelope of a webhook and the user inside. It accepts fields that it does not
// know, because Clerk keeps adding some. It also asks Clerk's API. It imports nothing else of this project.
package clerk

import (
	"encoding/json"
	"errors"
	"unicode/utf8"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// The types of events that lead to rows.
const (
	UserCreated = "user.created"
	UserUpdated = "user.updated"
	UserDeleted = "user.deleted"
)

// ErrNotObject is returned for data that Go's JSON decoders would not read, or not all in the same way. They read no
// more than 10,000 levels.
var ErrNotObject = errors.New(
	"the body is not a JSON object in UTF-8 with each key once and at most 10,000 levels")

// Envelope is what Clerk posts to a webhook.
type Envelope struct {
	Type       string          // such as "user.created"
	Timestamp  Millis          // when the event happened; 0 if Clerk did not say
	InstanceID string          // the Clerk instance it comes from; "" before April 2025
	Data       json.RawMessage // the user, or another object; valid JSON
}

// ParseEnvelope reads the body of a webhook. It returns ErrNotObject, or an error that says that there is no type.
func ParseEnvelope(body []byte) (Envelope, error) {
	var e struct {
		Type       jsontext.Value  `json:"type"`
		Timestamp  Millis          `json:"timestamp"`
		InstanceID jsontext.Value  `json:"instance_id"`
		Data       json.RawMessage `json:"data"`
	}
	// AllowInvalidUTF8 is for lone surrogates, as in a name that was cut in the middle of an emoji: no reason to lose a
	// user. Bytes that are not UTF-8 are refused.
	if !utf8.Valid(body) || jsontext.Value(body).Kind() != '{' ||
		jsonv2.Unmarshal(body, &e, jsontext.AllowInvalidUTF8(true)) != nil {
		return Envelope{}, ErrNotObject
	}
	event := Envelope{Type: text(e.Type), Timestamp: e.Timestamp, InstanceID: text(e.InstanceID), Data: e.Data}
	if event.Type == "" {
		return Envelope{}, errors.New("the event has no type")
	}
	return event, nil
}

// text returns the content of a JSON string, or "" for any other value.
func text(value jsontext.Value) string {
	if value.Kind() != '"' {
		return ""
	}
	return string(unquoted(value))
}
