package main

import (
	"bytes"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"clerksync/inbox"
	"clerksync/store"
	"clerksync/store/embedded"

	"github.com/prometheus/client_golang/prometheus"
)

// TestDeletedRise: a dead letter that may be older than the tombstone of its user is not replayed unless somebody insists; a deletion is,
// at any age.
func TestDeletedRise(t *testing.T) {
	t.Parallel()
	inngest := newFakeInngest(t)
	settings := good(t)
	settings["INNGEST_DEV"] = inngest.URL
	s := serve(t, settings)
	uri, err := embedded.Running(strings.TrimPrefix(settings["MONGODB_URI"], embeddedPrefix))
	if err != nil {
		t.Fatal(err)
	}
	db, err := store.Connect(t.Context(), uri, "clerksync")
	if err != nil {
		t.Fatal(err)
	}
	box := inbox.New(inbox.Options{DB: db, Log: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	const day = 24 * time.Hour
	for id, e := range map[string]struct {
		name string
		age  time.Duration
	}{
		"msg_young":    {"clerk/user.updated", 89 * day},
		"msg_created":  {"clerk/user.created", 91 * day},
		"msg_updated":  {"clerk/user.updated", 400 * day},
		"msg_deletion": {"clerk/user.deleted", 400 * day},
		"msg_1:mail":   {"clerksync/replay.mail", 400 * day}, // writes no row
	} {
		event := inbox.Event{ID: id, Name: e.name, Data: []byte(`{}`), TS: time.Now().Add(-e.age).UnixMilli()}
		if err := box.Fail(t.Context(), event, inbox.Failure{Error: "why"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct{ args, out, err string }{
		{"replay msg_created", "", "older than 90 days"},
		{"replay --all", "3 will be sent again", "2 were skipped"},
		{"list", "msg_updated", ""},
		{"replay msg_created --force", "msg_created will be sent again", ""},
		{"replay --all --force", "1 will be sent again", ""},
		{"list", "no dead letters", ""},
	} {
		var out bytes.Buffer
		err := run(t.Context(), append([]string{"deadletters"}, strings.Fields(step.args)...), environ(settings), &out, io.Discard)
		if (err != nil) != (step.err != "") || err != nil && !strings.Contains(err.Error(), step.err) {
			t.Errorf("%s: got %v, want %q", step.args, err, step.err)
		}
		if !strings.Contains(out.String(), step.out) {
			t.Errorf("%s: printed\n%s, want %q", step.args, out.String(), step.out)
		}
		if step.args == "replay --all" {
			for _, id := range []string{"msg_created", "msg_updated"} {
				if !strings.Contains(out.String(), id+" is skipped: it happened on 20") {
					t.Errorf("it is not said that %s is skipped:\n%s", id, out.String())
				}
			}
		}
	}
	if err := s.stop(); err != nil {
		t.Error(err)
	}
}
