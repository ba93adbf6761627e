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

// Envelope is what Clerk posts to a webhook.
type Envelope struct {
	Type       string          // such as "user.created"
	Timestamp  Millis          // when the event happened; 0 if Clerk did not say
	InstanceID string          // the Clerk instance it comes from; "" before April 2025
	Data       json.RawMessage // the user, or another object; valid JSON, and a part of the body
}

// ParseEnvelope reads the body of a webhook. It returns ErrNotObject if the body is no JSON object, or one that two readers could
// read differently, and ErrNoType if the object names no type.
func ParseEnvelope(body []byte) (Envelope, error) {
	// A lone surrogate, as a name that was cut in the middle of an emoji may hold, is no reason to lose a user.
	if !utf8.Valid(body) || !jsontext.Value(body).IsValid(jsontext.AllowInvalidUTF8(true)) || jsontext.Value(body).Kind() != '{' {
		return Envelope{}, ErrNotObject
	}
	var e Envelope
	c := cutter{in: body}
	c.space()
	for _, key := range c.members {
		c.space()
		from := c.at
		c.value(true)
		if err := e.set(string(key), bytes.TrimRight(body[from:c.at], whitespace)); err != nil {
			return Envelope{}, ErrNotObject
		}
	}
	if e.Type == "" {
		return Envelope{}, ErrNoType
	}
	return e, nil
}

func (e *Envelope) set(key string, value jsontext.Value) error {
	switch key {
	case "type":
		e.Type = text(value)
	case "instance_id":
		e.InstanceID = text(value)
	case "timestamp":
		return e.Timestamp.UnmarshalJSON(value)
	case "data":
		e.Data = json.RawMessage(value)
	}
	return nil
}

// text returns what a JSON string holds, or "" of another value.
func text(value jsontext.Value) string {
	if value.Kind() != '"' {
		return ""
	}
	b, _ := jsontext.AppendUnquote(nil, value) // errs where it replaces a lone surrogate
	return string(b)
}
