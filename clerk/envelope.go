// Package clerk reads Clerk's JSON: the envelope of a webhook and the user in it, tolerantly, because Clerk adds fields all the
// time. It imports nothing else of this project.
package clerk

import (
	"bytes"
	"encoding/json"
	"errors"
)

// The types of event that make rows.
const (
	UserCreated = "user.created"
	UserUpdated = "user.updated"
	UserDeleted = "user.deleted"
)

// Errors of ParseEnvelope.
var (
	ErrNotObject = errors.New("the body is not a JSON object")
	ErrNoType    = errors.New("the event has no type")
)

// Envelope is what Clerk posts to a webhook.
type Envelope struct {
	Type       string          // such as "user.created"
	Timestamp  Millis          // when the event happened; 0 if Clerk did not say
	InstanceID string          // the Clerk instance it comes from; "" before April 2025
	Data       json.RawMessage // the user, or another object
}

// ParseEnvelope reads the body of a webhook. It returns ErrNotObject if the body is no JSON object, and ErrNoType if the object
// names no type.
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
	if err := json.Unmarshal(body, &raw); err != nil {
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
// public_metadata and unsafe_metadata is left as it is. Keys come out sorted, as Clerk's webhooks have them. It fails if data
// is not JSON.
func WithoutSecrets(data json.RawMessage, keepPrivate bool) (json.RawMessage, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber() // large numbers keep their digits
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, ErrNotObject
	}
	prune(v, keepPrivate)
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSpace(out.Bytes()), nil
}

func prune(v any, keepPrivate bool) {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			prune(e, keepPrivate)
		}
	case map[string]any:
		delete(v, "backup_codes")
		if !keepPrivate {
			delete(v, "private_metadata")
		}
		for k, e := range v {
			if k != "public_metadata" && k != "unsafe_metadata" && k != "private_metadata" {
				prune(e, keepPrivate)
			}
		}
	}
}
