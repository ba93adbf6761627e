// Package clerk reads Clerk's JSON: the envelope of a webhook and the user in it, tolerantly, because Clerk adds fields
// all the time. It imports nothing else of this project.
package clerk

import (
	"encoding/json"
	"errors"
	"unicode/utf8"

	jsonv2 "github.com/go-json-experiment/json"
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
	// ErrNotObject tells of the depth too: what reads the event after us, encoding/json, goes no deeper than our reader
	// does.
	ErrNotObject = errors.New("the body is not a JSON object in UTF-8 with each key once and at most 10,000 levels")
	ErrNoType    = errors.New("the event has no type")
)

// Envelope is what Clerk posts to a webhook.
type Envelope struct {
	Type       string          // such as "user.created"
	Timestamp  Millis          // when the event happened; 0 if Clerk did not say
	InstanceID string          // the Clerk instance it comes from; "" before April 2025
	Data       json.RawMessage // the user, or another object; valid JSON
}

// ParseEnvelope reads the body of a webhook. It returns ErrNotObject if the body is no JSON object, or one that two
// readers could read differently, or not at all, and ErrNoType if the object names no type.
func ParseEnvelope(body []byte) (Envelope, error) {
	var e struct {
		Type       jsontext.Value `json:"type"`
		Timestamp  jsontext.Value `json:"timestamp"`
		InstanceID jsontext.Value `json:"instance_id"`
		Data       jsontext.Value `json:"data"`
	}
	// A lone surrogate, as a name that was cut in the middle of an emoji may hold, is no reason to lose a user.
	if !utf8.Valid(body) || jsontext.Value(body).Kind() != '{' || jsonv2.Unmarshal(body, &e, jsontext.AllowInvalidUTF8(true)) != nil {
		return Envelope{}, ErrNotObject
	}
	event := Envelope{Type: text(e.Type), InstanceID: text(e.InstanceID), Data: json.RawMessage(e.Data)}
	_ = event.Timestamp.UnmarshalJSON(e.Timestamp) // never fails
	if event.Type == "" {
		return Envelope{}, ErrNoType
	}
	return event, nil
}

// text returns what a JSON string holds, or "" of another value.
func text(value jsontext.Value) string {
	if value.Kind() != '"' {
		return ""
	}
	b, _ := jsontext.AppendUnquote(nil, value) // errs where it replaces a lone surrogate
	return string(b)
}
