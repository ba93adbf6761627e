package functions

import (
	"encoding/json"
	"log/slog"
	"strings"
	"testing"

	"clerksync/inbox"
	"clerksync/internal/testenv"

	"github.com/prometheus/client_golang/prometheus"
)

// TestDeadLetterKeepsSecretsWhereCuttingFails: data out of which the secrets cannot be cut was kept as it was. Nothing
// of it is kept now, and the dead letter says so. The SDK refuses such data itself, so far: nothing from outside gets
// there.
func TestDeadLetterKeepsSecretsWhereCuttingFails(t *testing.T) {
	t.Parallel()
	for name, data := range map[string]string{
		"number": `{"object":"user","private_metadata":{"key":"secret"},"unsafe_metadata":{"n":1e999}}`,
		"cut":    `{"object":"user","private_metadata":{"key":"secret"},"unsafe_metadata":{`,
	} {
		db := testenv.NewMemory().Connect(t, "test", nil, nil)
		f := &Functions{
			Inbox: inbox.New(inbox.Options{
				DB: db, Log: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
			}),
		}
		e := Event{Data: json.RawMessage(data), id: inbox.ParseEventID("msg_1")}
		if err := f.keep(t.Context(), e, inbox.Failure{Error: "why"}); err != nil {
			t.Fatal(name, err)
		}
		kept, err := inbox.NewTable(db).DeadLetter(t.Context(), "msg_1")
		if err != nil {
			t.Fatal(name, err)
		}
		if string(kept.Data) != "null" || !strings.HasPrefix(kept.Error, "why; its data is not kept, ") {
			t.Errorf("%s: got data %s and error %q", name, kept.Data, kept.Error)
		}
	}
}
