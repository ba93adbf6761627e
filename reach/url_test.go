package reach_test

import (
	"strings"
	"testing"

	"clerksync/reach"
)

// TestUnescaped: of a URL that cannot be read, the characters that the reader has to escape are named with what to
// write, and neither the password nor anything else of the URL.
func TestUnescaped(t *testing.T) {
	t.Parallel()
	for uri, want := range map[string]string{
		"mongodb://app:hun@ter2@db.example/app": "has a password in which '@' must be written %40",
		"mongodb://app:hun:ter2@db.example/app": "has a password in which ':' must be written %3A",
		"mongodb://app:hun/ter2@db.example/app": "has a password in which '/' must be written %2F",
		"mongodb://app:hun%ter2@db.example/app": "has a password in which '%' must be written %25",
		"mongodb://app:hunter2%@db.example/app": "has a password in which '%' must be written %25",
		"smtp://app:hun#ter2@mail.example":      "has a password in which '#' must be written %23",
		"smtp://app:hun?ter2@mail.example:587":  "has a password in which '?' must be written %3F",
		"smtp://app:hun ter2@mail.example:587":  "has a password in which ' ' must be written %20",
		"smtp://app:25/hunter2@mail.example":    "has a password in which '/' must be written %2F",
		"mongodb+srv://app:h@u/nter2@c.example": "has a password in which '@' must be written %40, " +
			"and '/' must be written %2F",
		"mongodb://me@app.example:hunter2@db/app":    "has a user name in which '@' must be written %40",
		"mongodb://a/b:hunter2@db.example":           "has a user name in which '/' must be written %2F",
		"mongodb://db:27017/?appName=hunter2@app":    "has an '@' after the host: write it %40",
		"mongodb://db/app?appName=hunter2@app":       "has an '@' after the host: write it %40",
		"mongodb://app:hunt%40er2@db.example/app":    "",
		"mongodb://app:hunter2@db.example:port/app":  "",
		"mongodb://db.example:27017/app?hunter2=yes": "",
		"hunter2@db.example":                         "",
		"":                                           "",
	} {
		got := reach.Unescaped(uri)
		if got != want || strings.Contains(got, "ter2") {
			t.Errorf("%s: got %q, want %q", uri, got, want)
		}
	}
}

func TestPlaceholder(t *testing.T) {
	t.Parallel()
	for uri, want := range map[string]bool{
		"mongodb+srv://<db_username>:<db_password>@c.example/": true,
		"mongodb+srv://app:<password>@c.example/":              true,
		"mongodb+srv://app:<PASSWORD>@c.example/":              true,
		"mongodb+srv://app:hunter2@c.example/?x=<password>":    false,
		"mongodb://c.example/<password>":                       false,
		"mongodb+srv://app:hunter2@c.example/":                 false,
	} {
		if got := reach.Placeholder(uri); got != want {
			t.Errorf("%s: got %t, want %t", uri, got, want)
		}
	}
}
