package main

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"clerksync/inbox"
	"clerksync/store"

	"github.com/prometheus/client_golang/prometheus"
)

// TestReplayOfMailPerhapsSent: nothing but a person sends a mail again that was perhaps sent, and he is told.
func TestReplayOfMailPerhapsSent(t *testing.T) {
	t.Parallel()
	settings := good(t)
	cfg, err := readConfig(environ(settings))
	if err != nil {
		t.Fatal(err)
	}
	db, err := openDatabase(t.Context(), cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	box := inbox.New(inbox.Options{DB: db.DB, Log: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	mails := store.NewWelcomes(db.DB)
	for user, perhaps := range map[string]bool{"a": true, "b": false, "c": true} {
		id := "msg_" + user + ":send-welcome-email"
		e := inbox.Event{ID: id, Name: "clerksync/replay.send-welcome-email", Data: json.RawMessage(`{"id":"user_` + user + `","object":"user"}`), TS: 1767603600018}
		claim, err := mails.Claim(t.Context(), "user_"+user, "run")
		if err == nil && perhaps {
			err = mails.Sending(t.Context(), claim)
		}
		if err == nil {
			err = box.Fail(t.Context(), e, inbox.Failure{Function: "clerksync-send-welcome-email"})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	old := map[string]any{"$set": map[string]any{"claimed_at": time.Now().Add(-store.ClaimLease)}} // the runs are long over
	for _, user := range []string{"user_a", "user_b", "user_c"} {
		if _, err := db.Collection("clerksync_welcome_mails").UpdateByID(t.Context(), user, old); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.close(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct{ args, want string }{
		{"replay msg_a:send-welcome-email", "msg_a:send-welcome-email will be sent again: the mail was perhaps sent before, so the user may get two\n"},
		{"replay --all", "2 will be sent again\nmails among them that were perhaps sent before, so that the user may get two: 1\n"},
	} {
		var out bytes.Buffer
		if err := run(t.Context(), append([]string{"deadletters"}, strings.Fields(step.args)...), environ(settings), &out, io.Discard); err != nil {
			t.Error(err)
		}
		if out.String() != step.want {
			t.Errorf("%s: printed %q, want %q", step.args, out.String(), step.want)
		}
	}
	if db, err = openDatabase(t.Context(), cfg, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{"user_a", "user_b", "user_c"} {
		if claim, err := store.NewWelcomes(db.DB).Claim(t.Context(), user, "another run"); claim.State != store.Won || err != nil {
			t.Errorf("the replay of the mail of %s finds %q, %v, want to send it", user, claim.State, err)
		}
	}
	if err := db.close(t.Context()); err != nil {
		t.Error(err)
	}
}
