package app_test

import (
	"log/slog"
	"strings"
	"testing"

	"clerksync/app"
	"clerksync/config"
	"clerksync/internal/testenv"
)

// TestDatabaseErrors: a database that cannot be opened is said with its cause and the setting to change, and without
// anything of the setting.
func TestDatabaseErrors(t *testing.T) {
	t.Parallel()
	refusing := testenv.NewMemory().Listen(t, func(command string) int32 {
		if command == "saslStart" {
			return 18
		}
		return 0
	})
	for name, tc := range map[string]struct{ uri, want string }{
		"a wrong password": {
			strings.Replace(refusing, "mongodb://", "mongodb://app:hunter2@", 1),
			"the user name or the password in MONGODB_URI is not accepted: check both",
		},
		"no folder":              {"embedded:/none/hunter2", "set MONGODB_URI to embedded:DIR with the service"},
		"a file for a folder":    {"embedded:/dev/null", "set MONGODB_URI to embedded:DIR with a folder"},
		"where nobody may write": {"embedded:/sys", "set MONGODB_URI to embedded:DIR with a folder that"},
	} {
		db, err := app.OpenBeside(t.Context(), config.Config{MongoURI: tc.uri}, slog.New(slog.DiscardHandler))
		if err == nil {
			t.Errorf("%s: it opens: %v", name, db.Close(t.Context()))
			continue
		}
		if got := err.Error(); !strings.Contains(got, tc.want) || strings.Contains(got, "app:hunter2") {
			t.Errorf("%s: got %q, want %q", name, got, tc.want)
		}
	}
}
