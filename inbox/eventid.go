package inbox

import (
	"fmt"
	"strconv"
	"strings"
)

// EventID is the id of one sending of an event to Inngest. Inngest ignores an id that it has seen in the last 24 hours,
// even if that run failed. So after Inngest may have accepted one sending, the next one needs another id:
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

// ParseEventID is the inverse of EventID.String. If String cannot have made the text, all of the text is the id of a
// row.
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

// Own returns the id of the function's own dead letter for this event. id may also be of that dead letter itself. The
// function's id must not be Ambiguous.
func (id EventID) Own(function string) EventID {
	return EventID{Row: id.Message(function) + ":" + function}
}

// IsOwn tells whether this is the id of the function's own dead letter.
func (id EventID) IsOwn(function string) bool { return id.Row == id.Own(function).Row }

// Message returns the svix-id. id may be of an event or of the function's own dead letter for it.
func (id EventID) Message(function string) string { return strings.TrimSuffix(id.Row, ":"+function) }

// Ambiguous tells whether the id of the function's own dead letter would look like the id of a second sending.
func Ambiguous(function string) bool {
	own := EventID{}.Own(function)
	return ParseEventID(own.String()) != own
}
