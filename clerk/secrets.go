package clerk

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// ErrNumber says that a number is larger than what those who read the event after us can hold: Inngest refuses the whole event.
var ErrNumber = errors.New("the event holds a number beyond 64 bits of floating point")

// WithoutSecrets returns data without what has no business in a queue: every phone number's backup_codes and, unless
// keepPrivate, every private_metadata, wherever they stand (a session's event holds its user). What the app itself keeps under
// public_metadata and unsafe_metadata is left as it is, and all else too. It returns ErrNotObject if data is not JSON, and ErrNumber. What it
// returns may be data itself.
func WithoutSecrets(data json.RawMessage, keepPrivate bool) (json.RawMessage, error) {
	if !jsontext.Value(data).IsValid(jsontext.AllowInvalidUTF8(true), jsontext.AllowDuplicateNames(true)) {
		return nil, ErrNotObject
	}
	return withoutSecrets(data, keepPrivate)
}

// DataWithoutSecrets returns the data of an event without its secrets; see WithoutSecrets.
func (e Envelope) DataWithoutSecrets(keepPrivate bool) (json.RawMessage, error) {
	if len(e.Data) == 0 {
		return nil, ErrNotObject
	}
	return withoutSecrets(e.Data, keepPrivate)
}

func withoutSecrets(data json.RawMessage, keepPrivate bool) (json.RawMessage, error) {
	c := cutter{in: data, keepPrivate: keepPrivate}
	c.value(false)
	switch {
	case c.tooLarge:
		return nil, ErrNumber
	case c.done == 0:
		return data, nil
	}
	return append(c.out, data[c.done:]...), nil
}

// cutter goes through valid JSON once and copies what is to stay: decoding and encoding a user would cost ten times as much.
type cutter struct {
	in, out     []byte
	done        int // how much of in is in out, or cut
	at          int // where it is in in
	keepPrivate bool
	tooLarge    bool // a number is
}

// value passes over a value. app says that it is the app's own.
func (c *cutter) value(app bool) {
	c.space()
	switch c.in[c.at] {
	case '{':
		c.object(app)
	case '[':
		c.array(app)
	case '"':
		c.text()
	case 't', 'n':
		c.at += len("true")
	case 'f':
		c.at += len("false")
	default:
		c.number()
	}
	c.space()
}

// whitespace is what JSON takes for it.
const whitespace = " \n\t\r"

func (c *cutter) space() {
	for c.at < len(c.in) && strings.IndexByte(whitespace, c.in[c.at]) >= 0 {
		c.at++
	}
}

// more passes over what stands before a member or an element, or at the end, and tells which of the two it was.
func (c *cutter) more(end byte) bool {
	c.at++ // the bracket that opens, or a comma
	c.space()
	if c.in[c.at] == end {
		c.at++
		return false
	}
	return true
}

func (c *cutter) array(app bool) {
	for c.more(']') {
		if c.value(app); c.in[c.at] == ']' {
			c.at++
			return
		}
	}
}

// members passes over an object but for its values: each is for the body of the loop. from is where the name begins.
func (c *cutter) members(yield func(from int, key []byte) bool) {
	for c.more('}') {
		from := c.at
		key := c.key()
		c.at++ // the colon
		if !yield(from, key) {
			return
		}
		if c.in[c.at] == '}' {
			c.at++
			return
		}
	}
}

func (c *cutter) object(app bool) {
	kept := false // a member before this one
	for from, key := range c.members {
		own, secret := app, false
		switch string(key) {
		case "public_metadata", "unsafe_metadata":
			own = true
		case "private_metadata":
			own, secret = true, !c.keepPrivate
		case "backup_codes":
			secret = true
		}
		c.value(own)
		switch {
		case app || !secret:
			kept = true
		case kept:
			c.cut(bytes.LastIndexByte(c.in[:from], ','), c.at)
		case c.in[c.at] == '}':
			c.cut(from, c.at)
		default:
			c.cut(from, c.at+1) // with the comma
		}
	}
}

// cut leaves out what is between two places.
func (c *cutter) cut(from, to int) {
	c.out = append(c.out, c.in[c.done:from]...)
	c.done = to
}

// key passes over a name and the space before its colon.
func (c *cutter) key() []byte {
	from := c.at
	c.text()
	raw := c.in[from:c.at]
	c.space()
	if bytes.IndexByte(raw, '\\') >= 0 {
		b, _ := jsontext.AppendUnquote(nil, raw) // errs where it replaces a lone surrogate
		return b
	}
	return raw[1 : len(raw)-1]
}

// text passes over a string.
func (c *cutter) text() {
	for c.at++; ; c.at++ {
		c.at += bytes.IndexByte(c.in[c.at:], '"')
		escapes := 0
		for c.in[c.at-1-escapes] == '\\' {
			escapes++
		}
		if escapes%2 == 0 {
			c.at++
			return
		}
	}
}

// number passes over a number, and looks whether it can be held.
func (c *cutter) number() {
	from, short := c.at, true
	for ; c.at < len(c.in) && bytes.IndexByte([]byte("+-.eE0123456789"), c.in[c.at]) >= 0; c.at++ {
		if c.in[c.at]|0x20 == 'e' || c.at-from > 300 { // floating point goes to 1e308
			short = false
		}
	}
	if !short {
		if _, err := strconv.ParseFloat(string(c.in[from:c.at]), 64); err != nil {
			c.tooLarge = true
		}
	}
}
