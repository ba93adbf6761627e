package functions

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"clerksync/inbox"
)

// lastFailed is an inbox that remembers what failed last.
type lastFailed struct {
	Inbox
	event inbox.Event
	why   inbox.Failure
}

func (l *lastFailed) Fail(_ context.Context, e inbox.Event, f inbox.Failure) error {
	l.event, l.why = e, f
	return nil
}

// TestDeadLetterKeepsSecretsWhereCuttingFails: data out of which the secrets cannot be cut was kept as it was. Nothing
// of it is kept now, and the dead letter says so. The SDK refuses such data itself, so far: nothing from outside gets
// there.
func TestDeadLetterKeepsSecretsWhereCuttingFails(t *testing.T) {
	t.Parallel()
	for name, data := range map[string]string{
		"number": `{"object":"user","private_metadata":{"key":"secret"},"unsafe_metadata":{"n":1e999}}`,
		"cut":    `{"object":"user","private_metadata":{"key":"secret"},"unsafe_metadata":{`,
	} {
		var kept lastFailed
		f := &Functions{Inbox: &kept}
		if err := f.keep(t.Context(), Function{ID: "crm"}, Event{Data: json.RawMessage(data)}, inbox.Failure{Error: "why"}); err != nil {
			t.Fatal(name, err)
		}
		if string(kept.event.Data) != "null" || !strings.HasPrefix(kept.why.Error, "why; its data is not kept, ") {
			t.Errorf("%s: got data %s and error %q", name, kept.event.Data, kept.why.Error)
		}
	}
}
