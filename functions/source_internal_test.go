package functions

import (
	"testing"

	"clerksync/inbox"
)

// TestSourceAllocatesNothing: it is asked for twice for each event. It once compiled a regular expression each time.
func TestSourceAllocatesNothing(t *testing.T) {
	e := Event{id: inbox.ParseEventID("msg_29w83sxmDNGwOuEthce5gg56FcC")}
	if n := testing.AllocsPerRun(100, func() { _ = e.source() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
