package clerk

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// ErrNumber says that a number is larger than what those who read the event after us can hold: Inngest refuses the
// whole event.
var ErrNumber = errors.New("the event holds a number beyond 64 bits of floating point")

// maxDepth is how many levels deep data may be. Go's JSON decoders read 10,000, and Inngest's call of a function holds
// the data a few levels deeper: deeper data would be taken here and could never be written. Clerk's metadata of 8 KB
// has some 4,100 at the most.
const maxDepth = 9_900

// ErrTooDeep says that data is more than maxDepth levels deep.
var ErrTooDeep = fmt.Errorf("the event is more than %d levels deep", maxDepth)

// WithoutSecrets returns data without what has no business in a queue: every phone number's backup_codes and, unless
// keepPrivate, every private_metadata, wherever they stand (a session's event holds its user). What the app itself
// keeps under public_metadata and unsafe_metadata is left as it is, and all else too, byte for byte. It returns
// ErrNotObject if data is not JSON, ErrTooDeep, and ErrNumber. What it returns may be data itself.
func WithoutSecrets(data json.RawMessage, keepPrivate bool) (json.RawMessage, error) {
	// Decoding and encoding a user would cost ten times as much.
	c := cutter{in: data, keepPrivate: keepPrivate, dec: jsontext.NewDecoder(
		bytes.NewBuffer(data), jsontext.AllowInvalidUTF8(true), jsontext.AllowDuplicateNames(true))}
	if err := c.value(false); errors.Is(err, ErrTooDeep) {
		return nil, err
	} else if err != nil {
		return nil, ErrNotObject
	}
	if _, err := c.dec.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, ErrNotObject
	}
	switch {
	case c.tooLarge:
		return nil, ErrNumber
	case c.done == 0:
		return data, nil
	}
	return append(c.out, data[c.done:]...), nil
}

// cutter copies what is to stay of in, while dec goes through it.
type cutter struct {
	dec         *jsontext.Decoder
	in, out     []byte
	done        int // how much of in is in out, or cut
	keepPrivate bool
	tooLarge    bool // a number is
}

// value passes over a value. whole says that nothing in it is cut: it is the app's own, or goes as a whole.
func (c *cutter) value(whole bool) error {
	kind := c.dec.PeekKind()
	if (kind == '{' || kind == '[') && c.dec.StackDepth() >= maxDepth {
		return ErrTooDeep
	}
	switch kind {
	case '{':
		return c.object(whole)
	case '[':
		if _, err := c.dec.ReadToken(); err != nil {
			return err
		}
		for c.dec.PeekKind() != ']' {
			if err := c.value(whole); err != nil {
				return err
			}
		}
		_, err := c.dec.ReadToken()
		return err
	case '0':
		n, err := c.dec.ReadValue()
		if len(n) > 300 || bytes.ContainsAny(n, "eE") { // floating point goes to 1e308
			_, tooLarge := strconv.ParseFloat(string(n), 64)
			c.tooLarge = c.tooLarge || tooLarge != nil
		}
		return err
	}
	return c.dec.SkipValue()
}

func (c *cutter) object(whole bool) error {
	if _, err := c.dec.ReadToken(); err != nil {
		return err
	}
	kept := false // a member before this one
	for c.dec.PeekKind() == '"' {
		name, err := c.dec.ReadValue()
		if err != nil {
			return err
		}
		from := int(c.dec.InputOffset()) - len(name)
		own, secret := false, false
		switch string(unquoted(name)) {
		case "public_metadata", "unsafe_metadata":
			own = true
		case "private_metadata":
			own, secret = true, !c.keepPrivate
		case "backup_codes":
			secret = true
		}
		if err := c.value(whole || own || secret); err != nil {
			return err
		}
		if whole || !secret {
			kept = true
			continue
		}
		to := len(c.in) - len(bytes.TrimLeft(c.in[c.dec.InputOffset():], " \n\r\t"))
		if kept {
			from = bytes.LastIndexByte(c.in[:from], ',')
		} else if bytes.HasPrefix(c.in[to:], []byte{','}) {
			to++
		}
		c.out = append(c.out, c.in[c.done:from]...)
		c.done = to
	}
	_, err := c.dec.ReadToken() // the end, or what is wrong
	return err
}

// unquoted returns a name without its quotes and escapes.
func unquoted(name jsontext.Value) []byte {
	if bytes.IndexByte(name, '\\') < 0 {
		return name[1 : len(name)-1]
	}
	b, _ := jsontext.AppendUnquote(nil, name) // errs where it replaces a lone surrogate
	return b
}
