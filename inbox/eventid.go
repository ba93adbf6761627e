package inbox

import (
	"fmt"
	"strconv"
	"strings"
)

// EventID is the id of one sending of an event to Inngest, which ignores an id that it has seen within 24 hours, even
// if that run failed. So each sending after one that it may have accepted needs another id:
//
//	ROW          the first sending
//	ROW:rN       the sending after N others
//	ROW:replayN  the same, of a dead letter that was replayed: this tells a function that it has had the event before
//
// ROW is a svix-id, or SVIX-ID:FUNCTION for the dead letter of a function that writes no row of a user.
type EventID struct {
	Row      string // the id of the row in the inbox, which all sendings share
	Sends    int
	Replayed bool
}

// ParseEventID is the inverse of EventID.String. A text that String cannot have made is the id of a row as a whole.
func ParseEventID(s string) EventID {
	if i := strings.LastIndex(s, ":r"); i >= 0 {
		digits, replayed := strings.CutPrefix(s[i:], ":replay")
		if !replayed {
			digits = strings.TrimPrefix(digits, ":r")
		}
		n, err := strconv.ParseUint(digits, 10, 31)
		if id := (EventID{s[:i], int(n), replayed}); err == nil && id.String() == s {
			return id
		}
	}
	return EventID{Row: s}
}

func (id EventID) String() string {
	switch {
	case id.Replayed:
		return fmt.Sprint(id.Row, ":replay", id.Sends)
	case id.Sends > 0:
		return fmt.Sprint(id.Row, ":r", id.Sends)
	}
	return id.Row
}

// Own returns the id of the dead letter that a function has of its own, of the event or of such a dead letter of it.
// The function's id must not be one for which Ambiguous is true.
func (id EventID) Own(function string) EventID {
	return EventID{Row: id.Message(function) + ":" + function}
}

// IsOwn tells whether this is the dead letter that a function has of its own.
func (id EventID) IsOwn(function string) bool { return id.Row == id.Own(function).Row }

// Message returns the svix-id, of an event or of the dead letter of it that a function has of its own.
func (id EventID) Message(function string) string { return strings.TrimSuffix(id.Row, ":"+function) }

// Ambiguous tells whether a dead letter of the function with this id would have the id of another sending.
func Ambiguous(function string) bool {
	own := EventID{}.Own(function)
	return ParseEventID(own.String()) != own
}
