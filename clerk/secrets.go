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

// maxDepth is how many levels deep data may be nested. Go's JSON decoders read 10,000, and Inngest's call of a function
// contains the data a few levels further down: deeper data could be accepted here, but never be written. Clerk's
// metadata of 8 KB has about 4,100 levels at most.
const maxDepth = 9_900

// WithoutSecrets returns data without what does not belong in a queue: the backup_codes of phone numbers and, unless
// keepPrivate is set, private_metadata, at any level (the event of a session contains its user). The app's own data in
// public_metadata and unsafe_metadata stays as it is, and so does everything else, byte for byte. The result may be
// data itself.
//
// The error is ErrNotObject if data is not JSON. Other errors say what Inngest would not accept: more than maxDepth
// levels, or a number beyond 64 bits of floating point.
func WithoutSecrets(data json.RawMessage, keepPrivate bool) (json.RawMessage, error) {
	// One pass over the tokens. Decoding and encoding a user would cost ten times as much.
	dec := jsontext.NewDecoder(
		bytes.NewBuffer(data), jsontext.AllowInvalidUTF8(true), jsontext.AllowDuplicateNames(true))
	var out []byte
	var tooLarge error
	done := 0   // data[:done] is in out, or is cut
	begin := -1 // where the secret member begins that the decoder is in; -1 for none
	whole := 0  // the level of the member that is not looked into, because it goes or stays as a whole; 0 for none
	for first := true; first || dec.StackDepth() > 0; first = false {
		kind, level := dec.PeekKind(), dec.StackDepth()
		if (kind == '{' || kind == '[') && level >= maxDepth {
			return nil, fmt.Errorf("the event is more than %d levels deep", maxDepth)
		}
		parent, n := dec.StackIndex(level)
		isName := parent == '{' && n%2 == 0 && kind == '"'
		var text jsontext.Value
		var err error
		if isName || kind == '0' {
			text, err = dec.ReadValue()
		} else {
			_, err = dec.ReadToken()
		}
		if err != nil {
			return nil, ErrNotObject
		}
		switch {
		case kind == '0' && (len(text) > 300 || bytes.ContainsAny(text, "eE")): // floating point ends at 1e308
			if _, err := strconv.ParseFloat(string(text), 64); err != nil {
				tooLarge = errors.New("the event holds a number beyond 64 bits of floating point")
			}
		case isName && whole == 0:
			secret := false
			switch string(unquoted(text)) {
			case "public_metadata", "unsafe_metadata":
				whole = level
			case "private_metadata":
				whole, secret = level, !keepPrivate
			case "backup_codes":
				whole, secret = level, true
			}
			if secret {
				begin = int(dec.InputOffset()) - len(text)
			}
			continue
		}
		if whole == 0 || isName || whole != dec.StackDepth() {
			continue
		}
		if whole = 0; begin >= 0 { // the secret member ends here
			end := len(data) - len(bytes.TrimLeft(data[dec.InputOffset():], jsonSpace))
			if before := bytes.TrimRight(data[done:begin], jsonSpace); bytes.HasSuffix(before, []byte{','}) {
				begin = done + len(before) - 1
			} else if bytes.HasPrefix(data[end:], []byte{','}) { // no member before it stays
				end++
			}
			out = append(out, data[done:begin]...)
			done, begin = end, -1
		}
	}
	if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) { // a second value
		return nil, ErrNotObject
	}
	switch {
	case tooLarge != nil:
		return nil, tooLarge
	case done == 0:
		return data, nil
	}
	return append(out, data[done:]...), nil
}

// jsonSpace are the characters that JSON takes for white space.
const jsonSpace = " \n\r\t"

// unquoted returns what a JSON string contains.
func unquoted(s jsontext.Value) []byte {
	if bytes.IndexByte(s, '\\') < 0 { // much faster, and the usual case
		return s[1 : len(s)-1]
	}
	b, _ := jsontext.AppendUnquote(nil, s) // the error is about lone surrogates, which are replaced
	return b
}
