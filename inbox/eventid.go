package inbox

import (
	"fmt"
	"strconv"
	"strings"
)

// EventID is the id of one sending of an event to Inngest, which swallows an id that it has seen within 24 hours, even
// if that run failed. So each sending after one that it may have accepted needs another:
//
//	ROW          the first
//	ROW:rN       the sending after N others
//	ROW:replayN  likewise, of a dead letter that was replayed: by that a function knows that it has had the event
//
// ROW is a svix-id, or SVIX-ID:FUNCTION for the dead letter of a function that writes no row of a user.
type EventID struct {
	Row      string // the id of the row in the inbox, which all sendings share
	Sends    int
	Replayed bool
}

const (
	againMark  = ":r"
	replayMark = ":replay"
)

// ParseEventID is the inverse of EventID.String: what it cannot have made is the id of a row as a whole.
func ParseEventID(s string) EventID {
	i := strings.LastIndex(s, againMark) // both begin with it
	if i < 0 {
		return EventID{Row: s}
	}
	id := EventID{Row: s[:i], Replayed: strings.HasPrefix(s[i:], replayMark)}
	digits := strings.TrimPrefix(s[i:], againMark)
	if id.Replayed {
		digits = strings.TrimPrefix(s[i:], replayMark)
	}
	n, err := strconv.ParseUint(digits, 10, 31)
	if id.Sends = int(n); err != nil || id.String() != s {
		return EventID{Row: s}
	}
	return id
}

func (id EventID) String() string {
	switch {
	case id.Replayed:
		return fmt.Sprint(id.Row, replayMark, id.Sends)
	case id.Sends > 0:
		return fmt.Sprint(id.Row, againMark, id.Sends)
	}
	return id.Row
}

// Own returns the id of the dead letter that is a function's alone, of the event or of such a dead letter of it. The
// function's id must not be one that Ambiguous tells of.
func (id EventID) Own(function string) EventID {
	return EventID{Row: id.Message(function) + ":" + function}
}

// Message returns the svix-id, of an event or of the dead letter of it that is a function's alone.
func (id EventID) Message(function string) string { return strings.TrimSuffix(id.Row, ":"+function) }

// Ambiguous tells whether a dead letter of the function with this id would have the id of another sending.
func Ambiguous(function string) bool {
	own := EventID{}.Own(function)
	return ParseEventID(own.String()) != own
}
