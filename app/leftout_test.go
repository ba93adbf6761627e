//go:build noembedded

package app_test

import (
	"log/slog"
	"testing"

	"clerksync/app"
	"clerksync/config"
)

// TestLeftOut: a build without the embedded database says so, and what to do.
func TestLeftOut(t *testing.T) {
	t.Parallel()
	_, err := app.OpenDatabase(t.Context(), config.Config{MongoURI: "embedded:" + t.TempDir()},
		slog.New(slog.DiscardHandler))
	want := "this build has no embedded database: set MONGODB_URI to mongodb://…, or build without -tags noembedded"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
