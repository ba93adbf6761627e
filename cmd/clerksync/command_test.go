package main

import (
	"bytes"
	"context"
	"log/slog"
	"maps"
	"strings"
	"testing"

	"clerksync/config"
	"clerksync/inbox"
	"clerksync/internal/testenv"
	"clerksync/store/database"
	"clerksync/store/embedded"

	"github.com/prometheus/client_golang/prometheus"
)

// good are settings with which 'serve' starts.
func good(t *testing.T) map[string]string {
	t.Helper()
	return map[string]string{
		"HOST": "127.0.0.1", "PORT": "0", "EMBEDDED_PORT": "0", "CLERK_WEBHOOK_SIGNING_SECRET": testenv.Secret,
		// nobody: not the dev server of who runs the tests
		"MONGODB_URI": config.EmbeddedPrefix + t.TempDir(), "INNGEST_DEV": "http://127.0.0.1:1",
	}
}

func environ(settings map[string]string) []string {
	var e []string
	for k, v := range settings {
		e = append(e, k+"="+v)
	}
	return e
}

// with returns settings with some of them set otherwise.
func with(settings, set map[string]string) map[string]string {
	all := maps.Clone(settings)
	maps.Copy(all, set)
	return all
}

// command runs a command to its end, and returns what it has printed and logged.
func command(t *testing.T, settings map[string]string, args ...string) (out, log string, err error) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	err = run(t.Context(), args, environ(settings), &stdout, &stderr)
	return stdout.String(), stderr.String(), err
}

// says tells whether an error has the text, or, if the text is "", whether there is none.
func says(err error, text string) bool {
	return (err == nil) == (text == "") && (err == nil || strings.Contains(err.Error(), text))
}

// withRunningDatabase calls do with the embedded database of a service that runs with these settings.
func withRunningDatabase(t *testing.T, settings map[string]string, do func(context.Context, *database.DB)) {
	t.Helper()
	uri, err := embedded.Running(strings.TrimPrefix(settings["MONGODB_URI"], config.EmbeddedPrefix))
	if err != nil {
		t.Fatal(err)
	}
	db, err := database.Connect(t.Context(), uri, "clerksync")
	if err != nil {
		t.Fatal(err)
	}
	do(t.Context(), db)
	if err := db.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// newInbox returns the inbox in a database, to put dead letters there.
func newInbox(db *database.DB) *inbox.Inbox {
	return inbox.New(inbox.Options{DB: db, Log: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
}
